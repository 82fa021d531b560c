"""The receivers to measure; `python -m benchmarks.receivers ours|bare FOLDER PORT` runs one.

`bare` is a minimal ASGI application that writes bodies to SQLite. Requests that arrive during a
transaction share the next one. `bare` neither parses bodies nor calls a handler.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path
from typing import Any

from dockhand_webhook import create_app

from dockhand_core import hookimpl
from dockhand_core.plugins import Plugins
from dockhand_core.server import serve

TOKEN = "token-of-the-benchmark"


class Handler:
    """A plugin whose handler gets every event."""

    @hookimpl
    async def dockhand_event(self, event: Any) -> None:
        """Ignore the event."""


class BareReceiver:
    """An ASGI application that stores bodies in an SQLite file."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB)")
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, stored))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await stored
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            await asyncio.to_thread(self._commit, [(body,) for body, _ in group])
            for _, stored in group:
                stored.set_result(None)
        self._writing = None

    def _commit(self, bodies: list[tuple[bytes]]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany("INSERT INTO bodies (body) VALUES (?)", bodies)
        self._database.execute("COMMIT")


def main() -> None:
    """Run the receiver that the arguments name, until SIGTERM."""
    which, folder, port = sys.argv[1:]
    if which == "bare":
        app: Any = BareReceiver(Path(folder) / "bare.db")
    else:
        plugins = Plugins()
        plugins.register(Handler(), name="handler")
        app = create_app(plugins, Path(folder) / "inbox.db", tokens=[TOKEN])
    lifespan = "off" if which == "bare" else "on"
    serve(app, host="127.0.0.1", port=int(port), package="dockhand-webhook", lifespan=lifespan)


if __name__ == "__main__":
    main()
