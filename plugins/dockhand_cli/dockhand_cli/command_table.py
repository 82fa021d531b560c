"""The commands of `dockhand`: its own, and those of plugins. A command is imported when used."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from dockhand_cli.common_options import add_common_options
from dockhand_cli.help_texts import tidy_help

if TYPE_CHECKING:
    from dockhand_core import Plugins

__all__ = ["OWN_COMMANDS", "OWN_NAMES", "CommandTable"]

# The panels of `dockhand --help`, each with its commands. Command `a-b` is the typer application
# `app` of the module `dockhand_cli.commands.a_b`.
OWN_COMMANDS = {
    "Look": ("ls", "tags", "inspect", "referrers", "du"),
    "Move": ("cp", "pull", "push", "tag", "index"),
    "Files, blobs and manifests": ("artifact", "blob", "manifest"),
    "Delete": ("rm", "prune"),
    "Log in": ("login", "logout", "token"),
    "Serve": ("serve", "events", "keys", "notify-token"),
    "Set up": ("connections", "plugins", "ping", "version"),
}
_PANEL_OF = {name: panel for panel, names in OWN_COMMANDS.items() for name in names}
OWN_NAMES = frozenset(_PANEL_OF)
_PLUGINS = "Commands of plugins"


class CommandTable(MutableMapping[str, Any]):
    """A mapping of command name to command, which is made when it is first read.

    A command of a plugin takes its help line from the package's summary: the command itself is
    imported when it is called.
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._plugins: Plugins | None = None

    @property
    def plugins(self) -> Plugins:
        """The installed plugins, which are loaded on first use."""
        if self._plugins is None:
            from dockhand_core import Plugins

            self._plugins = Plugins()
        return self._plugins

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            if name in _PANEL_OF:
                module = importlib.import_module(f"dockhand_cli.commands.{name.replace('-', '_')}")
                self._made[name] = _command(module.app, name, _PANEL_OF[name])
            elif name in self.plugins.commands():
                self._made[name] = PluginCommand(name, self.plugins)
            else:
                raise KeyError(name)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        yield from _PANEL_OF
        yield from sorted(self.plugins.commands().keys() - _PANEL_OF.keys())

    def __len__(self) -> int:
        return sum(1 for _ in self)


class PluginCommand(TyperGroup):
    """A plugin's command, which is imported when it is called.

    Args:
        name: the command's name.
        plugins: the installed plugins.
    """

    def __init__(self, name: str, plugins: Plugins) -> None:
        packages = [provided.plugin.package for provided in plugins.commands()[name]]
        super().__init__(name=name, help=_summary(packages), rich_help_panel=_PLUGINS)
        self._plugins = plugins

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Import the command, and parse its arguments.

        Raises:
            PluginError: the command cannot be imported, or two packages provide it.
        """
        return self.imported().make_context(info_name, args, parent, **extra)

    def imported(self) -> Any:
        """Import the command.

        Raises:
            PluginError: the command cannot be imported, or two packages provide it.
        """
        assert self.name is not None
        return _command(self._plugins.command(self.name), self.name, _PLUGINS)


def _command(app: typer.Typer, name: str, panel: str) -> Any:
    """Make the command of a typer application, with the options of every command."""
    command: Any = get_command(app)
    command.name, command.rich_help_panel = name, panel
    add_common_options(command)
    tidy_help(command)
    return command


def _summary(packages: list[str]) -> str:
    """The help line of a plugin's command: its package's summary."""
    from importlib import metadata

    if len(packages) > 1:
        return f"Provided by {' and '.join(packages)}, of which only one can be installed."
    try:
        summary = metadata.metadata(packages[0])["Summary"] or packages[0]
        return summary.replace("[", "\\[")  # rich would read it as markup
    except metadata.PackageNotFoundError:  # registered by a program, not installed
        return f"Commands of {packages[0]}"
