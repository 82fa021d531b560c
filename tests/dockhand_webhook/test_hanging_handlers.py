"""Handlers that hang, dispatchers that stop, and outcomes that cannot be recorded at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from dockhand_webhook import Backoff, DeliveryDeferred, Dispatcher, Inbox
from webhook_receiver import eventually

QUICK = Backoff(attempts=3, first=0.01)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Provide an event that lets the hanging handlers return when it is set."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def make_hanging_plugin(release: threading.Event, make_plugin: Any) -> Callable[..., Any]:
    """Provide a function that makes a plugin which hangs at events of repositories `hang…`.

    The function returns the plugin, and a list to which the plugin adds the ids of its events.
    """

    def make() -> Any:
        called: list[str] = []

        def function(event: Any) -> None:
            called.append(event.id)
            if event.repository.startswith("hang"):
                release.wait(30)

        return make_plugin(function), called

    return make


@pytest.mark.usefixtures("fast_polling")
def test_an_async_handler_that_hangs_is_cancelled(
    start_worker: Any, make_event: Any, make_plugin: Any
) -> None:
    calls: list[str] = []
    cleaned: list[str] = []

    async def handler(event: Any) -> None:
        calls.append(event.id)
        if event.id == "hang":
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(event.id)

    worker = start_worker({"slow": make_plugin(handler)}, timeout=0.05, backoff=QUICK)
    worker.store(make_event(id="hang"), make_event(id="next"))
    eventually(lambda: calls == ["hang", "hang", "hang", "next"])
    eventually(lambda: worker.inbox.counts().waiting == 0)
    assert cleaned == ["hang"] * 3
    [letter] = worker.inbox.dead_letters.page()
    assert "did not return within 0.05 s" in letter.reason


def test_an_async_handler_that_ignores_its_cancellation_is_waited_for(
    start_worker: Any, make_event: Any, make_plugin: Any, release: threading.Event,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The handler must not run twice at once, so its partition stays claimed."""
    monkeypatch.setattr("dockhand_webhook.dispatch.invoke._GRACE", 0.02)
    calls: list[str] = []

    async def stubborn(event: Any) -> None:
        calls.append(event.id)
        while not release.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                continue

    worker = start_worker({"stubborn": make_plugin(stubborn)}, timeout=0.05, concurrency=1)
    worker.store(make_event("hang", "one"), make_event("hang", "two"), make_event("hang2", "other"))
    eventually(lambda: "still runs" in caplog.text)
    eventually(lambda: calls == ["one", "other"])
    release.set()
    eventually(lambda: worker.inbox.counts().delivered == 3)
    assert calls == ["one", "other", "two"]


def test_a_function_that_hangs_keeps_its_partition(
    start_worker: Any, make_event: Any, make_hanging_plugin: Any, release: threading.Event,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    plugin, called = make_hanging_plugin()
    worker = start_worker({"slow": plugin}, timeout=0.05, lease=0.3)
    worker.store(make_event("hang", "one"), make_event("hang", "two"), make_event("other", "three"))
    eventually(lambda: "still runs" in caplog.text)
    time.sleep(0.6)  # after two leases, the function has not been called again
    assert sorted(called) == ["one", "three"]
    [record] = [each for each in caplog.records if "still runs" in each.getMessage()]
    assert record.levelname == "ERROR"
    assert "slow/dockhand_event" in record.getMessage()
    assert ":hang" in record.getMessage()
    release.set()
    eventually(lambda: worker.inbox.counts().delivered == 3)
    assert sorted(called) == ["one", "three", "two"]
    counts = worker.inbox.counts()
    assert (counts.failed, counts.dead_letters) == (0, 0)


def test_hanging_handlers_give_up_their_slots(
    start_worker: Any, make_event: Any, make_hanging_plugin: Any, release: threading.Event
) -> None:
    plugin, called = make_hanging_plugin()
    worker = start_worker({"slow": plugin}, timeout=0.05, concurrency=2)
    worker.store(*(make_event(f"hang{number}", f"h{number}") for number in range(6)))
    worker.store(*(make_event(f"fine{number}", f"f{number}") for number in range(4)))
    eventually(lambda: len(called) == 10)
    assert worker.inbox.counts().delivered <= 4
    release.set()
    eventually(lambda: worker.inbox.counts().delivered == 10)
    assert len(called) == 10
    # each slot was released exactly once
    assert set(worker.dispatcher._used_slots.values()) == {0}


def test_stop_waits_for_running_handlers(
    start_worker: Any, make_event: Any, make_hanging_plugin: Any, release: threading.Event
) -> None:
    plugin, called = make_hanging_plugin()
    worker = start_worker({"slow": plugin})
    worker.store(make_event("hang", "one"), make_event("hang", "two"))
    eventually(lambda: called == ["one"])
    threading.Timer(0.1, release.set).start()
    worker.stop(10.0)
    assert called == ["one"]  # no further delivery was started
    counts = worker.inbox.counts()
    assert (counts.delivered, counts.waiting) == (1, 1)


def test_stop_cancels_async_handlers_and_their_events_are_delivered_later(
    start_worker: Any, make_event: Any, make_plugin: Any
) -> None:
    calls: list[str] = []

    async def handler(event: Any) -> None:
        calls.append(event.id)
        if len(calls) == 1:
            await asyncio.Event().wait()

    first = start_worker({"slow": make_plugin(handler)})
    first.store(make_event(id="one"))
    eventually(lambda: calls == ["one"])
    first.stop(0.05)
    assert first.inbox.counts().failed == 0
    started = time.monotonic()
    second = start_worker({"slow": make_plugin(handler)})
    eventually(lambda: second.inbox.counts().delivered == 1)
    assert time.monotonic() - started < 5.0  # did not wait for the end of the lease
    assert calls == ["one", "one"]
    assert second.inbox.counts().failed == 0


def test_stop_does_not_wait_for_a_function_that_hangs(
    start_worker: Any, make_event: Any, make_hanging_plugin: Any, release: threading.Event
) -> None:
    """Another process claims the delivery when the lease ends, and the attempt counts."""
    plugin, called = make_hanging_plugin()
    first = start_worker({"slow": plugin}, lease=0.5)
    first.store(make_event("hang", "one"))
    eventually(lambda: called == ["one"])
    started = time.monotonic()
    first.stop(0.05)
    assert time.monotonic() - started < 4.0
    again, calls = make_hanging_plugin()
    second = start_worker({"slow": again}, lease=0.5)
    release.set()
    eventually(lambda: second.inbox.counts().delivered == 1)
    assert calls == ["one"]


def test_stop_releases_partitions_claimed_meanwhile(
    start_worker: Any, make_event: Any, make_plugin: Any, tmp_path: Path,
    write_locked: Callable[[Path], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Other processes can claim them at once, and no attempt counts: no handler was called."""
    monkeypatch.setattr("dockhand_webhook.inbox.database._BUSY_TIMEOUT", 10.0)
    monkeypatch.setattr(
        "dockhand_webhook.dispatch.dispatcher._POLL_INTERVAL", 300.0
    )  # so only `wake` makes the dispatcher claim
    calls: list[str] = []
    first = start_worker(
        {"recorder": make_plugin(lambda event: calls.append(event.id))}, lease=900.0
    )
    claiming, claim = threading.Event(), first.dispatcher._queue.claim

    async def claim_and_signal(*arguments: Any) -> Any:
        claiming.set()
        return await claim(*arguments)

    eventually(lambda: first.inbox.counts().handlers)
    asyncio.run(first.inbox.store("", [make_event(id="one")]))
    with write_locked(tmp_path / "inbox.db"):
        first.dispatcher._queue.claim = claim_and_signal
        first.loop.call_soon_threadsafe(first.dispatcher.wake)
        assert claiming.wait(20)
        stopping = asyncio.run_coroutine_threadsafe(first.dispatcher.stop(), first.loop)
        first.run(asyncio.sleep(0))  # lets `stop` start
    stopping.result(20)
    monkeypatch.undo()
    second = start_worker({"recorder": make_plugin(lambda event: calls.append(event.id))})
    eventually(lambda: second.inbox.counts().waiting == 0, 3.0)
    assert calls == ["one"]


@pytest.mark.parametrize("outcome", ["success", "failure"])
def test_an_outcome_that_cannot_be_recorded_is_recorded_later(
    start_worker: Any, make_event: Any, make_plugin: Any, inbox: Inbox, outcome: str,
    write_locked: Callable[[Path], AbstractContextManager[None]], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The inbox is locked when the handler ends; the handler is still called only once."""
    calls: list[str] = []
    running, finish = threading.Event(), threading.Event()

    def handler(event: Any) -> None:
        calls.append(event.id)
        running.set()
        finish.wait(20)
        if outcome == "failure":
            raise OSError("no")

    worker = start_worker({"recorder": make_plugin(handler)}, backoff=Backoff(attempts=1))
    worker.store(make_event(id="one"))
    assert running.wait(20)
    with write_locked(inbox.database.path):
        finish.set()
        eventually(lambda: "cannot be noted" in caplog.text)
        eventually(lambda: "deliveries wait" in caplog.text)
    eventually(lambda: inbox.counts().waiting == 0)
    assert calls == ["one"]
    counts = inbox.counts()
    expected = (1, 0, 0) if outcome == "success" else (0, 1, 1)
    assert (counts.delivered, counts.failed, counts.dead_letters) == expected


def test_a_deferred_delivery_is_tried_again_and_no_attempt_counts(
    inbox: Inbox, make_event: Any, run: Any
) -> None:
    attempts: list[int] = []

    class Busy:
        async def run(self, delivery: Any, queue: Any, on_hang: Any) -> None:
            attempts.append(delivery.attempts)
            if len(attempts) < 3:
                raise DeliveryDeferred(0.05)

        def close(self) -> None:
            attempts.append(-1)

    async def main() -> None:
        dispatcher = Dispatcher(
            inbox, ["x/dockhand_event"], Busy(), backoff=Backoff(attempts=1)  # type: ignore[arg-type]
        )  # fmt: skip
        await dispatcher.start()
        await inbox.store("", [make_event()])
        dispatcher.wake()
        async with asyncio.timeout(20):
            while (await asyncio.to_thread(inbox.counts)).delivered < 1:
                await asyncio.sleep(0.01)
        await dispatcher.stop()

    run(main())
    assert attempts == [0, 0, 0, -1]
    assert inbox.counts().dead_letters == 0
