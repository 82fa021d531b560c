"""The program `dockhand`: it parses the command line, runs a command, and reports its error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from dockhand_cli import exit_codes
from dockhand_cli.__main__ import version_line
from dockhand_cli.command_table import CommandTable
from dockhand_cli.common_options import common_options
from dockhand_cli.help_texts import tidy_help
from dockhand_cli.interrupts import handle_signals, received_signal
from dockhand_cli.session import Session
from dockhand_cli.shell_words import answer_shell, asked_by_shell
from dockhand_core.text import printable

__all__ = ["main", "root_command", "run_command_line"]


class _Ended(Exception):
    """Carries an exception past typer, which would end the program with a status of its own.

    Attributes:
        cause: a `BrokenPipeError` or a `KeyboardInterrupt`.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


class _RootGroup(TyperGroup):
    """The command `dockhand`, which leaves closed pipes, Ctrl-C and SIGTERM to `main`."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command of the command line."""
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, KeyboardInterrupt) as error:
            raise _Ended(error) from None


_app = typer.Typer(
    name="dockhand",
    cls=_RootGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="An IMAGE is a reference such as registry.example.com/app:v1, or "
    "@CONNECTION/REPOSITORY[:TAG] for a connection of dockhand.toml. Exit status: 0 success, "
    "1 failed, 2 wrong usage or configuration, 3 not found, 4 not allowed, 5 not reachable.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version_line())
        raise typer.Exit


@_app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="show the version"),
    ] = False,
) -> None:
    """Look at, copy, push, clean and serve container registries."""


def root_command() -> Any:
    """Make the command `dockhand`, with all of its commands."""
    command: Any = get_command(_app)
    command.commands = CommandTable()
    command.params += common_options()
    tidy_help(command)
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, and return the exit status.

    Args:
        arguments: the arguments after `dockhand`; by default those of the process.
    """
    session = Session()
    if asked_by_shell():
        answer_shell(lambda: root_command().main(prog_name="dockhand", obj=session))
    try:
        with session:
            try:
                status = root_command().main(
                    arguments, prog_name="dockhand", standalone_mode=False, obj=session
                )
            except _Ended as ended:
                raise ended.cause from None
            sys.stdout.flush()
        if received_signal() is not None:  # typer has turned the exception into a status
            return _report_signal(session)
    except BrokenPipeError:  # the reader of the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.READER_GONE
    except (Exception, KeyboardInterrupt) as error:
        return _report(error, session)
    return status if isinstance(status, int) else 0


def _report(error: BaseException, session: Session) -> int:
    """Write an error to standard error, and return the exit status."""
    from dockhand_core.errors import DockhandError

    if session.options.debug:
        import traceback

        traceback.print_exception(error)
    if received_signal() is not None or isinstance(error, KeyboardInterrupt):
        return _report_signal(session)
    if isinstance(error, typer.Abort):  # a question that was not answered
        session.output.error("aborted; nothing was changed")
        return exit_codes.FAILED
    if hasattr(error, "format_message"):  # an error of the command line
        return _report_usage(error, session)
    if isinstance(error, DockhandError | exit_codes.CommandFailed):
        from dockhand_cli.advice import error_text

        session.output.error(error_text(error))
    elif isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        session.output.error(f"{name}{error.strerror or error}")
    else:
        hint = "" if session.options.debug else "; --debug shows where"
        session.output.error(f"internal error: {type(error).__name__}: {error}{hint}")
    return exit_codes.exit_code_of(error)


def _report_signal(session: Session) -> int:
    """Write that the command was interrupted, for a person, and return the exit status."""
    if received_signal() == signal.SIGTERM:
        session.output.message("terminated")
        return exit_codes.TERMINATED
    session.output.message("interrupted")
    return exit_codes.INTERRUPTED


def _report_usage(error: Any, session: Session) -> int:
    """Report an error of the command line: in one line, with the command whose help explains it."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(context and context.get_help())
        return exit_codes.USAGE
    hint = f" ({context.command_path} --help)" if context is not None else ""
    # typer takes some of its messages from pydantic, with this prefix
    message = error.format_message().replace(": Value error, ", ": ", 1)
    session.output.error(f"{printable(message)}{hint}")
    return exit_codes.USAGE


def run_command_line() -> int:
    """Run the command line of the process, and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode
    handle_signals()
    return main()
