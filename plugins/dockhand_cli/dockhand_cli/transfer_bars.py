"""The bars of a transfer on a terminal: a line for each blob that moves, and the total."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rich.console import Console, ConsoleRenderable, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import ControlType
from rich.table import Column, Table
from rich.text import Text

from dockhand_cli.interrupts import received_signal
from dockhand_core.text import printable

if TYPE_CHECKING:
    from dockhand_core.models import BlobProgress

__all__ = ["TransferBars"]

_CANCELLED = "Cancelling; Ctrl-C again ends at once"
_MOST = 16  # blobs with a line
_MARGIN = 4  # columns that stay empty, so that the `^C` of a terminal does not begin a line
_NAME, _BYTES, _RATE, _TIME = 12, 15, 11, 8  # widths of the columns
_NARROWEST, _WIDEST = 8, 40  # widths of the bar


@dataclass
class _Line:
    """A line of the display, which shows one blob, and later another one.

    Attributes:
        task: rich's task.
        digest: the digest of the blob.
        ended: whether the transfer of the blob has ended.
    """

    task: TaskID
    digest: str
    ended: bool = False


class TransferBars:
    """Bars on standard error: a title, a line for each blob that moves, and the total.

    The line of a blob that has ended stays until another blob takes its place, so that the lines
    below it do not jump. There are never more lines than the terminal has, and a narrow terminal
    has fewer columns. Text that the command prints meanwhile appears above the bars.

    Args:
        title: the transfer's name.
    """

    def __init__(self, title: str) -> None:
        self._title = printable(title)
        self._guard = threading.Lock()
        self._blobs: dict[str, BlobProgress] = {}
        self._sum: tuple[int, int | None] = 0, None
        self._lines: list[_Line] = []
        console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
        # Its tasks measure rates and remaining times, and it draws their lines; it is not started.
        self._progress = Progress(console=console, auto_refresh=False)
        self._total = self._progress.add_task("total", total=None)
        self.console = console
        self._live = _ResizableLive(self.make_lines, console)

    def __enter__(self) -> Self:
        try:
            self._live.start(refresh=True)
        except BaseException:  # such as KeyboardInterrupt
            self._live.stop()  # shows the cursor
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    # Operations call these two functions for each block, and rich draws ten times a second.
    # Therefore they only store numbers, which is cheap; and the rates, which rich computes from the
    # latest updates, are those of seconds, not of blocks.

    def show_total(self, done: int, total: int | None) -> None:
        """Store the bytes of the whole transfer."""
        self._sum = done, total

    def show_blob(self, progress: BlobProgress) -> None:
        """Store the bytes of one blob."""
        with self._guard:
            self._blobs[progress.digest] = progress

    def make_lines(self) -> Group:
        """Make the lines, as many as fit."""
        width, height = self.console.size
        done, total = self._sum
        self._progress.update(self._total, completed=done, total=total)
        hidden = self._update_lines(min(height - 4, _MOST))
        parts: list[RenderableType] = []
        if height > 3:
            cancelled = received_signal() is not None
            parts.append(_cut(_CANCELLED if cancelled else self._title, width))
        if hidden and height > 2:
            parts.append(_cut(f"{hidden} more blobs", width))
        self._progress.columns = _columns(width - _MARGIN)
        tasks = {task.id: task for task in self._progress.tasks}
        shown = [*(line.task for line in self._lines), self._total]
        return Group(*parts, self._progress.make_tasks_table([tasks[each] for each in shown]))

    def _update_lines(self, room: int) -> int:
        """Update the lines of blobs, and return the number of moving blobs that have none.

        Args:
            room: number of lines that fit.
        """
        with self._guard:
            blobs = list(self._blobs.values())
            self._blobs = {b.digest: b for b in blobs if b.state == "moving"}
        lines = {line.digest: line for line in self._lines}
        hidden = 0
        for blob in blobs:
            ended = blob.state != "moving"
            line = lines.get(blob.digest)
            if line is None and not ended:
                line = self._take_line(blob, room)
                hidden += line is None
            if line is not None:
                self._progress.update(line.task, completed=blob.done)
                line.ended = ended
        for line in sorted(self._lines, key=lambda line: not line.ended):  # after a resize
            if len(self._lines) > max(room, 0):
                self._lines.remove(line)
                self._progress.remove_task(line.task)
        return hidden

    def _take_line(self, blob: BlobProgress, room: int) -> _Line | None:
        """Give a blob the line of one that has ended, or else a further one, or None."""
        name = blob.digest.partition(":")[2][:_NAME]
        for line in self._lines:
            if line.ended:
                self._progress.reset(line.task, total=blob.size, description=name)
                line.digest, line.ended = blob.digest, False
                return line
        if len(self._lines) >= room:
            return None
        line = _Line(self._progress.add_task(name, total=blob.size), blob.digest)
        self._lines.append(line)
        return line


def _columns(width: int) -> tuple[ProgressColumn, ...]:
    """The columns that fit: the name and the bytes, then the rate, the time and the bar."""

    def fixed(width: int) -> Column:
        return Column(width=width, no_wrap=True, justify="right")

    columns: list[ProgressColumn] = [DownloadColumn(table_column=fixed(_BYTES))]
    left = width - _BYTES
    if left > _NAME:
        name = Column(width=_NAME, no_wrap=True)
        columns.insert(0, TextColumn("{task.description}", markup=False, table_column=name))
        left -= _NAME + 1
    if left > _RATE:
        columns.append(TransferSpeedColumn(table_column=fixed(_RATE)))
        left -= _RATE + 1
    if left > _TIME:
        columns.append(TimeRemainingColumn(table_column=fixed(_TIME)))
        left -= _TIME + 1
    if left > _NARROWEST:
        columns.insert(1, BarColumn(bar_width=min(left - 1, _WIDEST)))
    return tuple(columns)


def _cut(text: str, width: int) -> Text:
    """A line of text that fits into a terminal of a width."""
    line = Text(text, no_wrap=True)
    line.truncate(max(width - _MARGIN, 1), overflow="ellipsis")
    return line


class _ResizableLive(Live):
    """A live display that is also erased as a whole after the terminal has become narrower.

    Terminals then break the lines that no longer fit, so that the display has more lines than rich
    has drawn.

    Args:
        make_lines: makes the lines: single ones, and a table.
        console: the console.
    """

    def __init__(self, make_lines: Callable[[], Group], console: Console) -> None:
        self._made: list[int] = []  # widths of the lines that are drawn next
        self._drawn: list[int] = []  # widths of the lines on the terminal
        self._make_lines = make_lines
        super().__init__(
            console=console,
            refresh_per_second=10,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )

    def get_renderable(self) -> RenderableType:
        """Make the lines, and measure them."""
        group = self._make_lines()
        self._made = []
        for part in group.renderables:
            measured = Measurement.get(self.console, self.console.options, part).maximum
            self._made += [measured] * (part.row_count if isinstance(part, Table) else 1)
        return group

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Erase the lines of the display, and draw them again after the renderables."""
        width = self.console.width
        further = sum(max(drawn - 1, 0) // width for drawn in self._drawn)
        self._drawn = self._made
        processed = super().process_renderables(renderables)
        if not further:
            return processed
        erase_line = (ControlType.ERASE_IN_LINE, 2)
        up = ((ControlType.CURSOR_UP, 1), erase_line) * further
        return [Control(ControlType.CARRIAGE_RETURN, erase_line, *up), *processed]
