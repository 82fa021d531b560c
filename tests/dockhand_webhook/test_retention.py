"""Retention of events, dead letters and handlers; the lag of deliveries."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from dockhand_webhook import Backoff, Inbox
from webhook_receiver import eventually

from dockhand_core import ConfigError

DAY = 86_400.0


def stored_events(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT connection, id FROM events ORDER BY seq").fetchall()


@pytest.fixture
def maintained_inbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Any) -> Any:
    """Open an inbox that uses the test's clock and runs its maintenance every 10 ms."""
    monkeypatch.setattr("dockhand_webhook.inbox.database._MAINTENANCE_INTERVAL", 0.01)
    opened = Inbox(tmp_path / "inbox.db", keep=DAY, keep_dead=3 * DAY, forget=7 * DAY, clock=clock)
    yield opened
    opened.close()


def test_events_are_kept_for_a_day(
    maintained_inbox: Inbox, clock: Any, make_event: Any, run: Any
) -> None:
    for name in ("one", "two"):
        run(maintained_inbox.store("", [make_event(id=name)]))
        clock.now += DAY / 2
    clock.now += 1
    path = maintained_inbox.database.path
    eventually(lambda: stored_events(path) == [("", "two")])
    clock.now += DAY
    eventually(lambda: stored_events(path) == [])
    run(maintained_inbox.store("", [make_event(id="one")]))  # not seen as a repetition any more
    assert maintained_inbox.counts().received == 3


def test_undelivered_events_and_those_of_dead_letters_are_kept_longer(
    maintained_inbox: Inbox, clock: Any, make_event: Any, run: Any
) -> None:
    queue = maintained_inbox.delivery_queue("a", Backoff(attempts=1), 1e9)
    [handler_id] = run(queue.register(["recorder/dockhand_event"])).values()
    run(maintained_inbox.store("", [make_event("r1", "waits"), make_event("r2", "dies")]))
    deliveries = {
        delivery.event.deserialize().id: delivery for delivery in run(queue.claim({handler_id: 9}))
    }
    run(queue.mark_failed(deliveries["dies"], "no"))
    clock.now += 2 * DAY
    run(maintained_inbox.store("", [make_event("r3", "new")]))
    clock.now += DAY + 1
    path = maintained_inbox.database.path
    # the dead letter and its event have expired
    eventually(lambda: stored_events(path) == [("", "waits"), ("", "new")])
    assert maintained_inbox.dead_letters.page() == []
    run(queue.mark_succeeded(deliveries["waits"]))
    eventually(lambda: ("", "waits") not in stored_events(path))


def test_handlers_that_no_process_registers_are_removed(
    maintained_inbox: Inbox, clock: Any, make_event: Any, run: Any
) -> None:
    gone = maintained_inbox.delivery_queue("a", Backoff(), 15.0)
    run(gone.register(["gone/dockhand_event"]))
    here = maintained_inbox.delivery_queue("b", Backoff(), 15.0)
    run(here.register(["here/dockhand_event"]))
    run(maintained_inbox.store("", [make_event()]))
    clock.now += 6 * DAY
    run(here.renew([]))
    clock.now += 1.1 * DAY
    eventually(lambda: set(maintained_inbox.counts().handlers) == {"here/dockhand_event"})
    assert maintained_inbox.counts().waiting == 1


def test_forget_handler_removes_its_deliveries(inbox: Inbox, make_event: Any, run: Any) -> None:
    names = ["gone/dockhand_event", "here/dockhand_event"]
    run(inbox.delivery_queue("a", Backoff(), 15.0).register(names))
    run(inbox.store("", [make_event("r1"), make_event("r1"), make_event("r2")]))
    assert inbox.forget_handler("gone/dockhand_event") == 3
    assert set(inbox.counts().handlers) == {"here/dockhand_event"}
    assert inbox.counts().waiting == 3
    with pytest.raises(ConfigError, match="no handler 'gone/dockhand_event'"):
        inbox.forget_handler("gone/dockhand_event")


def test_lag_is_the_time_since_the_oldest_undelivered_event(
    tmp_path: Path, clock: Any, make_event: Any, run: Any
) -> None:
    inbox = Inbox(tmp_path / "inbox.db", clock=clock)
    queue = inbox.delivery_queue("a", Backoff(), 15.0)
    [handler_id] = run(queue.register(["recorder/dockhand_event"])).values()
    assert inbox.counts().lag == 0.0
    run(inbox.store("", [make_event(id="one")]))
    clock.now += 60
    run(inbox.store("", [make_event("other/app", "two")]))
    clock.now += 5
    counts = inbox.counts()
    assert (counts.lag, counts.waiting) == (65.0, 2)
    assert counts.handlers["recorder/dockhand_event"].lag == 65.0
    [delivery, _] = run(queue.claim({handler_id: 9}))
    run(queue.mark_succeeded(delivery))
    assert inbox.counts().lag == 5.0
    inbox.close()
