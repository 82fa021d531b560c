"""Arguments and options that several commands have, and the parsing of their values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dockhand_cli.completion import complete_connection, complete_image, complete_repository
from dockhand_cli.exit_codes import UsageError

__all__ = [
    "REPOSITORY_HELP",
    "AnnotationOption",
    "ConnectionArgument",
    "HostArgument",
    "ImageArgument",
    "OutputFile",
    "RepositoryArgument",
    "annotations_of",
    "platforms_of",
]

REPOSITORY_HELP = "the repository: HOST/REPOSITORY or @CONNECTION/REPOSITORY"

ImageArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="the image: HOST/REPOSITORY:TAG, @CONNECTION/REPOSITORY:TAG, or with @DIGEST",
        autocompletion=complete_image,
    ),
]
RepositoryArgument: TypeAlias = Annotated[
    str,
    typer.Argument(help=REPOSITORY_HELP, autocompletion=complete_repository),
]
ConnectionArgument: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        help="a connection or a host; by default the default connection",
        autocompletion=complete_connection,
    ),
]
HostArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="the registry's host, with a port if it has one; docker.io is Docker Hub",
    ),
]
AnnotationOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="an annotation; can be repeated"),
]

OutputFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        allow_dash=True,
        help="the file to write; by default standard output",
    ),
]


def annotations_of(values: Iterable[str]) -> dict[str, str]:
    """Parse the values of the option `--annotation`.

    Raises:
        UsageError: a value is not `KEY=VALUE`, or two have the same key.
    """
    found: dict[str, str] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not key or not equals:
            raise UsageError(f"--annotation {value}: KEY=VALUE is expected")
        if key in found:
            raise UsageError(f"--annotation {value}: the key {key} is given twice")
        found[key] = text
    return found


def platforms_of(values: Iterable[str]) -> list[str] | None:
    """Split the values of the option `--platforms` at commas; None if it is not given.

    Raises:
        UsageError: the option is given, but empty, such as by a variable of a script that is not
            set: all platforms would be transferred.
    """
    given = list(values)
    platforms = [each.strip() for value in given for each in value.split(",") if each.strip()]
    if given and not platforms:
        raise UsageError("--platforms is empty; name platforms, such as linux/amd64,linux/arm64")
    return platforms or None
