"""The inbox on disk: storage of events, shared commits, counts, dead letters, and its file."""

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
from dockhand_webhook import Backoff, DeadLetterError, Inbox, InboxError, SerializedEvent
from dockhand_webhook.inbox import event_table
from dockhand_webhook.inbox.dead_letters import UnreadableNotification
from webhook_receiver import eventually

from dockhand_core import ConfigError, EventInvalid, Plugins
from dockhand_core.events import EventParsers, RegistryBaseEvent


def stored_events(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT connection, id FROM events ORDER BY seq").fetchall()


@pytest.fixture
def transaction_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of events in each transaction, failed transactions included."""
    sizes: list[int] = []
    write_pending = event_table.write_pending

    def counted(transaction: Any) -> None:
        sizes.append(len(transaction.pending_events))
        write_pending(transaction)

    monkeypatch.setattr(event_table, "write_pending", counted)
    return sizes


def test_an_event_is_stored_once_for_each_route(inbox: Inbox, make_event: Any, run: Any) -> None:
    one, two = make_event(id="one"), make_event(id="two")
    run(inbox.store("", [one, two, one]))
    run(inbox.store("staging", [one]))
    run(inbox.store("", [two, one]))
    assert stored_events(inbox.database.path) == [("", "one"), ("", "two"), ("staging", "one")]
    counts = inbox.counts()
    assert (counts.received, counts.duplicated) == (3, 3)


def test_a_repeated_event_is_delivered_once(inbox: Inbox, make_event: Any, run: Any) -> None:
    queue = inbox.delivery_queue("a", Backoff(), 15.0)
    [handler_id] = run(queue.register(["recorder/dockhand_event"])).values()
    run(inbox.store("", [make_event(id="one")]))
    [delivery] = run(queue.claim({handler_id: 9}))
    run(queue.mark_succeeded(delivery))
    run(inbox.store("", [make_event(id="one")]))
    assert run(queue.claim({handler_id: 9})) == []
    assert inbox.counts().waiting == 0


def test_a_thousand_events_in_one_call(inbox: Inbox, make_event: Any, run: Any) -> None:
    run(inbox.delivery_queue("a", Backoff(), 15.0).register(["recorder/dockhand_event"]))
    events = [make_event(f"r{number % 5}", str(number)) for number in range(1000)]
    run(inbox.store("", [*events, *events[:300]]))
    assert [name for _, name in stored_events(inbox.database.path)] == [str(n) for n in range(1000)]
    counts = inbox.counts()
    assert (counts.received, counts.duplicated, counts.waiting) == (1000, 300, 1000)


def test_concurrent_submissions_are_committed_together(
    inbox: Inbox, make_event: Any, run: Any, transaction_sizes: list[int],
) -> None:  # fmt: skip
    events = [make_event(id=str(number)) for number in range(500)]

    async def store_all() -> None:
        await asyncio.gather(*(inbox.store("", [each]) for each in events))

    run(store_all())
    assert sum(transaction_sizes) == 500
    assert len(transaction_sizes) <= 5
    assert len(stored_events(inbox.database.path)) == 500


def test_submissions_during_a_commit_go_into_the_next_one(
    inbox: Inbox, make_event: Any, transaction_sizes: list[int],
    write_locked: Callable[[Path], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Threads submit, too; each thread waits until its own event is committed."""
    monkeypatch.setattr("dockhand_webhook.inbox.database._BUSY_TIMEOUT", 20.0)
    errors: list[Exception] = []

    def store(number: int) -> None:
        try:
            inbox.database.write(
                lambda transaction: event_table.enqueue(
                    transaction, 1.0, "", event_table.to_rows("", [make_event(id=str(number))])
                )
            )
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=store, args=(number,)) for number in range(40)]
    with write_locked(inbox.database.path):
        threads[0].start()
        eventually(lambda: inbox.database._thread and not inbox.database._submissions)
        for thread in threads[1:]:
            thread.start()
        eventually(lambda: len(inbox.database._submissions) == 39)
    for thread in threads:
        thread.join()
    assert errors == []
    assert transaction_sizes == [1, 39]
    assert len(stored_events(inbox.database.path)) == 40


def test_a_failing_submission_does_not_fail_others(inbox: Inbox, make_event: Any, run: Any) -> None:
    def raises(transaction: Any) -> None:
        transaction.execute("INSERT INTO tokens VALUES ('x', x'00', NULL, 1)")
        raise DeadLetterError("no such dead letter")

    def lone_surrogate(transaction: Any) -> None:
        transaction.execute("INSERT INTO tokens VALUES (?, x'00', NULL, 1)", ("lone \ud83d",))

    def duplicate(transaction: Any) -> None:
        for _ in range(2):
            transaction.execute("INSERT INTO tokens VALUES ('y', x'00', NULL, 1)")

    async def together() -> list[Any]:
        stores = [inbox.store("", [make_event(id=str(number))]) for number in range(20)]
        works = [inbox.database.write_async(work) for work in (raises, lone_surrogate, duplicate)]
        return await asyncio.gather(*stores[:10], *works, *stores[10:], return_exceptions=True)

    results = run(together())
    assert [each for each in results if each is None] == [None] * 20
    errors = [type(each) for each in results if each is not None]
    assert errors == [DeadLetterError, UnicodeEncodeError, sqlite3.IntegrityError]
    assert len(stored_events(inbox.database.path)) == 20
    assert inbox.counts().received == 20  # not 40, although the batch was run twice
    assert inbox.tokens.valid() == []


def test_a_cancelled_submission_does_not_affect_others(
    inbox: Inbox, make_event: Any, run: Any
) -> None:
    async def cancel_half() -> list[Any]:
        tasks = [
            asyncio.create_task(inbox.store("", [make_event(id=str(number))]))
            for number in range(10)
        ]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = run(cancel_half())
    assert results[1::2] == [None] * 5
    run(inbox.store("", [make_event(id="last")]))
    kept = {name for _, name in stored_events(inbox.database.path)}
    assert {"1", "3", "5", "7", "9", "last"} <= kept


def test_a_submission_of_a_closed_loop_does_not_block_others(
    inbox: Inbox, make_event: Any, run: Any
) -> None:
    run(inbox.store("", [make_event(id="one")]))  # the writing thread now waits for work
    tasks = []

    async def submit_and_stop() -> None:
        tasks.append(asyncio.ensure_future(inbox.store("", [make_event(id="left")])))
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)

    loop = asyncio.new_event_loop()
    task = loop.create_task(submit_and_stop())
    loop.run_forever()
    for each in (task, *tasks):
        each.cancel()
        each._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()

    async def another() -> None:
        async with asyncio.timeout(3.0):
            await inbox.store("", [make_event(id="two")])

    run(another())
    assert ("", "two") in stored_events(inbox.database.path)


def test_an_event_with_a_lone_surrogate_becomes_a_dead_letter(receiver: Any) -> None:
    body = rb'{"events": [%s, %s]}' % (
        event_json("bad", rb'"lone \ud83d"'),
        event_json("good", b'"fine"'),
    )
    assert receiver.post(body).status_code == 202
    assert receiver.stored_events() == [("", "good")]
    [letter] = receiver.inbox.dead_letters.page()
    assert letter.notification.body == body
    assert "cannot be serialized" in letter.reason


@pytest.mark.parametrize(
    "odd",
    [
        rb'{"lone \ud83d": 1}', rb'1, "lone \ud83d": 1', b"NaN", b"[Infinity, -Infinity]",
        b"1e999", b"-0.0",
        b"9" * 400, rb'"\u0000"', b"[" * 150 + b"]" * 150, b"[" * 230 + b"]" * 230,
        b"[" * 600 + b"]" * 600,
    ],
)  # fmt: skip
def test_a_stored_event_can_be_read(receiver: Any, odd: bytes) -> None:
    """Unusual JSON becomes an event that deserializes to the same value, or a dead letter."""
    body = rb'{"events": [%s]}' % event_json("odd", odd)
    assert receiver.post(body).status_code == 202
    with closing(sqlite3.connect(receiver.path)) as connection:
        rows = connection.execute("SELECT kind, data FROM events").fetchall()
    assert len(rows) + len(receiver.inbox.dead_letters.page()) == 1
    for kind, data in rows:
        again = SerializedEvent(kind, data).deserialize()
        [event] = EventParsers(Plugins()).parse(
            {"content-type": "application/vnd.docker.distribution.events.v2+json"}, body
        )
        assert repr(again.raw) == repr(event.raw)  # repr, since NaN != NaN


def event_json(name: str, value: bytes) -> bytes:
    return (
        rb'{"id": "%s", "timestamp": "2026-11-23T12:16:30Z", "action": "push", "target": '
        rb'{"repository": "team/app", "tag": "v1"}, "x": %s}' % (name.encode(), value)
    )


def test_no_event_is_stored_if_one_cannot_be_serialized(
    inbox: Inbox, make_event: Any, run: Any
) -> None:
    good, bad = (
        make_event(id="good"),
        make_event(id="bad").model_copy(update={"raw": {"x": "\ud83d"}}),
    )
    with pytest.raises(EventInvalid, match="cannot be serialized") as caught:
        run(inbox.store("", [good, bad]))
    assert list(caught.value.events) == [good]
    assert stored_events(inbox.database.path) == []


def store_unreadable(inbox: Inbox, run: Any, body: bytes = b"x", size: int | None = None) -> None:
    unread = UnreadableNotification(
        {"content-type": "text/plain"}, body, len(body) if size is None else size
    )
    run(inbox.store_unreadable("staging", unread, EventInvalid("cannot be read")))


def test_dead_letters_are_listed_shown_and_dropped(inbox: Inbox, run: Any) -> None:
    for number in range(5):
        store_unreadable(inbox, run, str(number).encode())
    assert [each.notification.body for each in inbox.dead_letters.page() if each.notification] == [
        b"0", b"1", b"2", b"3", b"4",
    ]  # fmt: skip
    ids = [each.id for each in inbox.dead_letters.page()]
    assert [each.id for each in inbox.dead_letters.page(2, after=ids[1])] == ids[2:4]
    letter = inbox.dead_letters.get(ids[3])
    assert letter.notification == UnreadableNotification({"content-type": "text/plain"}, b"3", 1)
    assert letter.summary == "a notification of 1 bytes"
    inbox.dead_letters.drop(ids[3])
    for access in (inbox.dead_letters.get, inbox.dead_letters.drop):
        with pytest.raises(DeadLetterError, match=f"no dead letter {ids[3]}"):
            access(ids[3])
    assert inbox.counts().dead_letters == 4
    assert inbox.counts().invalid == 5


def test_a_replayed_notification_is_parsed_again(
    inbox: Inbox, make_event: Any, run: Any, make_plugin: Any
) -> None:
    class Parser:
        def matches(self, headers: Any) -> bool:
            return bool(headers.get("content-type") == "text/plain")

        def parse(self, headers: Any, body: bytes) -> list[RegistryBaseEvent]:
            return [make_event(id=body.decode())]

    store_unreadable(inbox, run, b"one")
    store_unreadable(inbox, run, b"tw", size=100)
    one, two = inbox.dead_letters.page()
    with pytest.raises(EventInvalid, match="no parser knows"):
        inbox.dead_letters.replay(one.id, EventParsers(Plugins()))
    plugins = Plugins()
    plugins.register(make_plugin(lambda: [Parser()], "dockhand_event_parsers"), name="plain")
    inbox.dead_letters.replay(one.id, EventParsers(plugins))
    assert stored_events(inbox.database.path) == [("staging", "one")]
    with pytest.raises(DeadLetterError, match="only the first 2 were kept"):
        inbox.dead_letters.replay(two.id, EventParsers(plugins))
    assert [each.id for each in inbox.dead_letters.page()] == [two.id]


def test_a_closed_inbox_can_be_used_and_opened_again(
    tmp_path: Path, make_event: Any, run: Any
) -> None:
    path, before = tmp_path / "below" / "inbox.db", set(threading.enumerate())
    inbox = Inbox(path)
    run(inbox.store("", [make_event(id="one")]))
    inbox.close()
    inbox.close()
    assert set(threading.enumerate()) <= before
    run(inbox.store("", [make_event(id="two")]))  # the writing thread starts again
    inbox.close()
    again = Inbox(path)
    run(again.store("", [make_event(id="one"), make_event(id="three")]))
    assert [name for _, name in stored_events(path)] == ["one", "two", "three"]
    assert (again.counts().received, again.counts().duplicated) == (3, 1)
    again.close()


def test_only_the_owner_can_read_the_files(inbox: Inbox, make_event: Any, run: Any) -> None:
    run(inbox.store("", [make_event()]))
    files = sorted(inbox.database.path.parent.glob("inbox.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}


def test_commits_are_synchronous(inbox: Inbox) -> None:
    def settings(transaction: Any) -> tuple[Any, ...]:
        [(journal,)] = transaction.execute("PRAGMA journal_mode").fetchall()
        [(synchronous,)] = transaction.execute("PRAGMA synchronous").fetchall()
        return journal, synchronous

    assert inbox.database.write(settings) == ("wal", 2)


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    Inbox(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="newer version"):
        Inbox(path)


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database" * 100)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "text", tmp_path, tmp_path / "file" / "inbox.db"):
        with pytest.raises(ConfigError, match="inbox: .*; name an SQLite file"):
            Inbox(path)


def test_a_locked_or_damaged_file_raises_inbox_error(
    inbox: Inbox,
    make_event: Any,
    run: Any,
    write_locked: Callable[[Path], AbstractContextManager[None]],
) -> None:
    with write_locked(inbox.database.path):
        with pytest.raises(InboxError, match="locked"):
            run(inbox.store("", [make_event()]))
        assert inbox.counts().received == 0  # reading needs no lock
    inbox.close()
    inbox.database.path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(InboxError):
        inbox.counts()
