"""The command `dockhand new-plugin`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer
from dockhand_cli import session_of
from dockhand_cli.exit_codes import UsageError
from dockhand_cli.help_texts import examples

if TYPE_CHECKING:
    from dockhand_testing.plugin_names import PluginNames

__all__ = ["Kind", "NewPlugin", "app"]

app = typer.Typer()

_DRIVERS = {"auth": "auth", "registry": "registry", "logger": "log"}  # kinds of drivers


class Kind(StrEnum):
    """The kinds of plugins."""

    auth = "auth"
    registry = "registry"
    events = "events"
    logger = "logger"
    commands = "commands"


class NewPlugin(TypedDict):
    """The document of `dockhand new-plugin --json`.

    Attributes:
        kind: the kind of plugin.
        package: name of the import package.
        distribution: name of the distribution, which pip installs.
        folder: the absolute path of the new folder.
        files: paths of the files in the folder.
    """

    kind: str
    name: str
    package: str
    distribution: str
    folder: str
    files: list[str]


@app.command(
    epilog=examples(
        "dockhand new-plugin auth my-vault",
        "dockhand new-plugin registry my-harbor --output harbor --author 'Alice Smith'",
        "dockhand new-plugin events my-quay --description 'Notifications of Quay'",
    )
)
def new_plugin(
    context: typer.Context,
    kind: Annotated[
        Kind,
        typer.Argument(
            help="auth: an auth driver; registry: a registry driver with operations of its own; "
            "events: a parser of notifications and a handler; logger: a log driver; commands: "
            "commands of dockhand"
        ),
    ],
    name: Annotated[
        str,
        typer.Argument(help="name of the driver or command; the package is dockhand-NAME"),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="the new folder; ./dockhand-NAME unless given",
            show_default=False,
        ),
    ] = None,
    description: Annotated[
        str | None, typer.Option(help="the package in one line, for its README and metadata")
    ] = None,
    author: Annotated[
        str | None, typer.Option(help="the author, for the licence and the metadata")
    ] = None,
) -> None:
    """Start the package of a plugin, with its driver or handler, tests, README and CI file.

    The new package is complete: it can be installed, and its tests pass. Its code is an example,
    to be replaced step by step.
    """
    from dockhand_testing.package_templates import render_package, write_package
    from dockhand_testing.plugin_names import PluginNames

    printer = session_of(context).output
    try:
        names = PluginNames.of(name)
    except ValueError as error:
        raise UsageError(str(error)) from None
    for warning in _conflicts(kind.value, names):
        printer.warning(warning)
    files = render_package(
        kind.value,
        names,
        description=_one_line("--description", description, _DESCRIPTIONS[kind.value], names),
        author=_one_line("--author", author, "the authors of {distribution}", names),
    )
    folder = Path(names.distribution) if output is None else output
    try:
        write_package(folder.absolute(), files)
    except FileExistsError as error:
        raise UsageError(f"{error}; choose another one with --output") from None
    if printer.as_json:
        printer.document(
            NewPlugin(
                kind=kind.value,
                name=names.name,
                package=names.package,
                distribution=names.distribution,
                folder=str(folder.absolute()),
                files=list(files),
            )
        )
        return
    for line in _next_steps(folder, files):
        printer.text(line)


_DESCRIPTIONS = {
    "auth": "Auth driver {name} for Dockhand",
    "registry": "Registry driver {name} for Dockhand",
    "events": "Notifications of {name} for Dockhand",
    "logger": "Log driver {name} for Dockhand",
    "commands": "The command dockhand {name}",
}


def _one_line(option: str, given: str | None, default: str, names: PluginNames) -> str:
    """The value of an option, or its default.

    Raises:
        UsageError: the value is empty, or has line breaks or other control characters.
    """
    if given is None:
        return default.format(name=names.name, distribution=names.distribution)
    if not given.strip() or not given.isprintable():
        raise UsageError(f"{option} must be one line of text")
    return given.strip()


def _conflicts(kind: str, names: PluginNames) -> list[str]:
    """Warnings about names that installed packages use already.

    Raises:
        UsageError: the name is that of a command of dockhand itself.
    """
    from dockhand_cli.command_table import OWN_COMMANDS

    from dockhand_core import Plugins

    name, plugins = names.name, Plugins()
    if kind == "commands":
        if any(name in own for own in OWN_COMMANDS.values()):
            raise UsageError(f"dockhand has a command {name} already; choose another name")
        taken = name in plugins.commands()
    else:
        taken = kind in _DRIVERS and name in plugins.names(_DRIVERS[kind])
    if not taken:
        return []
    what = "command" if kind == "commands" else f"{_DRIVERS[kind]} driver"
    text = f"an installed package has the {what} {name} already; unless it is this package, "
    return [text + "the two cannot be used together"]


def _next_steps(folder: Path, files: dict[str, str]) -> list[str]:
    import shlex

    return [
        f"{folder} has {len(files)} files; its README says what to change. Next:",
        f"  cd {shlex.quote(str(folder))}",
        "  python -m pip install -e '.[test]'",
        "  python -m pytest",
    ]
