"""Programs: commands that `python -m PACKAGE` and the command `dockhand` run with the same options.

A package defines each of its programs once, in a module `programs` that imports only what the
options need. So a parser can be built for a help text, or for the completion of a shell, without
loading the modules that do the work.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from dockhand_core.text import printable_lines

__all__ = ["Program", "ProgramFailed", "fail"]


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program with its options, and the function that runs it.

    Attributes:
        help: one line for a list of commands.
        description: text of the program's help, above the options.
        epilog: text of the program's help, below the options.
        example: arguments of an example, for the program's help.
        add_options: adds the options to a parser. The second argument says whether the program is a
            command of a parser that has its common options, too: then those options have the
            default `argparse.SUPPRESS`, so that a value given before the command stays.
        run: where to import the function from that runs the program, as `module:function`. Its
            argument is the parsed options.
    """

    help: str
    description: str
    example: str
    add_options: Callable[[argparse.ArgumentParser, bool], None]
    run: str
    epilog: str = ""

    def parser(self, prog: str) -> argparse.ArgumentParser:
        """Build the program's parser.

        Args:
            prog: the words that start the program, for the help: `python -m dockhand_embedded`.
        """
        parser = argparse.ArgumentParser(
            prog=prog, description=self.description, epilog=self._epilog(prog)
        )
        self.add_options(parser, False)
        return parser

    def add_to(self, commands: Any, name: str) -> None:
        """Add the program as a command of another program.

        `parse_args` then puts the program into the attribute `program` of the options.

        Args:
            commands: the result of `add_subparsers` of the other program's parser.
            name: name of the command.
        """
        parser = commands.add_parser(name, help=self.help, description=self.description)
        parser.epilog = self._epilog(parser.prog)
        self.add_options(parser, True)
        parser.set_defaults(program=self)

    def _epilog(self, prog: str) -> str:
        example = f"{prog} {self.example}".rstrip()
        return f"{self.epilog} Example: {example}".lstrip()

    def main(self, prog: str, arguments: Sequence[str] | None = None) -> None:
        """Parse a command line, and run the program.

        Args:
            prog: as in `parser`.
            arguments: the arguments; by default those of the process.
        """
        self.execute(self.parser(prog).parse_args(arguments))

    def execute(self, options: argparse.Namespace) -> None:
        """Run the program with parsed options, with logging, and errors as messages."""
        from dockhand_core.server.run import program

        with program(verbose=getattr(options, "verbose", False)):
            self.call(options)

    def call(self, options: argparse.Namespace) -> None:
        """Run the program with parsed options.

        Raises:
            ProgramFailed: the program ended with a message.
            DockhandError: the program failed.
        """
        module, _, function = self.run.partition(":")
        getattr(importlib.import_module(module), function)(options)


class ProgramFailed(SystemExit):
    """The end of a program with a message, and with an exit status other than Python's 1.

    Args:
        message: the message, without characters that could control a terminal.
        status: the exit status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message, self.status = message, status


def fail(message: str, status: int = 1) -> NoReturn:
    """End the program with a message on standard error.

    Args:
        message: the message; characters that could control a terminal are escaped.
        status: the exit status: 1 failed, 2 wrong usage or configuration, 3 not found.

    Raises:
        ProgramFailed: always.
    """
    raise ProgramFailed(printable_lines(message), status)
