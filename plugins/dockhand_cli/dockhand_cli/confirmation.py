"""Questions before something is deleted."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dockhand_cli.output import Output
from dockhand_core.text import printable

__all__ = ["DryRun", "Yes", "ask_yes", "can_ask"]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="delete without a question, for scripts")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show the deletions, and delete nothing")]


def can_ask(output: Output) -> bool:
    """Whether a person can read the output and answer: both are a terminal, without `--json`."""
    return output.is_terminal and sys.stdin.isatty()


def ask_yes(question: str) -> None:
    """Ask a question on the terminal, whose answer has to be the whole word `yes`.

    Args:
        question: the question, such as `Delete 3 manifests?`.

    Raises:
        typer.Abort: the answer is another one.
    """
    try:
        # typer's own prompt would report Ctrl-C as a wrong answer
        answer = input(f"{printable(question)} Type yes to delete: ")
    except EOFError:
        print()
        raise typer.Abort from None
    if answer.strip().lower() != "yes":
        raise typer.Abort
