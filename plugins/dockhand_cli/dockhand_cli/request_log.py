"""Log lines of requests, which `--verbose` writes to standard error."""

from __future__ import annotations

import logging
from typing import TextIO

from dockhand_core.text import printable

__all__ = ["RequestLogHandler"]

_FIRST = ("method", "path", "status", "milliseconds", "error")


class RequestLogHandler(logging.StreamHandler[TextIO]):
    """Writes one line for a request: connection, method, path, status and duration.

    The core has redacted the values.

    Args:
        stream: the stream to write to.
        all_fields: write all other fields, too, such as attempts and bytes.
    """

    def __init__(self, stream: TextIO, *, all_fields: bool = False) -> None:
        super().__init__(stream)
        self._all_fields = all_fields

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as a line."""
        fields = dict(getattr(record, "dockhand", {}))
        connection = record.name.removeprefix("dockhand.")
        if "method" not in fields:
            return printable(f"{record.levelname.lower()}: {record.getMessage()}")
        parts = [f"{connection}:", *(str(fields[key]) for key in _FIRST if key in fields)]
        if "milliseconds" in fields:
            at = parts.index(str(fields["milliseconds"]))
            parts[at] += " ms"
        if "wait" in fields:
            parts.append(f"(again in {fields['wait']} s)")
        if self._all_fields:
            parts += [
                f"{key}={value}"
                for key, value in fields.items()
                if key not in (*_FIRST, "wait", "event", "level", "timestamp")
            ]
        return printable(" ".join(parts))
