"""How long things are kept, by a clock that is set by hand; and how long they wait."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from dockhand_webhook import Backoff, Inbox
from receiving import eventually

from dockhand_core import ConfigError

DAY = 86_400.0


def stored(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT connection, id FROM events ORDER BY seq").fetchall()


@pytest.fixture
def tidied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Any) -> Any:
    """An inbox that is tidied all the time, by the test's clock."""
    monkeypatch.setattr("dockhand_webhook.inbox.database._PAUSE", 0.01)
    found = Inbox(tmp_path / "inbox.db", keep=DAY, keep_dead=3 * DAY, forget=7 * DAY, clock=clock)
    yield found
    found.close()


def test_events_are_kept_for_a_time(tidied: Inbox, clock: Any, event: Any, run: Any) -> None:
    for name in ("one", "two"):
        run(tidied.take("", [event(id=name)]))
        clock.now += DAY / 2
    clock.now += 1
    path = tidied.database.path
    eventually(lambda: stored(path) == [("", "two")])
    clock.now += DAY
    eventually(lambda: stored(path) == [])
    run(tidied.take("", [event(id="one")]))  # known no more
    assert tidied.counts().received == 3


def test_what_is_not_delivered_is_kept(tidied: Inbox, clock: Any, event: Any, run: Any) -> None:
    lanes = tidied.lanes("a", Backoff(attempts=1), 1e9)
    [number] = run(lanes.register(["told/dockhand_event"])).values()
    run(tidied.take("", [event("r1", "waits"), event("r2", "dies")]))
    jobs = {job.stored.event().id: job for job in run(lanes.claim({number: 9}))}
    run(lanes.failed(jobs["dies"], "no"))
    clock.now += 2 * DAY
    run(tidied.take("", [event("r3", "new")]))
    clock.now += DAY + 1
    path = tidied.database.path
    # the letter lives as long as it is kept, and its event with it
    eventually(lambda: stored(path) == [("", "waits"), ("", "new")])
    assert tidied.letters.held() == []
    run(lanes.succeeded(jobs["waits"]))
    eventually(lambda: ("", "waits") not in stored(path))


def test_handlers_that_nobody_has_are_forgotten(
    tidied: Inbox, clock: Any, event: Any, run: Any
) -> None:
    gone = tidied.lanes("a", Backoff(), 15.0)
    run(gone.register(["gone/dockhand_event"]))
    here = tidied.lanes("b", Backoff(), 15.0)
    run(here.register(["here/dockhand_event"]))
    run(tidied.take("", [event()]))
    clock.now += 6 * DAY
    run(here.renew([]))
    clock.now += 1.1 * DAY
    eventually(lambda: set(tidied.counts().handlers) == {"here/dockhand_event"})
    assert tidied.counts().waiting == 1


def test_to_forget_a_handler(inbox: Inbox, event: Any, run: Any) -> None:
    names = ["gone/dockhand_event", "here/dockhand_event"]
    run(inbox.lanes("a", Backoff(), 15.0).register(names))
    run(inbox.take("", [event("r1"), event("r1"), event("r2")]))
    assert inbox.forget_handler("gone/dockhand_event") == 3
    assert set(inbox.counts().handlers) == {"here/dockhand_event"}
    assert inbox.counts().waiting == 3
    with pytest.raises(ConfigError, match="no handler 'gone/dockhand_event'"):
        inbox.forget_handler("gone/dockhand_event")


def test_how_long_the_oldest_waits(tmp_path: Path, clock: Any, event: Any, run: Any) -> None:
    inbox = Inbox(tmp_path / "inbox.db", clock=clock)
    lanes = inbox.lanes("a", Backoff(), 15.0)
    [number] = run(lanes.register(["told/dockhand_event"])).values()
    assert inbox.counts().lag == 0.0
    run(inbox.take("", [event(id="one")]))
    clock.now += 60
    run(inbox.take("", [event("other/app", "two")]))
    clock.now += 5
    counts = inbox.counts()
    assert (counts.lag, counts.waiting) == (65.0, 2)
    assert counts.handlers["told/dockhand_event"].lag == 65.0
    [job, _] = run(lanes.claim({number: 9}))
    run(lanes.succeeded(job))
    assert inbox.counts().lag == 5.0
    inbox.close()
