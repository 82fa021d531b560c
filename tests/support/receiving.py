"""A receiver on a loopback port, and handlers that write down what they were told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from dockhand_webhook import Inbox, Receiver, create_app

from dockhand_core import Plugins, hookimpl
from dockhand_core.events import RegistryBaseEvent
from dockhand_core.server import listen

T = TypeVar("T")
SECONDS = 20.0


class Recorder:
    """A plugin that writes every event down."""

    def __init__(self) -> None:
        self.events: list[RegistryBaseEvent] = []

    @hookimpl
    def dockhand_event(self, event: RegistryBaseEvent) -> None:
        self.events.append(event)


def plugins_with(**registered: object) -> Plugins:
    """A manager's plugins, with these registered by their names."""
    plugins = Plugins()
    for name, plugin in registered.items():
        plugins.register(plugin, name=name)
    return plugins


def eventually(found: Callable[[], T], seconds: float = SECONDS) -> T:
    """What a function gives once it is true."""
    until = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return result


class Served:
    """A receiver that is served: its URL, its inbox and its port."""

    def __init__(self, app: Receiver, port: int) -> None:
        self.app, self.port = app, port
        self.url = f"http://127.0.0.1:{port}"
        self.inbox: Inbox = app.inbox

    @property
    def route(self) -> str:
        """Where notifications are posted to."""
        return f"{self.url}/dockhand/notify"


@contextmanager
def receiving(inbox: Path, plugins: Plugins | None = None, **options: Any) -> Iterator[Served]:
    """Serve a receiver in a thread; see `create_app` for the options."""
    app = create_app(plugins, inbox, **options)
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, log_config=None, ws="none", lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True
        )
        thread.start()
        try:
            eventually(lambda: server.started or not thread.is_alive())
            assert thread.is_alive()
            yield Served(app, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(SECONDS)
            assert not thread.is_alive()
