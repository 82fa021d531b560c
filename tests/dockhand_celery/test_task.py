"""What a worker does with a delivery, and what whoever handed it out makes of that."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from dockhand_celery import CeleryRunner, TaskFailed, register_handlers
from dockhand_celery.__main__ import _application, _arguments
from dockhand_celery.runner import _name
from dockhand_webhook import Backoff, Inbox, Job, Lanes, NotNow
from notifications import DISTRIBUTION, envelope, push

from dockhand_core import ConfigError, Plugins, hookimpl
from dockhand_core.events import EventParsers, RegistryBaseEvent

README = Path(__file__).parents[2] / "plugins" / "dockhand_celery" / "README.md"


class Audit:
    def __init__(self) -> None:
        self.seen: list[RegistryBaseEvent] = []
        self.raises: Exception | None = None

    @hookimpl
    def dockhand_event(self, event: RegistryBaseEvent) -> None:
        self.seen.append(event)
        if self.raises:
            raise self.raises

    @hookimpl
    async def dockhand_manifest_pushed(self, event: RegistryBaseEvent) -> None:
        await asyncio.sleep(0)
        self.seen.append(event)


class Clock:
    """Seconds since 1970, as a test says; they begin anew, since all tests have one backend."""

    def __init__(self) -> None:
        self.start = self.now = time.time()

    def __call__(self) -> float:
        return self.now


class World:
    """An inbox with one event for each handler, and a Celery application in the process."""

    def __init__(self, folder: Path) -> None:
        self.audit, self.plugins, self.clock = Audit(), Plugins(), Clock()
        self.plugins.register(self.audit, name="audit")
        self.app = Celery("tasks", broker="memory://", backend="cache+memory://")
        register_handlers(self.app, self.plugins)
        self.inbox = Inbox(folder / "inbox.db", clock=self.clock)
        self.runner = CeleryRunner(self.app, timeout=4, expires=6, clock=self.clock)
        self.lanes = self.another()
        self.sent: list[str] = []
        self.on_send: Callable[[Job], object] = self.work
        self.runner._send = self._send  # type: ignore[method-assign]

    def another(self, owner: str = "me") -> Lanes:
        return self.inbox.lanes(owner, Backoff(attempts=3, first=1.0), lease=15)

    def _send(self, job: Job) -> None:
        self.sent.append(_name(job))
        self.on_send(job)

    def work(self, job: Job) -> None:
        """Be the worker."""
        stored = job.stored
        self.app.tasks["dockhand.handle"].apply(
            (job.handler, stored.kind, stored.data, stored.connection), task_id=_name(job)
        )

    async def jobs(self) -> dict[str, Job]:
        """The event's deliveries, by handler."""
        numbers = await self.lanes.register(
            ["audit/dockhand_event", "audit/dockhand_manifest_pushed"]
        )
        body = envelope(push("team/app", id="e1"))
        events = EventParsers(self.plugins).parse({"content-type": DISTRIBUTION}, body)
        await self.inbox.take("staging", events)
        return {
            job.handler: job for job in await self.lanes.claim(dict.fromkeys(numbers.values(), 1))
        }

    async def run(self, job: Job) -> None:
        await self.runner.run(job, self.lanes, lambda: None)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("hook", ["dockhand_event", "dockhand_manifest_pushed"])
def test_a_handler_is_called_with_the_event(world: World, hook: str) -> None:
    async def case() -> None:
        await world.run((await world.jobs())[f"audit/{hook}"])

    asyncio.run(case())
    [event] = world.audit.seen
    assert (event.id, event.repository, event.connection) == ("e1", "team/app", "staging")
    assert type(event).__name__ == "ManifestPushed"


def test_what_a_handler_raises_comes_back(world: World) -> None:
    world.audit.raises = LookupError("no such build")

    async def case() -> None:
        await world.run((await world.jobs())["audit/dockhand_event"])

    with pytest.raises(TaskFailed, match="LookupError: no such build"):
        asyncio.run(case())


def test_a_worker_without_the_handler(world: World) -> None:
    async def case() -> None:
        job = (await world.jobs())["audit/dockhand_event"]
        bare = Celery("bare", broker="memory://", backend="cache+memory://")
        register_handlers(bare, Plugins())
        world.app.tasks["dockhand.handle"] = bare.tasks["dockhand.handle"]
        await world.run(job)

    with pytest.raises(TaskFailed, match="no handler 'audit/dockhand_event'"):
        asyncio.run(case())


def test_no_broker_is_no_failure(world: World) -> None:
    def refuse() -> None:
        raise OSError("refused")

    world.runner._connect = refuse  # type: ignore[method-assign]

    async def case() -> None:
        job = (await world.jobs())["audit/dockhand_event"]
        with pytest.raises(NotNow):
            await world.run(job)
        await world.lanes.give_back(job)
        [again] = await world.lanes.claim({job.number: 1})
        assert (again.attempts, again.handed) == (0, None)

    asyncio.run(case())
    assert world.sent == []


def test_it_is_sent_once_whoever_waits(world: World) -> None:
    """A process that takes the lane over waits for the same task."""
    world.on_send = lambda job: None  # the worker is slow

    async def case() -> None:
        job = (await world.jobs())["audit/dockhand_event"]
        first = asyncio.create_task(world.run(job))
        while not world.sent:
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(NotNow):
            await first
        world.clock.now += 16  # its lease is over
        other = world.another("other")
        await other.register([job.handler])
        [taken] = await other.claim({job.number: 1})
        assert taken.handed == world.clock.start
        assert taken.attempts == 0
        world.work(taken)
        await world.runner.run(taken, other, lambda: None)

    asyncio.run(case())
    assert len(world.sent) == 1
    assert len(world.audit.seen) == 1


@pytest.mark.parametrize("begun", [False, True])
def test_a_task_that_is_lost(world: World, begun: bool) -> None:
    """One that never began is sent again at no cost; one that did may have done something."""

    def lose(job: Job) -> None:
        if begun:
            world.app.backend.store_result(_name(job), None, "STARTED")

    world.on_send = lose

    async def case() -> Job:
        job = (await world.jobs())["audit/dockhand_event"]
        waiting = asyncio.create_task(world.run(job))
        while not world.sent:
            await asyncio.sleep(0.01)
        world.clock.now += 14  # it may still run
        await asyncio.sleep(0.6)
        assert not waiting.done()
        world.clock.now += 2
        with pytest.raises(TaskFailed if begun else NotNow):
            await waiting
        return job

    job = asyncio.run(case())
    with world.inbox.database.reading() as connection:
        [(handed,)] = connection.execute(
            "SELECT handed FROM deliveries WHERE handler = ?", (job.number,)
        ).fetchall()
    assert (handed is not None) == begun


def test_a_backend_that_is_away_says_nothing_of_the_task(world: World) -> None:
    looks = 0
    kind = type(world.app.backend)  # each thread has one of its own
    real = kind.get_task_meta

    def away(*arguments: Any, **options: Any) -> Any:
        nonlocal looks
        looks += 1
        world.clock.now += 60  # long past the time that it may take
        if looks < 3:
            raise OSError("refused")
        return real(*arguments, **options)

    async def case() -> None:
        await world.run((await world.jobs())["audit/dockhand_event"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dockhand_celery.runner._AGAIN", 0.01)
        patch.setattr(kind, "get_task_meta", away)
        asyncio.run(case())
    assert looks == 3
    assert len(world.audit.seen) == 1


def test_the_application_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_tasks.py").write_text("from celery import Celery\napp = Celery('x')\nno = 1\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(_application("own_tasks:app"), Celery)
    for wrong, why in (
        ("own_tasks", "MODULE:NAME"),
        ("own_tasks:no", "no Celery application"),
        ("own_tasks:absent", "AttributeError"),
        ("absent_tasks:app", "ModuleNotFoundError"),
    ):
        with pytest.raises(ConfigError, match=why):
            _application(wrong)


def test_the_readme_names_every_option_and_its_application_works(tmp_path: Path) -> None:
    text = README.read_text("utf-8")
    known = set(_arguments()._option_string_actions) - {"-h", "--help"}
    assert known <= set(re.findall(r"--[a-z][a-z-]+", text))
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, str(README), "exec"), names)
    assert "dockhand.handle" in names["app"].tasks
