"""Parts of help texts."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup, TyperOption

__all__ = ["examples", "tidy_help"]


def examples(*lines: str) -> str:
    """The examples at the end of a command's help, each a whole command line.

    A test runs the command lines, and the pages of the documentation show them.
    """
    return "\n\n".join(("Examples:", *lines))


def tidy_help(command: Any) -> None:
    """Let the help of a command show flags without a value, and arguments in capitals.

    Typer would show `--json <bool>`, as if the flag took a value, and break the lines of the help
    text where the source has line breaks.

    Args:
        command: a command that typer made; the commands of a group are changed, too.
    """
    if command.help:
        command.help = "\n\n".join(
            " ".join(paragraph.split("\n")) if paragraph[:1].isalnum() else paragraph
            for paragraph in command.help.split("\n\n")
        )
    context = typer.Context(command, help_option_names=["-h", "--help"])
    help_option = command.get_help_option(context)  # made once; typer keeps it
    if help_option is not None:
        help_option.metavar, help_option.help = "", "show this help text"
    for param in command.params:
        if isinstance(param, TyperOption):
            if param.is_flag or param.count:
                param.metavar = ""
        elif param.metavar is None:
            param.metavar = param.name.upper()
    if isinstance(command, TyperGroup) and isinstance(command.commands, dict):
        for each in command.commands.values():
            tidy_help(each)
