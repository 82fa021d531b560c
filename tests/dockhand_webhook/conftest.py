"""A receiver without a socket, a dispatcher in a thread, and a clock that tests set."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import httpx
import pytest
from dockhand_webhook import (
    Backoff,
    ClaimedDelivery,
    DeliveryQueue,
    Dispatcher,
    Inbox,
    create_app,
)
from dockhand_webhook.dispatch.dispatcher import InProcessExecutor
from notifications import DISTRIBUTION, envelope, push
from webhook_receiver import TIMEOUT, plugins_with

from dockhand_core import Plugins, hookimpl
from dockhand_core.events import RegistryBaseEvent, event_handlers
from dockhand_core.events.distribution import DistributionParser

T = TypeVar("T")
TOKEN = "t0ken-of-the-tests"
HANDLER = "recorder/dockhand_event"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Change to an empty working folder, and unset every `DOCKHAND_*` variable."""
    for name in list(os.environ):
        if name.startswith("DOCKHAND_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class ManualClock:
    """A clock that returns seconds since 1970, and stands still unless a test sets `now`."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make_event() -> Callable[..., RegistryBaseEvent]:
    """Provide a function that makes an event, by default a push, with the arguments of `push`."""

    def make(repository: str = "team/app", *names: str, **values: Any) -> RegistryBaseEvent:
        body = envelope(push(repository, *names, **values))
        [event] = DistributionParser().parse({}, body)
        return event

    return make


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    opened = Inbox(tmp_path / "inbox.db")
    yield opened
    opened.close()


@pytest.fixture
def asyncio_runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def run(asyncio_runner: asyncio.Runner) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Provide a function that runs coroutines, all in one event loop for the whole test."""
    return asyncio_runner.run


@pytest.fixture
def write_locked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], AbstractContextManager[None]]:
    """Provide a context manager that locks the file of an inbox, so that writes to it fail."""
    monkeypatch.setattr("dockhand_webhook.inbox.database._BUSY_TIMEOUT", 0.02)

    @contextmanager
    def lock(path: Path) -> Iterator[None]:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=20)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    return lock


class InProcessReceiver:
    """A receiver that handles requests without a socket, in the event loop of the test.

    The application is created by `create`, or by the first request.
    """

    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        self.path, self._runner = folder / "inbox.db", runner
        self.plugins = Plugins()
        self.token = TOKEN
        self.app: Any = None

    def create(self, **options: Any) -> InProcessReceiver:
        """Create the application, by default with the token of the tests; see `create_app`."""
        self.app = create_app(self.plugins, self.path, **{"tokens": [TOKEN], **options})
        return self

    @property
    def inbox(self) -> Inbox:
        if self.app is None:
            self.create()
        inbox: Inbox = self.app.inbox
        return inbox

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, in the event loop of the requests."""
        return self._runner.run(work)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request with the token, unless `headers` overrides `Authorization`."""
        if self.app is None:
            self.create()
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        given = {name: value for name, value in headers.items() if value is not None}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            return await client.request(method, path, headers=given, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Send a GET request."""
        return self.run(self.request("GET", path, **options))

    def post(self, body: Any, connection: str = "", **options: Any) -> httpx.Response:
        """Post a notification, with Distribution's `Content-Type` by default."""
        headers = {"Content-Type": DISTRIBUTION, **options.pop("headers", {})}
        path = options.pop("path", "/dockhand/notify") + (f"/{connection}" if connection else "")
        return self.run(self.request("POST", path, content=body, headers=headers, **options))

    def stored_events(self) -> list[tuple[str, str]]:
        """Return the connection and id of every stored event, in order of arrival."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute("SELECT connection, id FROM events ORDER BY seq").fetchall()


@pytest.fixture
def receiver(tmp_path: Path, asyncio_runner: asyncio.Runner) -> Iterator[InProcessReceiver]:
    made = InProcessReceiver(tmp_path, asyncio_runner)
    yield made
    if made.app is not None:
        made.app.inbox.close()


class Worker:
    """A dispatcher that runs in its own thread and event loop."""

    def __init__(self, inbox: Inbox, plugins: Plugins, timeout: float, options: Any) -> None:
        self.inbox, self._running = inbox, True
        handlers = event_handlers(plugins)
        self.loop = asyncio.new_event_loop()
        executor = InProcessExecutor(handlers, timeout)
        self.dispatcher = Dispatcher(inbox, handlers, executor, **options)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self.dispatcher.start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end in the dispatcher's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(TIMEOUT)

    def store(self, *events: RegistryBaseEvent, connection: str = "") -> None:
        """Store events and wake the dispatcher, as the receiver does."""
        self.run(self.inbox.store(connection, events))
        self.loop.call_soon_threadsafe(self.dispatcher.wake)

    def stop(self, grace: float = 1.0) -> None:
        """Stop the dispatcher and its loop."""
        if self._running:
            self._running = False
            self.run(self.dispatcher.stop(grace))
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(TIMEOUT)
            self.loop.close()


@pytest.fixture
def start_worker(inbox: Inbox) -> Iterator[Callable[..., Worker]]:
    """Provide a function that starts a dispatcher for the given plugins, which are keyed by name.

    See `Dispatcher` for the options.
    """
    workers: list[Worker] = []
    default = inbox

    def start(
        plugins: dict[str, Any],
        timeout: float = 20.0,
        inbox: Inbox | None = None,
        **options: Any,
    ) -> Worker:
        workers.append(Worker(inbox or default, plugins_with(**plugins), timeout, options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop(0.2)


@pytest.fixture
def fast_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make dispatchers look for due retries every 20 ms."""
    monkeypatch.setattr("dockhand_webhook.dispatch.dispatcher._POLL_INTERVAL", 0.02)


@pytest.fixture
def make_plugin() -> Callable[..., object]:
    """Provide a function that makes a plugin whose only hook is a given function."""

    def make(function: Callable[..., Awaitable[None] | None], hook: str = "dockhand_event") -> Any:
        return SimpleNamespace(**{hook: hookimpl(function)})

    return make


class SimulatedProcesses:
    """Simulated processes that share an inbox; each is represented by its delivery queue.

    Tests set the clock. Each process has the handler `HANDLER` unless `start` gets others.
    """

    def __init__(self, inbox: Inbox, clock: Any, run: Any, make_event: Any) -> None:
        self.inbox, self.clock, self.run, self._make_event = inbox, clock, run, make_event
        self.handler_id = 0

    def start(self, owner: str, attempts: int = 3, *handlers: str) -> DeliveryQueue:
        """Start a simulated process, and return its delivery queue."""
        backoff = Backoff(attempts=attempts, first=10.0)
        queue = self.inbox.delivery_queue(owner, backoff, 15.0)
        handler_ids = self.run(queue.register(handlers or [HANDLER]))
        self.handler_id = handler_ids[handlers[0] if handlers else HANDLER]
        return queue

    def store(self, *ids: str, repository: str = "team/app", connection: str = "") -> None:
        """Store events with these ids."""
        events = [self._make_event(repository, each) for each in ids]
        self.run(self.inbox.store(connection, events))

    def claim(
        self, queue: DeliveryQueue, limit: int = 10, handler_id: int | None = None
    ) -> list[ClaimedDelivery]:
        claimed: list[ClaimedDelivery] = self.run(
            queue.claim({handler_id or self.handler_id: limit})
        )
        return claimed

    def claim_one(self, queue: DeliveryQueue) -> ClaimedDelivery:
        [delivery] = self.claim(queue)
        return delivery


@pytest.fixture
def processes(
    tmp_path: Path, clock: Any, run: Any, make_event: Any
) -> Iterator[SimulatedProcesses]:
    inbox = Inbox(tmp_path / "inbox.db", clock=clock)
    yield SimulatedProcesses(inbox, clock, run, make_event)
    inbox.close()
