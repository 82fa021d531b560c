"""The command `dockhand version`."""

from __future__ import annotations

from typing import TypedDict

import typer

from dockhand_cli.help_texts import examples
from dockhand_cli.session import session_of

app = typer.Typer()


class Versions(TypedDict):
    """The document of `dockhand version --json`.

    Attributes:
        python: version of Python.
        packages: versions of Dockhand's packages and of the packages with plugins, by name.
    """

    python: str
    packages: dict[str, str]


@app.command(epilog=examples("dockhand version", "dockhand version --json"))
def version(context: typer.Context) -> None:
    """Show the versions of Dockhand's packages, of the plugins and of Python."""
    import platform
    from importlib import metadata

    output = session_of(context).output
    packages = {name: metadata.version(name) for name in ("dockhand-core", "dockhand-cli")}
    for point in metadata.entry_points(group="dockhand"):
        if point.dist is not None:
            packages[point.dist.name] = point.dist.version
    if output.as_json:
        output.document(Versions(python=platform.python_version(), packages=packages))
        return
    rows = [*sorted(packages.items()), ("python", platform.python_version())]
    output.table(("PACKAGE", "VERSION"), rows)
