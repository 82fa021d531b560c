"""Tables for terminals of any width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dockhand_cli.values import Cell, for_people

__all__ = ["table_or_records"]

_GAP = 2  # columns between two cells
_FOLDED = 20  # columns that the widest cell needs at least; it is folded if it has more


def table_or_records(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], width: int
) -> RenderableType:
    """Make a table, of which only the widest column is folded if the terminal is narrow.

    If that is not enough, each row becomes a block of lines, a line a cell that is not empty.

    Args:
        columns: the headings.
        rows: the rows.
        width: the number of columns of the terminal.
    """
    texts = [[Text(for_people(cell)) for cell in row] for row in rows]
    widths = [
        max(cell_len(heading), *(cell.cell_len for cell in cells))
        for heading, *cells in zip(columns, *texts, strict=True)
    ] if texts else [cell_len(heading) for heading in columns]  # fmt: skip
    widest = max(widths)
    if sum(widths) + _GAP * (len(widths) - 1) - max(0, widest - _FOLDED) > width and texts:
        return _records(columns, texts)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading, size in zip(columns, widths, strict=True):
        table.add_column(heading, overflow="fold", no_wrap=size != widest)
    for cells in texts:
        table.add_row(*cells)
    return table


def _records(columns: Sequence[str], texts: Sequence[Sequence[Text]]) -> Table:
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for number, cells in enumerate(texts):
        if number:
            grid.add_row("", "")
        for heading, cell in zip(columns, cells, strict=True):
            if cell.plain:
                grid.add_row(heading, cell)
    return grid
