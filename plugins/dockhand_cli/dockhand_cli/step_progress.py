"""Progress bars of operations that have steps instead of bytes, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dockhand_cli.interrupts import check_interrupted
from dockhand_cli.output import Output

__all__ = ["show_steps"]


@contextmanager
def show_steps(output: Output, title: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar on standard error while the block runs, if that is a terminal.

    Args:
        output: the command's output.
        title: the operation's name, such as `Reading the tags of team/app`.

    Returns:
        The function to give to the operation as `progress`. It ends the operation's threads if a
        signal has arrived.
    """
    if output.quiet or not sys.stderr.isatty():
        yield lambda _done, _total: check_interrupted()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=output.console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # rich would move a pipe's lines to the terminal
    ) as bars:
        task = bars.add_task(title, total=None)

        def show(done: int, total: int | None) -> None:
            check_interrupted()
            bars.update(task, completed=done, total=total)

        yield show
