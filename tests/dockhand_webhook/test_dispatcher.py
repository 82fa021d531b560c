"""The dispatcher: the calls of handlers, their order, concurrency, failures and retries."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dockhand_webhook import Backoff, Inbox
from webhook_receiver import EventRecorder, eventually

from dockhand_core import hookimpl

QUICK = Backoff(attempts=3, first=0.01)


class RecordingHandler:
    """A handler that records the ids of events, and then calls a function of the test."""

    def __init__(self, action: Callable[[Any], object] = lambda event: None) -> None:
        self.ids: list[str] = []
        self._action = action

    @hookimpl
    def dockhand_event(self, event: Any) -> None:
        self.ids.append(event.id)
        self._action(event)


def test_each_hook_is_called_for_its_event_class(
    start_worker: Any, make_event: Any, make_plugin: Any
) -> None:
    every: list[Any] = []
    pushed: list[Any] = []
    deleted: list[Any] = []
    worker = start_worker(
        {
            "audit": make_plugin(lambda event: every.append(event)),
            "scan": make_plugin(lambda event: pushed.append(event), "dockhand_manifest_pushed"),
            "gone": make_plugin(lambda event: deleted.append(event), "dockhand_tag_deleted"),
        }
    )
    sent = [make_event(id="push"), make_event(id="again")]
    worker.store(*sent, connection="staging")
    eventually(lambda: worker.inbox.counts().waiting == 0)
    assert [each.id for each in every] == [each.id for each in pushed] == ["push", "again"]
    assert deleted == []
    assert every[0] == sent[0].model_copy(update={"connection": "staging"})
    assert set(worker.inbox.counts().handlers) == {
        "audit/dockhand_event", "scan/dockhand_manifest_pushed", "gone/dockhand_tag_deleted",
    }  # fmt: skip


def test_events_of_a_repository_are_delivered_in_order(start_worker: Any, make_event: Any) -> None:
    """The events of one repository are also delivered one at a time."""
    running: set[str] = set()
    twice: list[str] = []
    seen: dict[str, list[int]] = defaultdict(list)

    class Slow:
        @hookimpl
        async def dockhand_event(self, event: Any) -> None:
            if event.repository in running:
                twice.append(event.repository)
            running.add(event.repository)
            await asyncio.sleep(0.001)
            running.discard(event.repository)
            seen[event.repository].append(int(event.id))

    worker = start_worker({"slow": Slow()})
    for start in range(0, 300, 50):
        worker.store(*(make_event(f"r{n % 7}", str(n)) for n in range(start, start + 50)))
    eventually(lambda: sum(map(len, seen.values())) == 300)
    assert twice == []
    assert all(found == sorted(found) for found in seen.values())
    assert len(seen) == 7


def test_connections_do_not_share_the_order_of_a_repository(
    start_worker: Any, make_event: Any
) -> None:
    release = threading.Event()
    recorder = RecordingHandler(lambda event: event.connection == "one" and release.wait(20))
    worker = start_worker({"recorder": recorder})
    worker.store(make_event(id="a"), connection="one")
    eventually(lambda: recorder.ids == ["a"])
    worker.store(make_event(id="b"), connection="two")
    worker.store(make_event(id="c"), connection="one")
    eventually(lambda: recorder.ids == ["a", "b"])
    release.set()
    eventually(lambda: recorder.ids == ["a", "b", "c"])


def test_repositories_and_handlers_do_not_wait_for_each_other(
    start_worker: Any, make_event: Any
) -> None:
    everybody = threading.Barrier(8)  # 2 handlers with 4 repositories each

    class Meets:
        @hookimpl
        def dockhand_event(self, event: Any) -> None:
            everybody.wait(20)

    worker = start_worker({"one": Meets(), "two": Meets()})
    worker.store(*(make_event(f"r{number}", str(number)) for number in range(4)))
    eventually(lambda: worker.inbox.counts().delivered == 8)
    assert not everybody.broken


def test_concurrency_limits_the_repositories_in_progress(
    start_worker: Any, make_event: Any
) -> None:
    running, most = 0, 0

    class Counts:
        @hookimpl
        async def dockhand_event(self, event: Any) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1

    worker = start_worker({"counts": Counts()}, concurrency=3)
    worker.store(*(make_event(f"r{number}", str(number)) for number in range(30)))
    eventually(lambda: worker.inbox.counts().delivered == 30)
    assert most == 3


@pytest.mark.usefixtures("fast_polling")
def test_a_failing_handler_delays_only_the_repository_it_fails_at(
    start_worker: Any, make_event: Any
) -> None:
    broken = threading.Event()
    broken.set()

    def fails(event: Any) -> None:
        if event.repository == "bad" and broken.is_set():
            raise OSError("no")

    failing, fine = RecordingHandler(fails), RecordingHandler()
    worker = start_worker(
        {"failing": failing, "fine": fine}, backoff=Backoff(attempts=10**6, first=0.01, factor=1)
    )
    worker.store(make_event("bad", "1"), make_event("bad", "2"), make_event("good", "3"))
    worker.store(make_event("good", "4"))
    eventually(lambda: {"3", "4"} <= set(failing.ids) and len(fine.ids) == 4)
    eventually(lambda: failing.ids.count("1") > 3)
    assert "2" not in failing.ids
    assert sorted(fine.ids) == ["1", "2", "3", "4"]
    broken.clear()
    eventually(lambda: worker.inbox.counts().waiting == 0)
    assert failing.ids.count("2") == 1
    counts = worker.inbox.counts().handlers["failing/dockhand_event"]
    assert (counts.delivered, counts.dead) == (4, 0)
    assert counts.failed == failing.ids.count("1") - 1


@pytest.mark.usefixtures("fast_polling")
def test_an_event_becomes_a_dead_letter_after_the_last_attempt(
    start_worker: Any, make_event: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(event: Any) -> None:
        if event.id == "bad":
            raise LookupError("what is wrong")

    recorder = RecordingHandler(fails)
    worker = start_worker({"recorder": recorder}, backoff=QUICK)
    worker.store(make_event(id="bad"), make_event(id="next"), connection="staging")
    eventually(lambda: worker.inbox.counts().waiting == 0)
    assert recorder.ids == ["bad", "bad", "bad", "next"]
    [letter] = worker.inbox.dead_letters.page()
    assert letter.reason == "LookupError: what is wrong"
    assert (letter.handler, letter.attempts) == ("recorder/dockhand_event", 3)
    assert letter.connection == "staging"
    assert letter.event.deserialize().id == "bad"
    assert letter.summary == "ManifestPushed team/app bad"
    counts = worker.inbox.counts()
    assert (counts.delivered, counts.failed, counts.dead, counts.dead_letters) == (1, 3, 1, 1)
    failures = [each for each in caplog.records if "failed at event" in each.getMessage()]
    assert len(failures) == 3
    assert all(each.exc_info for each in failures)


@pytest.mark.usefixtures("fast_polling")
def test_each_retry_waits_longer(start_worker: Any, make_event: Any) -> None:
    at: list[float] = []

    def fails(event: Any) -> None:
        at.append(time.monotonic())
        raise OSError

    worker = start_worker(
        {"recorder": RecordingHandler(fails)}, backoff=Backoff(attempts=3, first=0.1, factor=5)
    )
    worker.store(make_event())
    eventually(lambda: worker.inbox.counts().dead_letters == 1)
    first, second = at[1] - at[0], at[2] - at[1]
    assert 0.08 <= first < 0.4
    assert 0.4 <= second < 2.0


def exits(event: Any) -> None:
    sys.exit("enough")


def generator_exit(event: Any) -> None:
    raise GeneratorExit


def stop_iteration(event: Any) -> None:
    raise StopIteration


class NotAnException(BaseException):
    """An exception that `except Exception` does not catch."""


def base_exception(event: Any) -> None:
    raise NotAnException("x")


class WithoutText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def without_text(event: Any) -> None:
    raise WithoutText


def lone_surrogate(event: Any) -> None:
    raise ValueError("lone \ud83d")


def cancelled(event: Any) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "raises",
    [
        exits, generator_exit, stop_iteration, base_exception, without_text, lone_surrogate,
        cancelled,
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.usefixtures("fast_polling")
def test_any_exception_of_a_handler_is_a_failure(
    start_worker: Any,
    make_event: Any,
    make_plugin: Any,
    raises: Callable[[Any], None],
    is_async: bool,
) -> None:
    """The event is retried and becomes a dead letter; then the next event is delivered."""
    calls: list[str] = []

    def function(event: Any) -> None:
        calls.append(event.id)
        if event.id == "bad":
            raises(event)

    async def coroutine(event: Any) -> None:
        function(event)

    other = EventRecorder()
    worker = start_worker(
        {"raises": make_plugin(coroutine if is_async else function), "other": other}, backoff=QUICK
    )
    worker.store(make_event(id="bad"), make_event(id="next"))
    eventually(lambda: len(other.events) == 2)
    eventually(lambda: calls == ["bad", "bad", "bad", "next"], 3.0)
    eventually(lambda: worker.inbox.counts().waiting == 0)
    [letter] = worker.inbox.dead_letters.page()
    assert letter.handler == "raises/dockhand_event"
    assert letter.reason


def test_a_function_that_returns_a_coroutine(
    start_worker: Any, make_event: Any, make_plugin: Any
) -> None:
    called: list[str] = []

    async def later(event: Any) -> None:
        await asyncio.sleep(0)
        called.append(event.id)

    worker = start_worker({"lazy": make_plugin(lambda event: later(event))})
    worker.store(make_event(id="one"))
    eventually(lambda: worker.inbox.counts().delivered == 1)
    assert called == ["one"]


def test_async_handlers_run_in_the_event_loop_and_others_in_threads(
    start_worker: Any, make_event: Any, make_plugin: Any
) -> None:
    threads: dict[str, int] = {}

    def function(event: Any) -> None:
        threads["function"] = threading.get_ident()

    async def coroutine(event: Any) -> None:
        threads["coroutine"] = threading.get_ident()

    worker = start_worker({"a": make_plugin(function), "b": make_plugin(coroutine)})
    worker.store(make_event())
    eventually(lambda: len(threads) == 2)

    async def ident() -> int:
        return threading.get_ident()

    loop = worker.run(ident())
    assert threads["coroutine"] == loop
    assert threads["function"] not in {loop, threading.get_ident()}


@pytest.mark.parametrize("is_async", [False, True])
def test_calls_do_not_share_context_variables(
    start_worker: Any, make_event: Any, make_plugin: Any, is_async: bool
) -> None:
    """A call sees the context in which the dispatcher was started, and leaves no changes behind."""
    variable = contextvars.ContextVar("variable", default="initial")
    seen: list[str] = []

    def function(event: Any) -> None:
        seen.append(variable.get())
        variable.set("left behind")

    async def coroutine(event: Any) -> None:
        function(event)

    worker = start_worker({"context": make_plugin(coroutine if is_async else function)})
    worker.store(make_event(id="one"), make_event(id="two"), make_event("other/app", "three"))
    eventually(lambda: worker.inbox.counts().delivered == 3)
    assert seen == ["initial"] * 3


def test_a_stored_event_is_delivered_before_the_next_poll(
    start_worker: Any, make_event: Any
) -> None:
    """`wake` makes the dispatcher claim deliveries at once."""
    called_at: list[float] = []
    waits: list[float] = []
    worker = start_worker(
        {"recorder": RecordingHandler(lambda event: called_at.append(time.monotonic()))}
    )
    for number in range(10):
        started = time.monotonic()
        worker.store(make_event(id=str(number)))
        eventually(lambda: len(called_at) == len(waits) + 1)
        waits.append(called_at[-1] - started)
    assert sorted(waits)[8] < 0.2, waits


def test_an_event_that_another_process_stored_is_delivered(
    start_worker: Any, make_event: Any, tmp_path: Path
) -> None:
    recorder = RecordingHandler()
    worker = start_worker({"recorder": recorder})
    eventually(lambda: worker.inbox.counts().handlers)
    other = Inbox(tmp_path / "inbox.db")
    asyncio.run(other.store("", [make_event(id="one")]))
    other.close()
    eventually(lambda: recorder.ids == ["one"], 3.0)


def test_a_new_handler_starts_with_the_next_event(start_worker: Any, make_event: Any) -> None:
    old, new = RecordingHandler(), RecordingHandler()
    first = start_worker({"old": old})
    first.store(make_event(id="one"))
    eventually(lambda: old.ids == ["one"])
    first.stop()
    asyncio.run(first.inbox.store("", [make_event(id="two")]))  # while no dispatcher runs
    second = start_worker({"old": old, "new": new})
    second.store(make_event(id="three"))
    eventually(lambda: old.ids == ["one", "two", "three"] and new.ids == ["three"])


def test_a_busy_repository_does_not_keep_the_slot_of_others(
    start_worker: Any, make_event: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository with many events gives up its slot after `_MAX_TURN`."""
    monkeypatch.setattr("dockhand_webhook.dispatch.dispatcher._MAX_TURN", 0.02)
    recorder = RecordingHandler(lambda event: time.sleep(0.005))
    worker = start_worker({"recorder": recorder}, concurrency=1)
    worker.store(
        *(make_event("busy", f"b{number}") for number in range(60)), make_event("calm", "calm")
    )
    eventually(lambda: len(recorder.ids) == 61)
    assert recorder.ids.index("calm") < 40
    assert [each for each in recorder.ids if each != "calm"] == [f"b{n}" for n in range(60)]
