"""The inbox on disk: what is stored once, together, for how long, and what is counted."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from dockhand_webhook import Backoff, Inbox, InboxError, LetterError, Stored
from dockhand_webhook.inbox import event_table as arrivals
from dockhand_webhook.inbox.dead_letters import Unread
from receiving import eventually

from dockhand_core import ConfigError, EventInvalid, Plugins
from dockhand_core.events import EventParsers, RegistryBaseEvent


def stored(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT connection, id FROM events ORDER BY seq").fetchall()


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each transaction brought, whatever became of it."""
    found: list[int] = []
    flush = arrivals.flush

    def counted(transaction: Any) -> None:
        found.append(len(transaction.arrivals))
        flush(transaction)

    monkeypatch.setattr(arrivals, "flush", counted)
    return found


def test_an_event_is_stored_once_for_each_route(inbox: Inbox, event: Any, run: Any) -> None:
    one, two = event(id="one"), event(id="two")
    run(inbox.take("", [one, two, one]))
    run(inbox.take("staging", [one]))
    run(inbox.take("", [two, one]))
    assert stored(inbox.database.path) == [("", "one"), ("", "two"), ("staging", "one")]
    counts = inbox.counts()
    assert (counts.received, counts.duplicated) == (3, 3)


def test_a_repetition_is_delivered_once(inbox: Inbox, event: Any, run: Any) -> None:
    lanes = inbox.lanes("a", Backoff(), 15.0)
    [number] = run(lanes.register(["told/dockhand_event"])).values()
    run(inbox.take("", [event(id="one")]))
    [job] = run(lanes.claim({number: 9}))
    run(lanes.succeeded(job))
    run(inbox.take("", [event(id="one")]))
    assert run(lanes.claim({number: 9})) == []
    assert inbox.counts().waiting == 0


def test_very_many_events_at_once(inbox: Inbox, event: Any, run: Any) -> None:
    run(inbox.lanes("a", Backoff(), 15.0).register(["told/dockhand_event"]))
    events = [event(f"r{number % 5}", str(number)) for number in range(1000)]
    run(inbox.take("", [*events, *events[:300]]))
    assert [name for _, name in stored(inbox.database.path)] == [str(n) for n in range(1000)]
    counts = inbox.counts()
    assert (counts.received, counts.duplicated, counts.waiting) == (1000, 300, 1000)


def test_what_is_asked_at_once_is_committed_together(
    inbox: Inbox, event: Any, run: Any, transactions: list[int],
) -> None:  # fmt: skip
    events = [event(id=str(number)) for number in range(500)]

    async def takes() -> None:
        await asyncio.gather(*(inbox.take("", [each]) for each in events))

    run(takes())
    assert sum(transactions) == 500
    assert len(transactions) <= 5
    assert len(stored(inbox.database.path)) == 500


def test_what_is_asked_during_a_commit_is_the_next_one(
    inbox: Inbox, event: Any, transactions: list[int],
    held: Callable[[Path], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of threads, too, each of which waits for its own."""
    monkeypatch.setattr("dockhand_webhook.inbox.database._BUSY", 20.0)
    errors: list[Exception] = []

    def take(number: int) -> None:
        try:
            inbox.database.do(
                lambda transaction: arrivals.store(
                    transaction, 1.0, "", arrivals.packed("", [event(id=str(number))])
                )
            )
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(40)]
    with held(inbox.database.path):
        threads[0].start()
        eventually(lambda: inbox.database._thread and not inbox.database._asked)
        for thread in threads[1:]:
            thread.start()
        eventually(lambda: len(inbox.database._asked) == 39)
    for thread in threads:
        thread.join()
    assert errors == []
    assert transactions == [1, 39]
    assert len(stored(inbox.database.path)) == 40


def test_what_is_wrong_fails_alone(inbox: Inbox, event: Any, run: Any) -> None:
    def wrong(transaction: Any) -> None:
        transaction.execute("INSERT INTO tokens VALUES ('x', x'00', NULL, 1)")
        raise LetterError("it is none")

    def odd(transaction: Any) -> None:
        transaction.execute("INSERT INTO tokens VALUES (?, x'00', NULL, 1)", ("half \ud83d",))

    def twice(transaction: Any) -> None:
        for _ in range(2):
            transaction.execute("INSERT INTO tokens VALUES ('y', x'00', NULL, 1)")

    async def together() -> list[Any]:
        takes = [inbox.take("", [event(id=str(number))]) for number in range(20)]
        works = [inbox.database.run(work) for work in (wrong, odd, twice)]
        return await asyncio.gather(*takes[:10], *works, *takes[10:], return_exceptions=True)

    results = run(together())
    assert [each for each in results if each is None] == [None] * 20
    errors = [type(each) for each in results if each is not None]
    assert errors == [LetterError, UnicodeEncodeError, sqlite3.IntegrityError]
    assert len(stored(inbox.database.path)) == 20
    assert inbox.counts().received == 20  # though it was done anew
    assert inbox.tokens.held() == []


def test_who_is_cancelled_does_not_disturb_the_others(inbox: Inbox, event: Any, run: Any) -> None:
    async def some() -> list[Any]:
        tasks = [
            asyncio.create_task(inbox.take("", [event(id=str(number))])) for number in range(10)
        ]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = run(some())
    assert results[1::2] == [None] * 5
    run(inbox.take("", [event(id="last")]))
    kept = {name for _, name in stored(inbox.database.path)}
    assert {"1", "3", "5", "7", "9", "last"} <= kept


def test_what_a_closed_loop_asked_for(inbox: Inbox, event: Any, run: Any) -> None:
    """It keeps nobody else waiting."""
    run(inbox.take("", [event(id="one")]))  # the thread waits for more
    tasks = []

    async def leaves() -> None:
        tasks.append(asyncio.ensure_future(inbox.take("", [event(id="left")])))
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)

    loop = asyncio.new_event_loop()
    task = loop.create_task(leaves())
    loop.run_forever()
    for each in (task, *tasks):
        each.cancel()
        each._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()

    async def another() -> None:
        async with asyncio.timeout(3.0):
            await inbox.take("", [event(id="two")])

    run(another())
    assert ("", "two") in stored(inbox.database.path)


def test_a_half_character_is_no_event_but_a_dead_letter(desk: Any) -> None:
    body = rb'{"events": [%s, %s]}' % (sent("bad", rb'"half \ud83d"'), sent("good", b'"fine"'))
    assert desk.post(body).status_code == 202
    assert desk.stored() == [("", "good")]
    [letter] = desk.inbox.letters.held()
    assert letter.unread.body == body
    assert "cannot be kept" in letter.reason


@pytest.mark.parametrize(
    "odd",
    [
        rb'{"half \ud83d": 1}', rb'1, "half \ud83d": 1', b"NaN", b"[Infinity, -Infinity]",
        b"1e999", b"-0.0",
        b"9" * 400, rb'"\u0000"', b"[" * 150 + b"]" * 150, b"[" * 230 + b"]" * 230,
        b"[" * 600 + b"]" * 600,
    ],
)  # fmt: skip
def test_what_is_stored_can_be_read(desk: Any, odd: bytes) -> None:
    """Whatever a registry sends: it is an event, the same when it is read, or a dead letter."""
    body = rb'{"events": [%s]}' % sent("odd", odd)
    assert desk.post(body).status_code == 202
    with closing(sqlite3.connect(desk.path)) as connection:
        rows = connection.execute("SELECT kind, data FROM events").fetchall()
    assert len(rows) + len(desk.inbox.letters.held()) == 1
    for kind, data in rows:
        again = Stored(kind, data).event()
        [event] = EventParsers(Plugins()).parse(
            {"content-type": "application/vnd.docker.distribution.events.v2+json"}, body
        )
        assert repr(again.raw) == repr(event.raw)  # in which NaN is the same as NaN


def sent(name: str, value: bytes) -> bytes:
    return (
        rb'{"id": "%s", "timestamp": "2026-11-23T12:16:30Z", "action": "push", "target": '
        rb'{"repository": "team/app", "tag": "v1"}, "x": %s}' % (name.encode(), value)
    )


def test_no_event_is_stored_if_one_cannot_be(inbox: Inbox, event: Any, run: Any) -> None:
    good, bad = event(id="good"), event(id="bad").model_copy(update={"raw": {"x": "\ud83d"}})
    with pytest.raises(EventInvalid, match="cannot be kept") as caught:
        run(inbox.take("", [good, bad]))
    assert list(caught.value.events) == [good]
    assert stored(inbox.database.path) == []


def take_unread(inbox: Inbox, run: Any, body: bytes = b"x", size: int | None = None) -> None:
    unread = Unread({"content-type": "text/plain"}, body, len(body) if size is None else size)
    run(inbox.take_unread("staging", unread, EventInvalid("cannot be read")))


def test_dead_letters_are_listed_shown_and_dropped(inbox: Inbox, run: Any) -> None:
    for number in range(5):
        take_unread(inbox, run, str(number).encode())
    assert [each.unread.body for each in inbox.letters.held() if each.unread] == [
        b"0", b"1", b"2", b"3", b"4",
    ]  # fmt: skip
    ids = [each.id for each in inbox.letters.held()]
    assert [each.id for each in inbox.letters.held(2, after=ids[1])] == ids[2:4]
    letter = inbox.letters.get(ids[3])
    assert letter.unread == Unread({"content-type": "text/plain"}, b"3", 1)
    assert letter.what == "a notification of 1 bytes"
    inbox.letters.drop(ids[3])
    for forget in (inbox.letters.get, inbox.letters.drop):
        with pytest.raises(LetterError, match=f"no dead letter {ids[3]}"):
            forget(ids[3])
    assert inbox.counts().letters == 4
    assert inbox.counts().invalid == 5


def test_a_notification_is_read_again(inbox: Inbox, event: Any, run: Any, plugin: Any) -> None:
    class Parser:
        def matches(self, headers: Any) -> bool:
            return bool(headers.get("content-type") == "text/plain")

        def parse(self, headers: Any, body: bytes) -> list[RegistryBaseEvent]:
            return [event(id=body.decode())]

    take_unread(inbox, run, b"one")
    take_unread(inbox, run, b"tw", size=100)
    one, two = inbox.letters.held()
    with pytest.raises(EventInvalid, match="no parser knows"):
        inbox.letters.replay(one.id, EventParsers(Plugins()))
    plugins = Plugins()
    plugins.register(plugin(lambda: [Parser()], "dockhand_event_parsers"), name="plain")
    inbox.letters.replay(one.id, EventParsers(plugins))
    assert stored(inbox.database.path) == [("staging", "one")]
    with pytest.raises(LetterError, match="only the first 2 were kept"):
        inbox.letters.replay(two.id, EventParsers(plugins))
    assert [each.id for each in inbox.letters.held()] == [two.id]


def test_closed_and_opened_again(tmp_path: Path, event: Any, run: Any) -> None:
    path, before = tmp_path / "below" / "inbox.db", set(threading.enumerate())
    inbox = Inbox(path)
    run(inbox.take("", [event(id="one")]))
    inbox.close()
    inbox.close()
    assert set(threading.enumerate()) <= before
    run(inbox.take("", [event(id="two")]))  # it begins again
    inbox.close()
    again = Inbox(path)
    run(again.take("", [event(id="one"), event(id="three")]))
    assert [name for _, name in stored(path)] == ["one", "two", "three"]
    assert (again.counts().received, again.counts().duplicated) == (3, 1)
    again.close()


def test_only_the_owner_can_read_it(inbox: Inbox, event: Any, run: Any) -> None:
    run(inbox.take("", [event()]))
    files = sorted(inbox.database.path.parent.glob("inbox.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}


def test_it_is_as_safe_as_sqlite_can_be(inbox: Inbox) -> None:
    def settings(transaction: Any) -> tuple[Any, ...]:
        [(journal,)] = transaction.execute("PRAGMA journal_mode").fetchall()
        [(synchronous,)] = transaction.execute("PRAGMA synchronous").fetchall()
        return journal, synchronous

    assert inbox.database.do(settings) == ("wal", 2)


def test_a_newer_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    Inbox(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="newer version"):
        Inbox(path)


def test_what_is_no_inbox(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is a text, and a long one at that" * 100)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "text", tmp_path, tmp_path / "file" / "inbox.db"):
        with pytest.raises(ConfigError, match="inbox: .*; name an SQLite file"):
            Inbox(path)


def test_it_cannot_be_read_or_written(
    inbox: Inbox, event: Any, run: Any, held: Callable[[Path], AbstractContextManager[None]]
) -> None:
    with held(inbox.database.path):
        with pytest.raises(InboxError, match="locked"):
            run(inbox.take("", [event()]))
        assert inbox.counts().received == 0  # reading goes on
    inbox.close()
    inbox.database.path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(InboxError):
        inbox.counts()
