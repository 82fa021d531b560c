"""The Celery task that runs a handler, and the executor that sends tasks and waits for them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from dockhand_celery import CeleryExecutor, TaskFailed, register_handlers
from dockhand_celery.__main__ import _application, _arguments
from dockhand_celery.executor import _task_id
from dockhand_webhook import Backoff, ClaimedDelivery, DeliveryDeferred, DeliveryQueue, Inbox
from notifications import DISTRIBUTION, envelope, push

from dockhand_core import ConfigError, Plugins, hookimpl
from dockhand_core.events import EventParsers, ManifestPushed, RegistryBaseEvent

README = Path(__file__).parents[2] / "plugins" / "dockhand_celery" / "README.md"


class RecordingPlugin:
    """A plugin that records the events of two handlers; `dockhand_event` then raises `raises`."""

    def __init__(self) -> None:
        self.events: list[RegistryBaseEvent] = []
        self.raises: Exception | None = None

    @hookimpl
    def dockhand_event(self, event: RegistryBaseEvent) -> None:
        self.events.append(event)
        if self.raises:
            raise self.raises

    @hookimpl
    async def dockhand_manifest_pushed(self, event: RegistryBaseEvent) -> None:
        await asyncio.sleep(0)
        self.events.append(event)


class ManualClock:
    """A clock that returns seconds since 1970, and stands still unless a test sets `now`.

    It starts at the current time, so that task ids differ: all tests share one result backend.
    """

    def __init__(self) -> None:
        self.start = self.now = time.time()

    def __call__(self) -> float:
        return self.now


class InProcessDeployment:
    """An inbox, an executor and a Celery application in one process.

    `on_send` is called instead of sending a task; by default it runs the task at once.
    """

    def __init__(self, folder: Path) -> None:
        self.plugin, self.plugins, self.clock = RecordingPlugin(), Plugins(), ManualClock()
        self.plugins.register(self.plugin, name="audit")
        self.app = Celery("tasks", broker="memory://", backend="cache+memory://")
        register_handlers(self.app, self.plugins)
        self.inbox = Inbox(folder / "inbox.db", clock=self.clock)
        self.executor = CeleryExecutor(self.app, timeout=4, expires=6, clock=self.clock)
        self.queue = self.new_queue()
        self.sent: list[str] = []
        self.on_send: Callable[[ClaimedDelivery], object] = self.run_task
        self.executor._send = self._send  # type: ignore[method-assign]

    def new_queue(self, owner: str = "a") -> DeliveryQueue:
        return self.inbox.delivery_queue(owner, Backoff(attempts=3, first=1.0), lease=15)

    def _send(self, delivery: ClaimedDelivery) -> None:
        self.sent.append(_task_id(delivery))
        self.on_send(delivery)

    def run_task(self, delivery: ClaimedDelivery) -> None:
        """Run the task of a delivery in this process, as a worker would."""
        event = delivery.event
        self.app.tasks["dockhand.handle"].apply(
            (delivery.handler, event.kind, event.data, event.connection), task_id=_task_id(delivery)
        )

    async def claim(self, **target: Any) -> dict[str, ClaimedDelivery]:
        """Store one event, claim its deliveries, and return them by handler name."""
        handler_ids = await self.queue.register(
            ["audit/dockhand_event", "audit/dockhand_manifest_pushed"]
        )
        body = envelope(push("team/app", id="e1", **target))
        events = EventParsers(self.plugins).parse({"content-type": DISTRIBUTION}, body)
        await self.inbox.store("staging", events)
        return {
            delivery.handler: delivery
            for delivery in await self.queue.claim(dict.fromkeys(handler_ids.values(), 1))
        }

    async def run(self, delivery: ClaimedDelivery) -> None:
        await self.executor.run(delivery, self.queue, lambda: None)


@pytest.fixture
def deployment(tmp_path: Path) -> InProcessDeployment:
    return InProcessDeployment(tmp_path)


@pytest.mark.parametrize("hook", ["dockhand_event", "dockhand_manifest_pushed"])
def test_a_handler_is_called_with_the_event(deployment: InProcessDeployment, hook: str) -> None:
    async def main() -> None:
        await deployment.run((await deployment.claim())[f"audit/{hook}"])

    asyncio.run(main())
    [event] = deployment.plugin.events
    assert (event.id, event.repository, event.connection) == ("e1", "team/app", "staging")
    assert type(event).__name__ == "ManifestPushed"


@pytest.mark.parametrize("hook", ["dockhand_event", "dockhand_manifest_pushed"])
def test_a_handler_sees_that_an_event_is_truncated(
    deployment: InProcessDeployment, hook: str
) -> None:
    async def main() -> None:
        deliveries = await deployment.claim(references=[{"x": "y" * (1 << 20)}])
        await deployment.run(deliveries[f"audit/{hook}"])

    asyncio.run(main())
    [event] = deployment.plugin.events
    assert isinstance(event, ManifestPushed)
    assert (event.truncated, event.raw, event.references) == (True, {}, ())
    assert (event.id, event.tag) == ("e1", "v1")


def test_an_exception_of_a_handler_is_raised_by_the_executor(
    deployment: InProcessDeployment,
) -> None:
    deployment.plugin.raises = LookupError("no such build")

    async def main() -> None:
        await deployment.run((await deployment.claim())["audit/dockhand_event"])

    with pytest.raises(TaskFailed, match="LookupError: no such build"):
        asyncio.run(main())


def test_a_worker_without_the_handler_names_broken_plugins(
    package: Callable[..., None], tmp_path: Path
) -> None:
    package("dockhand-audit", {"audit": "fake_audit"}, {"fake_audit": "raise RuntimeError('no')"})
    deployment = InProcessDeployment(tmp_path)
    app = Celery("tasks", broker="memory://", backend="cache+memory://")
    register_handlers(app)
    deployment.app = app

    async def main() -> None:
        await deployment.run((await deployment.claim())["audit/dockhand_event"])

    reason = "loaded: audit \\(dockhand-audit 1.2.3\\): cannot be loaded: RuntimeError: no"
    with pytest.raises(TaskFailed, match=reason):
        asyncio.run(main())


def test_a_worker_without_the_handler_fails(deployment: InProcessDeployment) -> None:
    async def main() -> None:
        delivery = (await deployment.claim())["audit/dockhand_event"]
        other = Celery("other", broker="memory://", backend="cache+memory://")
        register_handlers(other, Plugins())
        deployment.app.tasks["dockhand.handle"] = other.tasks["dockhand.handle"]
        await deployment.run(delivery)

    with pytest.raises(TaskFailed, match="no handler 'audit/dockhand_event'"):
        asyncio.run(main())


def test_without_a_broker_the_delivery_is_deferred(deployment: InProcessDeployment) -> None:
    def refuse() -> None:
        raise OSError("refused")

    deployment.executor._connect = refuse  # type: ignore[method-assign]

    async def main() -> None:
        delivery = (await deployment.claim())["audit/dockhand_event"]
        with pytest.raises(DeliveryDeferred):
            await deployment.run(delivery)
        await deployment.queue.release(delivery)
        [again] = await deployment.queue.claim({delivery.handler_id: 1})
        assert (again.attempts, again.handed_out) == (0, None)

    asyncio.run(main())
    assert deployment.sent == []


def test_a_task_is_sent_once_though_another_process_takes_over(
    deployment: InProcessDeployment,
) -> None:
    """The process that claims the delivery next waits for the task that was sent before."""
    deployment.on_send = lambda delivery: None  # no worker runs the task yet

    async def main() -> None:
        delivery = (await deployment.claim())["audit/dockhand_event"]
        first = asyncio.create_task(deployment.run(delivery))
        while not deployment.sent:
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(DeliveryDeferred):
            await first
        deployment.clock.now += 16  # the first process's lease has ended
        other = deployment.new_queue("other")
        await other.register([delivery.handler])
        [taken] = await other.claim({delivery.handler_id: 1})
        assert taken.handed_out == deployment.clock.start
        assert taken.attempts == 0
        deployment.run_task(taken)
        await deployment.executor.run(taken, other, lambda: None)

    asyncio.run(main())
    assert len(deployment.sent) == 1
    assert len(deployment.plugin.events) == 1


@pytest.mark.parametrize("started", [False, True])
def test_a_lost_task_fails_only_if_it_had_started(
    deployment: InProcessDeployment, started: bool
) -> None:
    """A lost task that never started does not count as an attempt, and its delivery is deferred."""

    def lose(delivery: ClaimedDelivery) -> None:
        if started:
            deployment.app.backend.store_result(_task_id(delivery), None, "STARTED")

    deployment.on_send = lose

    async def main() -> ClaimedDelivery:
        delivery = (await deployment.claim())["audit/dockhand_event"]
        waiting = asyncio.create_task(deployment.run(delivery))
        while not deployment.sent:
            await asyncio.sleep(0.01)
        deployment.clock.now += 14  # the task may still be running
        await asyncio.sleep(0.6)
        assert not waiting.done()
        deployment.clock.now += 2
        with pytest.raises(TaskFailed if started else DeliveryDeferred):
            await waiting
        return delivery

    delivery = asyncio.run(main())
    with deployment.inbox.database.reading() as connection:
        [(handed,)] = connection.execute(
            "SELECT handed FROM deliveries WHERE handler = ?", (delivery.handler_id,)
        ).fetchall()
    assert (handed is not None) == started


def test_an_unavailable_backend_does_not_fail_the_task(deployment: InProcessDeployment) -> None:
    polls = 0
    kind = type(deployment.app.backend)  # each thread has its own backend, so patch the class
    real = kind.get_task_meta

    def unavailable(*arguments: Any, **options: Any) -> Any:
        nonlocal polls
        polls += 1
        deployment.clock.now += 60  # long past the deadline
        if polls < 3:
            raise OSError("refused")
        return real(*arguments, **options)

    async def main() -> None:
        await deployment.run((await deployment.claim())["audit/dockhand_event"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dockhand_celery.executor._RETRY_WAIT", 0.01)
        patch.setattr(kind, "get_task_meta", unavailable)
        asyncio.run(main())
    assert polls == 3
    assert len(deployment.plugin.events) == 1


def test_the_option_app_finds_the_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_tasks.py").write_text("from celery import Celery\napp = Celery('x')\nno = 1\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(_application("own_tasks:app"), Celery)
    for wrong, why in (
        ("own_tasks", "MODULE:NAME"),
        ("own_tasks:no", "not a Celery application"),
        ("own_tasks:absent", "AttributeError"),
        ("absent_tasks:app", "ModuleNotFoundError"),
    ):
        with pytest.raises(ConfigError, match=why):
            _application(wrong)


def test_the_readme_names_every_option_and_its_example_works(tmp_path: Path) -> None:
    text = README.read_text("utf-8")
    known = set(_arguments()._option_string_actions) - {"-h", "--help"}
    assert known <= set(re.findall(r"--[a-z][a-z-]+", text))
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, str(README), "exec"), names)
    assert "dockhand.handle" in names["app"].tasks
