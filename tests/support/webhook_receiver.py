"""A webhook receiver on a loopback port, and a plugin that records events."""

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
TIMEOUT = 20.0  # seconds; the default of `eventually`


class EventRecorder:
    """A plugin whose handler records every event."""

    def __init__(self) -> None:
        self.events: list[RegistryBaseEvent] = []

    @hookimpl
    def dockhand_event(self, event: RegistryBaseEvent) -> None:
        self.events.append(event)


def plugins_with(**registered: object) -> Plugins:
    """Make a `Plugins` in which these plugins are registered under their names."""
    plugins = Plugins()
    for name, plugin in registered.items():
        plugins.register(plugin, name=name)
    return plugins


def eventually(condition: Callable[[], T], timeout: float = TIMEOUT) -> T:
    """Wait until a function returns a true value, and return that value."""
    until = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return result


class RunningReceiver:
    """The application, the inbox, the port and the URL of a receiver that runs."""

    def __init__(self, app: Receiver, port: int) -> None:
        self.app, self.port = app, port
        self.url = f"http://127.0.0.1:{port}"
        self.inbox: Inbox = app.inbox

    @property
    def notify_url(self) -> str:
        """The URL to which registries send notifications."""
        return f"{self.url}/dockhand/notify"


@contextmanager
def running_receiver(
    inbox: Path, plugins: Plugins | None = None, **options: Any
) -> Iterator[RunningReceiver]:
    """Run a receiver in a thread until the `with` block ends; see `create_app` for the options."""
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
            yield RunningReceiver(app, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(TIMEOUT)
            assert not thread.is_alive()
