"""From the inbox to the handlers: who is told of what, when, in which order, and how often."""

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
from receiving import Recorder, eventually

from dockhand_core import hookimpl

QUICK = Backoff(attempts=3, first=0.01)


class Told:
    """A handler that writes down what it is told, and does what a test says."""

    def __init__(self, then: Callable[[Any], object] = lambda event: None) -> None:
        self.ids: list[str] = []
        self._then = then

    @hookimpl
    def dockhand_event(self, event: Any) -> None:
        self.ids.append(event.id)
        self._then(event)


def test_each_hook_is_told_of_its_class(working: Any, event: Any, plugin: Any) -> None:
    every: list[Any] = []
    pushed: list[Any] = []
    deleted: list[Any] = []
    worker = working(
        {
            "audit": plugin(lambda event: every.append(event)),
            "scan": plugin(lambda event: pushed.append(event), "dockhand_manifest_pushed"),
            "gone": plugin(lambda event: deleted.append(event), "dockhand_tag_deleted"),
        }
    )
    sent = [event(id="push"), event(id="again")]
    worker.tell(*sent, connection="staging")
    eventually(lambda: worker.inbox.counts().waiting == 0)
    assert [each.id for each in every] == [each.id for each in pushed] == ["push", "again"]
    assert deleted == []
    assert every[0] == sent[0].model_copy(update={"connection": "staging"})
    assert set(worker.inbox.counts().handlers) == {
        "audit/dockhand_event", "scan/dockhand_manifest_pushed", "gone/dockhand_tag_deleted",
    }  # fmt: skip


def test_in_order_for_each_repository(working: Any, event: Any) -> None:
    """And never two at once of one repository."""
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

    worker = working({"slow": Slow()})
    for start in range(0, 300, 50):
        worker.tell(*(event(f"r{n % 7}", str(n)) for n in range(start, start + 50)))
    eventually(lambda: sum(map(len, seen.values())) == 300)
    assert twice == []
    assert all(found == sorted(found) for found in seen.values())
    assert len(seen) == 7


def test_a_repository_of_two_connections_is_two(working: Any, event: Any) -> None:
    release = threading.Event()
    told = Told(lambda event: event.connection == "one" and release.wait(20))
    worker = working({"told": told})
    worker.tell(event(id="a"), connection="one")
    eventually(lambda: told.ids == ["a"])
    worker.tell(event(id="b"), connection="two")
    worker.tell(event(id="c"), connection="one")
    eventually(lambda: told.ids == ["a", "b"])
    release.set()
    eventually(lambda: told.ids == ["a", "b", "c"])


def test_repositories_and_handlers_do_not_wait_for_each_other(working: Any, event: Any) -> None:
    everybody = threading.Barrier(8)  # 4 repositories of 2 handlers

    class Meets:
        @hookimpl
        def dockhand_event(self, event: Any) -> None:
            everybody.wait(20)

    worker = working({"one": Meets(), "two": Meets()})
    worker.tell(*(event(f"r{number}", str(number)) for number in range(4)))
    eventually(lambda: worker.inbox.counts().delivered == 8)
    assert not everybody.broken


def test_no_more_at_once_than_may_be(working: Any, event: Any) -> None:
    running, most = 0, 0

    class Counts:
        @hookimpl
        async def dockhand_event(self, event: Any) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1

    worker = working({"counts": Counts()}, concurrency=3)
    worker.tell(*(event(f"r{number}", str(number)) for number in range(30)))
    eventually(lambda: worker.inbox.counts().delivered == 30)
    assert most == 3


@pytest.mark.usefixtures("quick")
def test_a_failing_handler_holds_back_its_repository_alone(working: Any, event: Any) -> None:
    broken = threading.Event()
    broken.set()

    def fails(event: Any) -> None:
        if event.repository == "bad" and broken.is_set():
            raise OSError("no")

    failing, fine = Told(fails), Told()
    worker = working(
        {"failing": failing, "fine": fine}, backoff=Backoff(attempts=10**6, first=0.01, factor=1)
    )
    worker.tell(event("bad", "1"), event("bad", "2"), event("good", "3"))
    worker.tell(event("good", "4"))
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


@pytest.mark.usefixtures("quick")
def test_a_dead_letter_after_the_last_attempt(
    working: Any, event: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(event: Any) -> None:
        if event.id == "bad":
            raise LookupError("what is wrong")

    told = Told(fails)
    worker = working({"told": told}, backoff=QUICK)
    worker.tell(event(id="bad"), event(id="next"), connection="staging")
    eventually(lambda: worker.inbox.counts().waiting == 0)
    assert told.ids == ["bad", "bad", "bad", "next"]
    [letter] = worker.inbox.letters.held()
    assert letter.reason == "LookupError: what is wrong"
    assert (letter.handler, letter.attempts) == ("told/dockhand_event", 3)
    assert letter.connection == "staging"
    assert letter.event.event().id == "bad"
    assert letter.what == "ManifestPushed team/app bad"
    counts = worker.inbox.counts()
    assert (counts.delivered, counts.failed, counts.dead, counts.letters) == (1, 3, 1, 1)
    failures = [each for each in caplog.records if "failed at event" in each.getMessage()]
    assert len(failures) == 3
    assert all(each.exc_info for each in failures)


@pytest.mark.usefixtures("quick")
def test_each_wait_is_longer(working: Any, event: Any) -> None:
    at: list[float] = []

    def fails(event: Any) -> None:
        at.append(time.monotonic())
        raise OSError

    worker = working({"told": Told(fails)}, backoff=Backoff(attempts=3, first=0.1, factor=5))
    worker.tell(event())
    eventually(lambda: worker.inbox.counts().letters == 1)
    first, second = at[1] - at[0], at[2] - at[1]
    assert 0.08 <= first < 0.4
    assert 0.4 <= second < 2.0


def exits(event: Any) -> None:
    sys.exit("enough")


def generator_exit(event: Any) -> None:
    raise GeneratorExit


def stop_iteration(event: Any) -> None:
    raise StopIteration


class Final(BaseException):
    """What no `except Exception` sees."""


def final(event: Any) -> None:
    raise Final("x")


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("it cannot be said")


def speechless(event: Any) -> None:
    raise Speechless


def half_a_character(event: Any) -> None:
    raise ValueError("half \ud83d")


def cancelled(event: Any) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "raises",
    [
        exits, generator_exit, stop_iteration, final, speechless, half_a_character, cancelled,
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.usefixtures("quick")
def test_whatever_a_handler_raises(
    working: Any, event: Any, plugin: Any, raises: Callable[[Any], None], is_async: bool
) -> None:
    """It is a failure like others: the event is tried again, given up, and the next one follows."""
    calls: list[str] = []

    def function(event: Any) -> None:
        calls.append(event.id)
        if event.id == "bad":
            raises(event)

    async def coroutine(event: Any) -> None:
        function(event)

    other = Recorder()
    worker = working(
        {"raises": plugin(coroutine if is_async else function), "other": other}, backoff=QUICK
    )
    worker.tell(event(id="bad"), event(id="next"))
    eventually(lambda: len(other.events) == 2)
    eventually(lambda: calls == ["bad", "bad", "bad", "next"], 3.0)
    eventually(lambda: worker.inbox.counts().waiting == 0)
    [letter] = worker.inbox.letters.held()
    assert letter.handler == "raises/dockhand_event"
    assert letter.reason


def test_a_function_that_gives_a_coroutine(working: Any, event: Any, plugin: Any) -> None:
    told: list[str] = []

    async def later(event: Any) -> None:
        await asyncio.sleep(0)
        told.append(event.id)

    worker = working({"lazy": plugin(lambda event: later(event))})
    worker.tell(event(id="one"))
    eventually(lambda: worker.inbox.counts().delivered == 1)
    assert told == ["one"]


def test_async_handlers_run_in_the_loop_and_others_do_not(
    working: Any, event: Any, plugin: Any
) -> None:
    threads: dict[str, int] = {}

    def function(event: Any) -> None:
        threads["function"] = threading.get_ident()

    async def coroutine(event: Any) -> None:
        threads["coroutine"] = threading.get_ident()

    worker = working({"a": plugin(function), "b": plugin(coroutine)})
    worker.tell(event())
    eventually(lambda: len(threads) == 2)

    async def ident() -> int:
        return threading.get_ident()

    loop = worker.run(ident())
    assert threads["coroutine"] == loop
    assert threads["function"] not in {loop, threading.get_ident()}


@pytest.mark.parametrize("is_async", [False, True])
def test_context_variables(working: Any, event: Any, plugin: Any, is_async: bool) -> None:
    """A call sees the variables of whoever started the dispatcher, and leaves nothing behind."""
    variable = contextvars.ContextVar("variable", default="nothing")
    seen: list[str] = []

    def function(event: Any) -> None:
        seen.append(variable.get())
        variable.set("left behind")

    async def coroutine(event: Any) -> None:
        function(event)

    worker = working({"context": plugin(coroutine if is_async else function)})
    worker.tell(event(id="one"), event(id="two"), event("other/app", "three"))
    eventually(lambda: worker.inbox.counts().delivered == 3)
    assert seen == ["nothing"] * 3


def test_soon(working: Any, event: Any) -> None:
    """No one waits for the next look at the inbox."""
    at: list[float] = []
    waits: list[float] = []
    worker = working({"told": Told(lambda event: at.append(time.monotonic()))})
    for number in range(10):
        started = time.monotonic()
        worker.tell(event(id=str(number)))
        eventually(lambda: len(at) == len(waits) + 1)
        waits.append(at[-1] - started)
    assert sorted(waits)[8] < 0.2, waits


def test_what_another_process_stored(working: Any, event: Any, tmp_path: Path) -> None:
    told = Told()
    worker = working({"told": told})
    eventually(lambda: worker.inbox.counts().handlers)
    other = Inbox(tmp_path / "inbox.db")
    asyncio.run(other.take("", [event(id="one")]))
    other.close()
    eventually(lambda: told.ids == ["one"], 3.0)


def test_a_new_handler_starts_with_the_next_event(working: Any, event: Any) -> None:
    old, new = Told(), Told()
    first = working({"old": old})
    first.tell(event(id="one"))
    eventually(lambda: old.ids == ["one"])
    first.stop()
    asyncio.run(first.inbox.take("", [event(id="two")]))  # nobody works
    second = working({"old": old, "new": new})
    second.tell(event(id="three"))
    eventually(lambda: old.ids == ["one", "two", "three"] and new.ids == ["three"])


def test_one_lane_does_not_take_all_the_time(
    working: Any, event: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many repositories each gets its turn, though one has ever more."""
    monkeypatch.setattr("dockhand_webhook.dispatch.dispatcher._TURN", 0.02)
    told = Told(lambda event: time.sleep(0.005))
    worker = working({"told": told}, concurrency=1)
    worker.tell(*(event("busy", f"b{number}") for number in range(60)), event("calm", "calm"))
    eventually(lambda: len(told.ids) == 61)
    assert told.ids.index("calm") < 40
    assert [each for each in told.ids if each != "calm"] == [f"b{n}" for n in range(60)]
