"""The progress of transfers: bars on a terminal, and the number of blobs of each outcome."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dockhand_cli.interrupts import check_interrupted
from dockhand_cli.output import Output

if TYPE_CHECKING:
    from dockhand_cli.transfer_bars import TransferBars
    from dockhand_core.models import BlobProgress, BlobState

__all__ = ["TransferProgress", "show_progress"]


class TransferProgress:
    """The functions to give to an operation, as `progress` and `blob_progress`.

    Args:
        bars: the bars on the terminal, or None.
    """

    def __init__(self, bars: TransferBars | None = None) -> None:
        self._bars = bars
        self._outcomes: dict[str, tuple[BlobState, int]] = {}

    def total(self, done: int, total: int | None) -> None:
        """Show the bytes of the whole transfer; the argument `progress`."""
        check_interrupted()
        if self._bars is not None:
            self._bars.show_total(done, total)

    def blob(self, progress: BlobProgress) -> None:
        """Show the bytes of one blob, and count its outcome; the argument `blob_progress`."""
        if progress.state != "moving":
            self._outcomes[progress.digest] = progress.state, progress.size
        if self._bars is not None:
            self._bars.show_blob(progress)

    def count(self, state: BlobState) -> int:
        """The number of blobs with an outcome."""
        return sum(1 for outcome, _ in self._outcomes.values() if outcome == state)

    def bytes_copied(self) -> int:
        """The number of bytes of the blobs that were transferred."""
        return sum(size for outcome, size in self._outcomes.values() if outcome == "copied")


@contextmanager
def show_progress(
    output: Output, title: str, *, hidden: bool = False
) -> Iterator[TransferProgress]:
    """Show bars on standard error while the block runs, if that is a terminal.

    Args:
        output: the command's output.
        title: the transfer's name.
        hidden: show nothing.
    """
    if hidden or output.quiet or not sys.stderr.isatty():
        yield TransferProgress()
        return
    from dockhand_cli.transfer_bars import TransferBars

    with TransferBars(title) as bars:
        yield TransferProgress(bars)
