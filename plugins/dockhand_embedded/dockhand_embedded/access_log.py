"""The access log of the server: a line for each request that reaches the registry."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from dockhand_core.http.urls import redacted_url
from dockhand_core.text import printable

__all__ = ["AccessLogEntry", "log_to_stderr"]

Message: TypeAlias = MutableMapping[str, Any]

_MAX_PATH = 1024  # characters
_PLAIN = re.compile(r"[\w.@+-]+", re.ASCII)
_log = logging.getLogger("dockhand_embedded.access")


class AccessLogEntry:
    """The entry of one request, which counts what is sent to the client.

    Attributes:
        user: the name of the authenticated user; empty for an anonymous client.
    """

    def __init__(self, scope: Message, send: Callable[[Message], Awaitable[None]]) -> None:
        self._scope, self._send = scope, send
        self._time, self._start = datetime.now(UTC), time.perf_counter()
        self._status = self._bytes = 0
        self.user = ""

    async def send(self, message: Message) -> None:
        """Send a message to the client."""
        await self._send(message)
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.pathsend":
            with suppress(OSError):  # the file may have been deleted since
                self._bytes += Path(message["path"]).stat().st_size
        elif self._scope["method"] != "HEAD":
            self._bytes += len(message.get("body", b""))

    def write(self) -> None:
        """Log the line. Query values that may be secret are left out."""
        scope = self._scope
        target = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        path = redacted_url(target)
        host, _ = scope.get("client") or ("", 0)
        fields = {
            "time": self._time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "client": host or "-",
            "user": _quoted(self.user),
            "method": scope["method"],
            "path": path if len(path) <= _MAX_PATH else f"{path[:_MAX_PATH]}…",
            "status": self._status or "-",  # the client disconnected before the reply
            "bytes": self._bytes,
            "milliseconds": f"{(time.perf_counter() - self._start) * 1000:.1f}",
        }
        line = " ".join(f"{name}={value}" for name, value in fields.items())
        _log.info("%s", printable(line))


def _quoted(text: str) -> str:
    if not text:
        return "-"
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def log_to_stderr() -> None:
    """Write the lines of the access log to standard error, without anything before them."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False
