"""A notification receiver that runs in a thread, and calls a hook for each event."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
from dockhand_webhook import create_app

from dockhand_core import hookimpl
from dockhand_core.events import RegistryBaseEvent
from dockhand_core.plugins import Plugins
from dockhand_core.server import listen


class Audit:
    """A plugin that collects every event."""

    def __init__(self) -> None:
        self.events: list[RegistryBaseEvent] = []

    @hookimpl
    async def dockhand_event(self, event: RegistryBaseEvent) -> None:
        """Keep the event; a real handler might start a build or send a message."""
        self.events.append(event)


class EventReceiver:
    """The receiver of dockhand-webhook, served on a loopback port by a thread.

    Args:
        inbox: the path of the file that stores events until the hook has been called with them.
    """

    def __init__(self, inbox: Path) -> None:
        self.token = secrets.token_urlsafe()
        self._audit, plugins = Audit(), Plugins()
        plugins.register(self._audit, name="audit")
        self._app = create_app(plugins, inbox, tokens=[self.token])
        self._listener = listen("127.0.0.1", 0)
        self._server = uvicorn.Server(uvicorn.Config(self._app, log_config=None, lifespan="on"))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """The URL to which registries send notifications."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/dockhand/notify"

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def show(self, seconds: float = 10.0) -> None:
        """Wait until no more events arrive, then print the pushes and deletions of tags.

        Args:
            seconds: the maximum time to wait, in seconds.
        """
        until = time.monotonic() + seconds
        seen = -1
        while seen != len(self._audit.events) and time.monotonic() < until:
            seen = len(self._audit.events)
            time.sleep(0.3)
        for event in self._audit.events:
            tag = getattr(event, "tag", None)
            if tag and event.action in {"push", "delete"}:
                print(
                    f"   {type(event).__name__:14} {event.repository}:{tag:6} "
                    f"by {event.actor_name}, on connection {event.connection}"
                )
        counts = self._app.counts()
        print(
            f"   with pulls and blobs: {counts.received} events received, "
            f"{counts.delivered} delivered, {counts.dead} dead"
        )
