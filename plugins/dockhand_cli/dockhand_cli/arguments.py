"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from dockhand_cli.completion import complete_connection, complete_image, complete_repository

__all__ = [
    "REPOSITORY_HELP",
    "AnnotationOption",
    "ConnectionArgument",
    "HostArgument",
    "ImageArgument",
    "RepositoryArgument",
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
