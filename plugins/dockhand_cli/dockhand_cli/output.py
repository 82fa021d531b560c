"""Standard output of a command: for a terminal, for a pipe, or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dockhand_cli.values import Cell, for_programs, moment_text
from dockhand_core.text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Output"]


class Output:
    """Writes results to standard output, and messages to standard error.

    Results are tables and trees with colours on a terminal, plain lines in a pipe, or JSON. Text
    from a registry is escaped: no control character reaches the terminal.

    Args:
        as_json: write JSON instead of text.
        quiet: write no messages but errors.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        self.is_terminal = not as_json and sys.stdout.isatty()
        self._consoles: dict[bool, Console] = {}

    def console(self, *, stderr: bool = False) -> Console:
        """The rich console of standard output, or of standard error."""
        from rich.console import Console

        if stderr not in self._consoles:
            self._consoles[stderr] = Console(stderr=stderr, highlight=False, markup=False)
        return self._consoles[stderr]

    def text(self, text: str) -> None:
        """Write one line of text, escaped. With `--json`, write nothing."""
        if not self.as_json:
            print(printable(text))

    def document(self, value: Any) -> None:
        """Write the command's only result as JSON, indented on a terminal."""
        indent = 2 if sys.stdout.isatty() else None
        print(_json(value, indent=indent))

    def item(self, value: Any, text: str) -> None:
        """Write one of several results: a line of JSON, or a line of text.

        Args:
            value: the result, for `--json`.
            text: the same for people and plain programs.
        """
        print(_json(value) if self.as_json else printable(text))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """Write a table on a terminal; in a pipe a line a row, with tabs between the cells.

        If the terminal is too narrow for a table, each row is written as lines, a line a cell.

        Args:
            columns: the headings, which only a terminal shows.
            rows: the rows; a cell of the class `Size` is a number of bytes, a `datetime` an age.
        """
        if not self.is_terminal:
            for row in rows:
                print("\t".join(map(for_programs, row)))
            return
        from dockhand_cli.tables import table_or_records

        self.render(table_or_records(columns, list(rows), self.console().width))

    def facts(self, rows: Iterable[tuple[str, Cell]]) -> None:
        """Write names and values: a name a line on a terminal; in a pipe with a tab between both.

        Args:
            rows: names and values. A name that is equal to that of the row before is written once.
        """
        if not self.is_terminal:
            self.table((), rows)
            return
        from dockhand_cli.tables import fact_lines

        self.render(fact_lines(list(rows)))

    def render(self, renderable: RenderableType) -> None:
        """Write a rich renderable, such as a tree, on a terminal."""
        self.console().print(renderable)

    def message(self, text: str) -> None:
        """Write a line for a person who watches: to standard error, on a terminal only."""
        if not self.quiet and sys.stderr.isatty():
            print(printable(text), file=sys.stderr)

    def warning(self, text: str) -> None:
        """Write a warning to standard error."""
        print(f"warning: {printable(text)}", file=sys.stderr)

    def error(self, text: str) -> None:
        """Write an error to standard error, on one line."""
        print(f"error: {printable(text)}", file=sys.stderr)


def _json(value: Any, *, indent: int | None = None) -> str:
    """Encode a value as JSON in ASCII, in which a terminal finds no control character.

    Objects of pydantic are written as their fields, digests and other texts as strings.
    """
    import json

    return json.dumps(value, indent=indent, default=_plain).replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, datetime):
        return moment_text(value)
    return str(value)
