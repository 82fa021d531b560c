"""The options of every command, accepted before and after the command's name."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from dockhand_cli.completion import complete_connection
from dockhand_cli.session import session_of

__all__ = ["add_common_options", "common_options"]

_PANEL = "Options of every command"
_PREFIX = "common "  # no parameter of a command has such a name, as `connection` of `dockhand ls`
_COMPLETION = ("install_completion", "show_completion")
_options = typer.Typer(add_completion=False)


@_options.command()
def _declare(
    connection: Annotated[
        str | None,
        typer.Option(
            "--connection",
            "-c",
            metavar="NAME",
            help="the configured connection of bare repositories",
            autocompletion=complete_connection,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="the configuration file, instead of ./dockhand.toml",
            dir_okay=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="write results as JSON")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="show no progress and no messages but errors")
    ] = False,
    verbosity: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            help="log requests on standard error; -vv in full",
        ),
    ] = 0,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
) -> None:
    """Declare the options; the command itself is never run."""


def _store(context: Any, option: Any, value: Any) -> Any:
    """Store a value that was given. A default does not replace a value given before the command.

    The context and the option are of classes that typer does not export.
    """
    given = context.get_parameter_source(option.name)
    if given is not None and given.name == "COMMANDLINE":
        setattr(session_of(context).options, option.name.removeprefix(_PREFIX), value)
    return value


@functools.cache
def common_options() -> tuple[TyperOption, ...]:
    """The options, which store their values in the session; all commands share them."""
    options = [each for each in get_command(_options).params if isinstance(each, TyperOption)]
    for option in options:
        option.name = f"{_PREFIX}{option.name}"
        option.rich_help_panel = _PANEL
        option.expose_value = False
        option.callback = _store
    return tuple(options)


def add_common_options(command: Any) -> None:
    """Add the options to a command, or to all commands of a group.

    An option of the command itself that has the same name takes precedence. The options that
    install completion are removed: they belong to `dockhand` itself.

    Args:
        command: a command that typer made.
    """
    command.params = [each for each in command.params if each.name not in _COMPLETION]
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            add_common_options(each)
    else:
        taken = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        command.params += [option for option in common_options() if not taken & set(option.opts)]
