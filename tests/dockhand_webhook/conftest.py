"""A receiver without a socket, a dispatcher in a thread, and a clock that is set by hand."""

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
from dockhand_webhook import Backoff, Dispatcher, Inbox, Job, Lanes, create_app
from dockhand_webhook.dispatch.dispatcher import InProcess
from notifications import DISTRIBUTION, envelope, push
from receiving import SECONDS, plugins_with

from dockhand_core import Plugins, hookimpl
from dockhand_core.events import RegistryBaseEvent, event_handlers
from dockhand_core.events.distribution import DistributionParser

T = TypeVar("T")
TOKEN = "t0ken-of-the-tests"
HANDLER = "told/dockhand_event"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working folder, and no variable of Dockhand's."""
    for name in list(os.environ):
        if name.startswith("DOCKHAND_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Clock:
    """Seconds since 1970, until somebody says that they are others."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def event() -> Callable[..., RegistryBaseEvent]:
    """Makes an event, a push unless told otherwise; see `push` for the arguments."""

    def made(repository: str = "team/app", *names: str, **values: Any) -> RegistryBaseEvent:
        [found] = DistributionParser().parse({}, envelope(push(repository, *names, **values)))
        return found

    return made


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    found = Inbox(tmp_path / "inbox.db")
    yield found
    found.close()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as found:
        yield found


@pytest.fixture
def run(runner: asyncio.Runner) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Waits for a coroutine, in the loop of all that this test does."""
    return runner.run


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], AbstractContextManager[None]]:
    """Holds an inbox's file, so that it cannot be written meanwhile."""
    monkeypatch.setattr("dockhand_webhook.inbox.database._BUSY", 0.02)

    @contextmanager
    def hold(path: Path) -> Iterator[None]:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=20)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    return hold


class Desk:
    """A receiver that is asked without a socket, in the loop of the test."""

    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        self.path, self._runner = folder / "inbox.db", runner
        self.plugins = Plugins()
        self.token = TOKEN
        self.app: Any = None

    def serve(self, **options: Any) -> Desk:
        """Make the application; it knows the token of the tests unless told otherwise."""
        self.app = create_app(self.plugins, self.path, **{"tokens": [TOKEN], **options})
        return self

    @property
    def inbox(self) -> Inbox:
        if self.app is None:
            self.serve()
        found: Inbox = self.app.inbox
        return found

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine, in the loop of all requests of this test."""
        return self._runner.run(work)

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request; with the token, unless it brings an `Authorization` of its own (or None)."""
        if self.app is None:
            self.serve()
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        given = {name: value for name, value in headers.items() if value is not None}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            return await client.request(method, path, headers=given, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return self.run(self.ask("GET", path, **options))

    def post(self, body: Any, connection: str = "", **options: Any) -> httpx.Response:
        """POST a notification, as Distribution does unless `Content-Type` says otherwise."""
        headers = {"Content-Type": DISTRIBUTION, **options.pop("headers", {})}
        path = options.pop("path", "/dockhand/notify") + (f"/{connection}" if connection else "")
        return self.run(self.ask("POST", path, content=body, headers=headers, **options))

    def stored(self) -> list[tuple[str, str]]:
        """Connection and id of all events, in order of arrival."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute("SELECT connection, id FROM events ORDER BY seq").fetchall()


@pytest.fixture
def desk(tmp_path: Path, runner: asyncio.Runner) -> Iterator[Desk]:
    """A receiver that is made with its first request, or by `serve`."""
    found = Desk(tmp_path, runner)
    yield found
    if found.app is not None:
        found.app.inbox.close()


class Worker:
    """A dispatcher in a loop of its own, which a blocking test tells of events."""

    def __init__(self, inbox: Inbox, plugins: Plugins, timeout: float, options: Any) -> None:
        self.inbox, self._running = inbox, True
        handlers = event_handlers(plugins)
        self.loop = asyncio.new_event_loop()
        self.dispatcher = Dispatcher(inbox, handlers, InProcess(handlers, timeout), **options)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self.dispatcher.start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine, in the dispatcher's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    def tell(self, *events: RegistryBaseEvent, connection: str = "") -> None:
        """Events arrive."""
        self.run(self.inbox.take(connection, events))
        self.loop.call_soon_threadsafe(self.dispatcher.wake)

    def stop(self, grace: float = 1.0) -> None:
        """Stop the dispatcher, and its loop."""
        if self._running:
            self._running = False
            self.run(self.dispatcher.stop(grace))
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(SECONDS)
            self.loop.close()


@pytest.fixture
def working(inbox: Inbox) -> Iterator[Callable[..., Worker]]:
    """Starts a dispatcher for plugins, each one given by its name; see `Dispatcher`."""
    workers: list[Worker] = []

    def start(
        plugins: dict[str, Any], timeout: float = 20.0, over: Inbox | None = None, **options: Any
    ) -> Worker:
        workers.append(Worker(over or inbox, plugins_with(**plugins), timeout, options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop(0.2)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be tried again is looked for more often than every half second."""
    monkeypatch.setattr("dockhand_webhook.dispatch.dispatcher._POLL", 0.02)


@pytest.fixture
def plugin() -> Callable[..., object]:
    """Makes a plugin of one function, for `dockhand_event` or another hook."""

    def made(function: Callable[..., Awaitable[None] | None], hook: str = "dockhand_event") -> Any:
        return SimpleNamespace(**{hook: hookimpl(function)})

    return made


class Owners:
    """Processes over one inbox, whose clock is the test's; each knows one handler."""

    def __init__(self, inbox: Inbox, clock: Any, run: Any, event: Any) -> None:
        self.inbox, self.clock, self._run, self._event = inbox, clock, run, event
        self.number = 0

    def process(self, owner: str, attempts: int = 3, *names: str) -> Lanes:
        lanes = self.inbox.lanes(owner, Backoff(attempts=attempts, first=10.0), 15.0)
        numbers = self._run(lanes.register(names or [HANDLER]))
        self.number = numbers[names[0] if names else HANDLER]
        return lanes

    def arrive(self, *ids: str, repository: str = "team/app", connection: str = "") -> None:
        events = [self._event(repository, each) for each in ids]
        self._run(self.inbox.take(connection, events))

    def claim(self, lanes: Lanes, most: int = 10, number: int | None = None) -> list[Job]:
        found: list[Job] = self._run(lanes.claim({number or self.number: most}))
        return found

    def one(self, lanes: Lanes) -> Job:
        [job] = self.claim(lanes)
        return job

    def do(self, work: Any) -> Any:
        return self._run(work)


@pytest.fixture
def owners(tmp_path: Path, clock: Any, run: Any, event: Any) -> Iterator[Owners]:
    inbox = Inbox(tmp_path / "inbox.db", clock=clock)
    yield Owners(inbox, clock, run, event)
    inbox.close()
