"""Progress bars of transfers, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dockhand_cli.output import Output

__all__ = ["TransferProgress", "show_progress"]


@dataclass(frozen=True)
class TransferProgress:
    """The functions to give to an operation; None where nothing is shown.

    Attributes:
        total: the argument `progress`, for the bytes of the whole transfer.
    """

    total: Callable[[int, int | None], None] | None = None


@contextmanager
def show_progress(output: Output, title: str) -> Iterator[TransferProgress]:
    """Show bars on standard error while the block runs, if that is a terminal.

    Args:
        output: the command's output.
        title: the transfer's name.
    """
    if output.quiet or not sys.stderr.isatty():
        yield TransferProgress()
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=output.console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)

        def show(done: int, total: int | None) -> None:
            bars.update(task, completed=done, total=total)

        yield TransferProgress(show)
