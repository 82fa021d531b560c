"""Handlers that do not return, dispatchers that stop, and an inbox that cannot be written."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from dockhand_webhook import Backoff, Dispatcher, Inbox, NotNow
from receiving import eventually

QUICK = Backoff(attempts=3, first=0.01)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What handlers wait for that hang."""
    found = threading.Event()
    yield found
    found.set()


@pytest.fixture
def hanging(release: threading.Event, plugin: Any) -> Callable[..., Any]:
    """A plugin whose handler hangs at events of the repositories `hang…`, and those it began."""

    def made() -> Any:
        began: list[str] = []

        def function(event: Any) -> None:
            began.append(event.id)
            if event.repository.startswith("hang"):
                release.wait(30)

        return plugin(function), began

    return made


@pytest.mark.usefixtures("quick")
def test_an_async_handler_that_hangs_is_cancelled(working: Any, event: Any, plugin: Any) -> None:
    calls: list[str] = []
    cleaned: list[str] = []

    async def handler(event: Any) -> None:
        calls.append(event.id)
        if event.id == "hang":
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(event.id)

    worker = working({"slow": plugin(handler)}, timeout=0.05, backoff=QUICK)
    worker.tell(event(id="hang"), event(id="next"))
    eventually(lambda: calls == ["hang", "hang", "hang", "next"])
    eventually(lambda: worker.inbox.counts().waiting == 0)
    assert cleaned == ["hang"] * 3
    [letter] = worker.inbox.letters.held()
    assert "did not return within 0.05 s" in letter.reason


def test_an_async_handler_that_will_not_be_cancelled(
    working: Any, event: Any, plugin: Any, release: threading.Event,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """It is waited for, as it must not run twice."""
    monkeypatch.setattr("dockhand_webhook.dispatch.invoke._GRACE", 0.02)
    calls: list[str] = []

    async def stubborn(event: Any) -> None:
        calls.append(event.id)
        while not release.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                continue

    worker = working({"stubborn": plugin(stubborn)}, timeout=0.05, concurrency=1)
    worker.tell(event("hang", "one"), event("hang", "two"), event("hang2", "other"))
    eventually(lambda: "still runs" in caplog.text)
    eventually(lambda: calls == ["one", "other"])
    release.set()
    eventually(lambda: worker.inbox.counts().delivered == 3)
    assert calls == ["one", "other", "two"]


def test_a_function_that_hangs_keeps_its_lane(
    working: Any, event: Any, hanging: Any, release: threading.Event,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    plugin, began = hanging()
    worker = working({"slow": plugin}, timeout=0.05, lease=0.3)
    worker.tell(event("hang", "one"), event("hang", "two"), event("other", "three"))
    eventually(lambda: "still runs" in caplog.text)
    time.sleep(0.6)  # two leases: nobody takes it over, nor is it called again
    assert sorted(began) == ["one", "three"]
    [record] = [each for each in caplog.records if "still runs" in each.getMessage()]
    assert record.levelname == "ERROR"
    assert "slow/dockhand_event" in record.getMessage()
    assert ":hang" in record.getMessage()
    release.set()
    eventually(lambda: worker.inbox.counts().delivered == 3)
    assert sorted(began) == ["one", "three", "two"]
    counts = worker.inbox.counts()
    assert (counts.failed, counts.letters) == (0, 0)


def test_though_as_many_hang_as_may_run_others_go_on(
    working: Any, event: Any, hanging: Any, release: threading.Event
) -> None:
    plugin, began = hanging()
    worker = working({"slow": plugin}, timeout=0.05, concurrency=2)
    worker.tell(*(event(f"hang{number}", f"h{number}") for number in range(6)))
    worker.tell(*(event(f"fine{number}", f"f{number}") for number in range(4)))
    eventually(lambda: len(began) == 10)
    assert worker.inbox.counts().delivered <= 4
    release.set()
    eventually(lambda: worker.inbox.counts().delivered == 10)
    assert len(began) == 10
    # and there are no more places than before
    assert set(worker.dispatcher._used.values()) == {0}


def test_to_stop_waits_for_what_runs(
    working: Any, event: Any, hanging: Any, release: threading.Event
) -> None:
    plugin, began = hanging()
    worker = working({"slow": plugin})
    worker.tell(event("hang", "one"), event("hang", "two"))
    eventually(lambda: began == ["one"])
    threading.Timer(0.1, release.set).start()
    worker.stop(10.0)
    assert began == ["one"]  # nothing new was begun
    counts = worker.inbox.counts()
    assert (counts.delivered, counts.waiting) == (1, 1)


def test_to_stop_cancels_async_handlers_which_are_called_again(
    working: Any, event: Any, plugin: Any
) -> None:
    calls: list[str] = []

    async def handler(event: Any) -> None:
        calls.append(event.id)
        if len(calls) == 1:
            await asyncio.Event().wait()

    first = working({"slow": plugin(handler)})
    first.tell(event(id="one"))
    eventually(lambda: calls == ["one"])
    first.stop(0.05)
    assert first.inbox.counts().failed == 0
    started = time.monotonic()
    second = working({"slow": plugin(handler)})
    eventually(lambda: second.inbox.counts().delivered == 1)
    assert time.monotonic() - started < 5.0  # no lease had to end
    assert calls == ["one", "one"]
    assert second.inbox.counts().failed == 0


def test_to_stop_leaves_a_function_that_hangs(
    working: Any, event: Any, hanging: Any, release: threading.Event
) -> None:
    """Its lane is another's when the lease ends, and the attempt counts."""
    plugin, began = hanging()
    first = working({"slow": plugin}, lease=0.5)
    first.tell(event("hang", "one"))
    eventually(lambda: began == ["one"])
    started = time.monotonic()
    first.stop(0.05)
    assert time.monotonic() - started < 4.0
    again, calls = hanging()
    second = working({"slow": again}, lease=0.5)
    release.set()
    eventually(lambda: second.inbox.counts().delivered == 1)
    assert calls == ["one"]


def test_to_stop_lets_go_of_what_was_just_claimed(
    working: Any, event: Any, plugin: Any, tmp_path: Path,
    held: Callable[[Path], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What was never called needs no lease to end, and no attempt of it counts."""
    monkeypatch.setattr("dockhand_webhook.inbox.database._BUSY", 10.0)
    monkeypatch.setattr("dockhand_webhook.dispatch.dispatcher._POLL", 300.0)  # it is woken alone
    calls: list[str] = []
    first = working({"told": plugin(lambda event: calls.append(event.id))}, lease=900.0)
    claiming, claim = threading.Event(), first.dispatcher._lanes.claim

    async def claims(*arguments: Any) -> Any:
        claiming.set()
        return await claim(*arguments)

    eventually(lambda: first.inbox.counts().handlers)
    asyncio.run(first.inbox.take("", [event(id="one")]))
    with held(tmp_path / "inbox.db"):
        first.dispatcher._lanes.claim = claims
        first.loop.call_soon_threadsafe(first.dispatcher.wake)
        assert claiming.wait(20)
        stopping = asyncio.run_coroutine_threadsafe(first.dispatcher.stop(), first.loop)
        first.run(asyncio.sleep(0))  # by now it has begun to stop
    stopping.result(20)
    monkeypatch.undo()
    second = working({"told": plugin(lambda event: calls.append(event.id))})
    eventually(lambda: second.inbox.counts().waiting == 0, 3.0)
    assert calls == ["one"]


@pytest.mark.parametrize("outcome", ["success", "failure"])
def test_what_cannot_be_noted_is_not_done_again(
    working: Any, event: Any, plugin: Any, inbox: Inbox, outcome: str,
    held: Callable[[Path], AbstractContextManager[None]], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The disk fails while the handler runs: what it did is noted later, and it is called once."""
    calls: list[str] = []
    running, go_on = threading.Event(), threading.Event()

    def handler(event: Any) -> None:
        calls.append(event.id)
        running.set()
        go_on.wait(20)
        if outcome == "failure":
            raise OSError("no")

    worker = working({"told": plugin(handler)}, backoff=Backoff(attempts=1))
    worker.tell(event(id="one"))
    assert running.wait(20)
    with held(inbox.database.path):
        go_on.set()
        eventually(lambda: "cannot be noted" in caplog.text)
        eventually(lambda: "deliveries wait" in caplog.text)
    eventually(lambda: inbox.counts().waiting == 0)
    assert calls == ["one"]
    counts = inbox.counts()
    expected = (1, 0, 0) if outcome == "success" else (0, 1, 1)
    assert (counts.delivered, counts.failed, counts.letters) == expected


def test_a_runner_that_cannot_now(inbox: Inbox, event: Any, run: Any) -> None:
    """It is asked again after the time that it says, and that is no attempt."""
    asked: list[int] = []

    class Busy:
        async def run(self, job: Any, lanes: Any, hangs: Any) -> None:
            asked.append(job.attempts)
            if len(asked) < 3:
                raise NotNow(0.05)

        def close(self) -> None:
            asked.append(-1)

    async def main() -> None:
        dispatcher = Dispatcher(
            inbox, ["x/dockhand_event"], Busy(), backoff=Backoff(attempts=1)  # type: ignore[arg-type]
        )  # fmt: skip
        await dispatcher.start()
        await inbox.take("", [event()])
        dispatcher.wake()
        async with asyncio.timeout(20):
            while (await asyncio.to_thread(inbox.counts)).delivered < 1:
                await asyncio.sleep(0.01)
        await dispatcher.stop()

    run(main())
    assert asked == [0, 0, 0, -1]
    assert inbox.counts().letters == 0
