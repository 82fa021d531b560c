"""Values that a shell completes: connections, repositories and tags."""

from __future__ import annotations

import typer

__all__ = [
    "complete_connection",
    "complete_image",
    "complete_platform",
    "complete_repository",
]

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
    from dockhand_cli.session import session_of

    try:
        names = session_of(context).dockhand.connections
    except Exception:  # a wrong configuration must not break the shell's line
        return []
    return [name for name in names if name.startswith(incomplete)]


def complete_repository(context: typer.Context, incomplete: str) -> list[str]:
    """The repositories that begin with the text."""
    return []


def complete_image(context: typer.Context, incomplete: str) -> list[str]:
    """The repositories and tags that begin with the text."""
    return []
