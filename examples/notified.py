"""A receiver in the process: what a registry tells it becomes calls of a hook."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import Counter
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
    """A plugin that is told of everything."""

    def __init__(self) -> None:
        self.events: list[RegistryBaseEvent] = []

    @hookimpl
    async def dockhand_event(self, event: RegistryBaseEvent) -> None:
        """Keep it; a real one would start a build, or tell somebody."""
        self.events.append(event)


class Receiver:
    """Serves the receiver on a loopback port, in a thread.

    Args:
        inbox: the file that events are kept in until the hook has been called with them.
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
        """Where registries post to."""
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
        """Wait until the registry has told everything, and print what the hook was called with."""
        until = time.monotonic() + seconds
        seen = -1
        while seen != len(self._audit.events) and time.monotonic() < until:
            seen = len(self._audit.events)
            time.sleep(0.3)
        kinds = Counter(type(event).__name__ for event in self._audit.events)
        print(f"   {', '.join(f'{number} {kind}' for kind, number in sorted(kinds.items()))}")
        for event in self._audit.events:
            if event.action == "delete" or getattr(event, "tag", None):
                what = getattr(event, "tag", None) or str(event.digest)[:19]
                print(
                    f"   {type(event).__name__:14} {event.repository} {what}"
                    f"  by {event.actor_name}, on connection {event.connection}"
                )
        counts = self._app.counts()
        print(f"   received {counts.received}, delivered {counts.delivered}, dead {counts.dead}")
