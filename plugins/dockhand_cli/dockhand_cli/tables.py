"""Tables for terminals of any width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dockhand_cli.values import Cell, DigestCell, for_people, short_digest

__all__ = ["fact_lines", "table_or_records"]

_GAP = 2  # columns between two cells
_FOLDED = 20  # columns that the widest cell needs at least; it is folded if it has more


def table_or_records(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], width: int
) -> RenderableType:
    """Make a table, of which only the widest column is folded if the terminal is narrow.

    If a row does not fit, digests of the class `DigestCell` are shortened. If that is not enough,
    each row becomes a block of lines, a line a cell that is not empty.

    Args:
        columns: the headings.
        rows: the rows.
        width: the number of columns of the terminal.
    """
    texts = [[for_people(cell) for cell in row] for row in rows]
    widths = _widths(columns, texts)
    if sum(widths) > width:
        texts = [[_shortened(cell) for cell in row] for row in rows]
        widths = _widths(columns, texts)
    widest = max(widths)
    if texts and sum(widths) - max(0, widest - _FOLDED) > width:
        return _records(columns, texts)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading, size in zip(columns, widths, strict=True):
        table.add_column(heading, overflow="fold", no_wrap=size != widest)
    for cells in texts:
        table.add_row(*map(Text, cells))
    return table


def _widths(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column of a table, with the gap between two columns."""
    widths = [max(map(cell_len, cells)) for cells in zip(columns, *texts, strict=True)]
    return [size + _GAP if number else size for number, size in enumerate(widths)]


def _shortened(cell: Cell) -> str:
    return for_people(short_digest(cell) if isinstance(cell, DigestCell) else cell)


def fact_lines(rows: Sequence[tuple[str, Cell]]) -> Table:
    """Make lines of a name and a value each; equal names that follow each other are written once.

    Args:
        rows: the names and values.
    """
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    before = None
    for name, value in rows:
        grid.add_row("" if name == before else Text(name), Text(for_people(value)))
        before = name
    return grid


def _records(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> Group:
    """Make a block of lines of each row, without the empty cells, and an empty line between two."""
    blocks = [
        fact_lines([pair for pair in zip(columns, cells, strict=True) if pair[1]])
        for cells in texts
    ]
    return Group(*[part for block in blocks for part in (Text(), block)][1:])
