"""Values that a shell completes: connections, repositories, tags and platforms.

A registry is asked with a short timeout, without retries, and for one page of a list. If anything
fails, the shell gets no values and no error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from dockhand_core.config import DockhandConfig

__all__ = [
    "complete_connection",
    "complete_image",
    "complete_platform",
    "complete_repository",
]

# zsh evaluates values as shell code, so those with other characters are left out
_SAFE = re.compile(r"[A-Za-z0-9@:./_\[\]-]+")
_PLATFORMS = (
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/386",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
    "windows/amd64",
)


def complete_platform(incomplete: str) -> list[str]:
    """The usual platforms that begin with the text."""
    return [platform for platform in _PLATFORMS if platform.startswith(incomplete)]


def complete_connection(context: typer.Context, incomplete: str) -> list[str]:
    """The names of configured connections that begin with the text."""
    config = _config(context)
    if config is None:
        return []
    at = "@" if incomplete.startswith("@") else ""
    return _safe((f"{at}{name}" for name in config.connections), incomplete)


def complete_repository(context: typer.Context, incomplete: str) -> list[str]:
    """The repositories that begin with the text.

    Connections and hosts are completed first. If only one of them begins with the text, its
    repositories are listed at once: a shell writes a space after the only value that is left.
    """
    return _complete(context, incomplete, tags=False)


def complete_image(context: typer.Context, incomplete: str) -> list[str]:
    """The repositories that begin with the text, or the tags of the only one that does."""
    return _complete(context, incomplete, tags=True)


def _complete(context: typer.Context, incomplete: str, *, tags: bool) -> list[str]:
    from dockhand_cli.session import is_file, session_of

    config = _config(context)
    if config is None or is_file(incomplete):
        return []
    from dockhand_cli.registry_names import RegistryNames
    from dockhand_core import DockhandError

    names = RegistryNames(config, session_of(context).options.connection)
    try:
        return _safe(names.complete(incomplete, tags=tags), incomplete)
    except DockhandError:  # a text that is no reference, or a connection that cannot be made
        return []


def _config(context: typer.Context) -> DockhandConfig | None:
    """The configuration without the connections that are wrong; None if it cannot be read."""
    from dockhand_cli.session import session_of
    from dockhand_core import DockhandError
    from dockhand_core.config import load_tables

    try:
        return load_tables(session_of(context).options.config).config
    except DockhandError:
        return None


def _safe(values: Iterable[str], incomplete: str) -> list[str]:
    return [value for value in values if value.startswith(incomplete) and _SAFE.fullmatch(value)]
