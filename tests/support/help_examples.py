"""The examples in the help texts of `dockhand`, and a folder in which a shell runs them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from command_line import CommandLine
from dockhand_cli.main import root_command
from typer.core import TyperGroup

__all__ = ["PLUGIN_COMMANDS", "all_commands", "examples_of", "shell_environment"]

# The commands that packages of this repository add, with the package.
PLUGIN_COMMANDS = {"new-plugin": "dockhand_testing", "zot": "dockhand_zot"}


def all_commands() -> dict[str, Any]:
    """Find all commands that are no groups, by their words, such as `blob get`."""
    root = root_command()
    found: dict[str, Any] = {}
    for name in root.commands:
        command = root.commands[name]
        if hasattr(command, "imported"):  # a plugin's; others may be installed
            if name not in PLUGIN_COMMANDS:
                continue
            command = command.imported()
        found |= dict(_leaves(command, (name,)))
    return found


def _leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from _leaves(each, (*words, name))
    else:
        yield " ".join(words), command


def examples_of(command: Any) -> list[str]:
    """The command lines at the end of a command's help text."""
    first, *lines = (command.epilog or "").split("\n\n")
    return lines if first == "Examples:" else []


def shell_environment(dockhand: CommandLine) -> dict[str, str]:
    """The environment of a shell, in which `dockhand` is the command of this checkout."""
    folder = dockhand.folder / ".bin"
    folder.mkdir(exist_ok=True)
    program = folder / "dockhand"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dockhand_cli "$@"\n')
    program.chmod(0o755)
    return {
        **dockhand.environment,
        "PATH": os.pathsep.join(
            (str(folder), str(Path(sys.executable).parent), os.environ["PATH"])
        ),
    }
