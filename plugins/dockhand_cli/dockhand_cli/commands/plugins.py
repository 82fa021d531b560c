"""The command `dockhand plugins`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from dockhand_cli.command_table import OWN_NAMES
from dockhand_cli.exit_codes import CommandFailed
from dockhand_cli.help_texts import examples
from dockhand_cli.session import session_of

if TYPE_CHECKING:
    from rich.tree import Tree

    from dockhand_core import PluginInfo

app = typer.Typer()


class PluginLine(TypedDict):
    """A plugin.

    Attributes:
        package: the package that has the plugin.
        version: version of the package, or null.
        drivers: names of the drivers by their kind: `registry`, `auth` or `log`.
        hooks: names of the hooks that the plugin implements.
        commands: names of the commands that it adds to `dockhand`.
        handlers: the event handlers, as `<plugin>/<hook>`.
        parsers: names of the classes of the event parsers.
        error: reason for which the plugin does not work, or null.
    """

    name: str
    package: str
    version: str | None
    drivers: dict[str, list[str]]
    hooks: list[str]
    commands: list[str]
    handlers: list[str]
    parsers: list[str]
    error: str | None


class PluginList(TypedDict):
    """The document of `dockhand plugins --json`.

    Attributes:
        plugins: the installed plugins.
    """

    plugins: list[PluginLine]


@app.command(epilog=examples("dockhand plugins", "dockhand plugins --check"))
def plugins(
    context: typer.Context,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="import all drivers and commands, check the settings of plugins, and fail if a "
            "plugin is broken",
        ),
    ] = False,
) -> None:
    """Show the installed plugins, with their drivers, hooks, commands and errors.

    Drivers and commands are imported when they are used, and plugins get their settings when a
    program uses them, so that some errors are only found with --check. It ends with exit status 1
    if a plugin is broken, and with 2 if its settings are wrong. Use it in CI.

    In a pipe, each plugin is a line with tabs between name, package, version, drivers such as
    auth:basic, hooks, commands, handlers, and the error.
    """
    from dockhand_core import Dockhand, Plugins
    from dockhand_core.config import load_tables

    session = session_of(context)
    output = session.output
    logging.getLogger("dockhand.plugins").setLevel(logging.ERROR)  # the errors are shown below
    if check:
        installed = Dockhand(load_tables(session.options.config).config).plugins
        installed.check()
        installed.import_drivers()
        installed.import_commands()
    else:
        installed = Plugins()
    lines = [
        _line(info, installed.conflict_of(info))
        for info in sorted(installed, key=lambda info: (info.name, info.package))
    ]
    for line in lines:
        hidden = sorted(set(line["commands"]) & OWN_NAMES)
        if hidden:
            output.warning(
                f"{line['package']}: its {' and '.join(hidden)} cannot be called: dockhand has "
                "commands of these names"
            )
    if output.as_json:
        output.document(PluginList(plugins=lines))
    elif output.is_terminal:
        for line in lines:
            output.render(_tree(line))
    else:
        output.table((), map(_row, lines))
    broken = [line["name"] for line in lines if line["error"]]
    if check and broken:
        raise CommandFailed(f"{len(broken)} of {len(lines)} plugins broken: {', '.join(broken)}")


def _line(info: PluginInfo, conflict: str | None) -> PluginLine:
    return PluginLine(
        name=info.name,
        package=info.package,
        version=info.version,
        drivers={kind: list(names) for kind, names in info.provides.items()},
        hooks=list(info.hooks),
        commands=list(info.commands),
        handlers=list(info.handlers),
        parsers=list(info.parsers),
        error=info.error or conflict,
    )


def _row(line: PluginLine) -> tuple[str | None, ...]:
    """A plugin as a line of a pipe: names of drivers have their kind, as in `auth:basic`."""
    drivers = [f"{kind}:{name}" for kind, names in line["drivers"].items() for name in names]
    several = (drivers, line["hooks"], line["commands"], line["handlers"])
    return line["name"], line["package"], line["version"], *map(",".join, several), line["error"]


def _tree(line: PluginLine) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    from dockhand_core.text import printable

    version = f" {line['version']}" if line["version"] else ""
    tree = Tree(
        Text.assemble(
            (printable(line["name"]), "bold"), f"  {printable(line['package'] + version)}"
        )
    )
    parts = {f"{kind} drivers": names for kind, names in line["drivers"].items()}
    parts |= {each: line[each] for each in ("commands", "handlers", "parsers", "hooks")}
    for title, names in parts.items():
        if names:
            text = f" {printable(', '.join(names))}"
            tree.add(Text.assemble((f"{title}:", "dim"), text))
    if line["error"]:
        tree.add(Text(f"error: {printable(line['error'])}", style="red"))
    return tree
