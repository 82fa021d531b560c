"""An inbox shared by objects, threads, processes and forks; serialized events."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from dockhand_webhook import Backoff, Inbox, SerializedEvent
from dockhand_webhook.inbox.event_codec import serialize
from notifications import recorded
from webhook_receiver import eventually

from dockhand_core import PluginError, Plugins
from dockhand_core.events import EventParsers, ManifestPushed

PROGRAM = """
import sys
from dockhand_webhook import Inbox
print("ready", flush=True)
sys.stdin.readline()
inbox = Inbox(sys.argv[1])
inbox.database.write(lambda transaction: transaction.execute(
    "INSERT INTO counts VALUES (?, 0, 1)", (sys.argv[2],)))
inbox.close()
"""
PLUGIN = """
from typing import ClassVar
from dockhand_core.events import ManifestPushed, RegistryBaseEvent

class Outer:
    class Moved(RegistryBaseEvent):
        hook = "dockhand_manifest_pushed"
        where: tuple[str, ...] = ()

class ManifestPushed(ManifestPushed):
    colour: str = "red"

NONE = 1
"""


def names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM events ORDER BY seq")]


def test_two_objects_share_one_file(tmp_path: Path, make_event: Any) -> None:
    inboxes = [Inbox(tmp_path / "inbox.db") for _ in range(2)]
    errors: list[Exception] = []

    async def store_events(number: int) -> None:
        for each in range(50):
            await inboxes[number].store(
                "", [make_event(id=f"{number}-{each}"), make_event(id=f"both-{each}")]
            )

    def thread(number: int) -> None:
        try:
            asyncio.run(store_events(number))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []
    found = names(tmp_path / "inbox.db")
    assert len(found) == len(set(found)) == 150
    for prefix in ("0", "1"):
        mine = [name for name in found if name.startswith(prefix)]
        assert mine == [f"{prefix}-{each}" for each in range(50)]
    for inbox in inboxes:
        counts = inbox.counts()
        assert (counts.received, counts.duplicated) == (150, 50)
        inbox.close()


def test_two_dispatchers_deliver_each_event_once(
    start_worker: Any, make_event: Any, tmp_path: Path, make_plugin: Any
) -> None:
    delivered: list[tuple[str, int]] = []

    async def handler(event: Any) -> None:
        await asyncio.sleep(0.001)
        delivered.append((event.repository, int(event.id)))

    other = Inbox(tmp_path / "inbox.db")
    workers = [
        start_worker({"recorder": make_plugin(handler)}, concurrency=2),
        start_worker({"recorder": make_plugin(handler)}, concurrency=2, inbox=other),
    ]
    for number in range(60):
        workers[number % 2].store(make_event(f"r{number % 6}", str(number)))
    eventually(lambda: workers[0].inbox.counts().delivered == 60)
    assert sorted(number for _, number in delivered) == list(range(60))
    for repository in {name for name, _ in delivered}:
        mine = [number for name, number in delivered if name == repository]
        assert mine == sorted(mine)
    for worker in workers:
        worker.stop()
    other.close()


def test_processes_that_create_the_same_file_at_once(tmp_path: Path) -> None:
    for attempt in range(2):
        path = tmp_path / f"inbox{attempt}.db"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(path), f"p{number}"], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for number in range(4)
        ]  # fmt: skip
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=60) for process in processes]
        results = [
            (process.returncode, errors)
            for process, (_, errors) in zip(processes, outputs, strict=True)
        ]
        assert results == [(0, "")] * 4
        with closing(sqlite3.connect(path)) as connection:
            found = {name for (name,) in connection.execute("SELECT name FROM counts")}
        assert found == {"p0", "p1", "p2", "p3"}


def test_objects_that_create_the_same_file_at_once(tmp_path: Path) -> None:
    for attempt in range(80):
        path = tmp_path / f"{attempt}.db"
        together = threading.Barrier(4)
        errors: list[Exception] = []

        def make(path: Path, together: threading.Barrier, errors: list[Exception]) -> None:
            together.wait(20)
            try:
                Inbox(path).counts()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=make, args=(path, together, errors)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # this process has threads
def test_a_fork_writes_with_a_thread_of_its_own(inbox: Inbox, make_event: Any, run: Any) -> None:
    run(inbox.store("", [make_event(id="before")]))
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(inbox.store("", [make_event(id="child")]))
            inbox.close()
            os._exit(0)
        finally:
            os._exit(1)

    def ended() -> int:
        pid, status = os.waitpid(child, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) + 1 if pid else 0

    try:
        assert eventually(ended) == 1
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        raise
    run(inbox.store("", [make_event(id="after")]))
    assert names(inbox.database.path) == ["before", "child", "after"]


def test_close_waits_only_for_earlier_submissions(inbox: Inbox, make_event: Any) -> None:
    """`close` returns although other threads keep writing."""
    stop, errors = threading.Event(), []

    def write_until_stopped() -> None:
        try:
            while not stop.is_set():
                inbox.database.write(lambda transaction: transaction.execute("SELECT 1"))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write_until_stopped, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    hung = False
    for _ in range(30):
        close = threading.Thread(target=inbox.close, daemon=True)
        close.start()
        close.join(1.0)
        hung = close.is_alive()
        if hung:
            break
    stop.set()
    for thread in threads:
        thread.join(3.0)
    assert not hung
    assert not [thread for thread in threads if thread.is_alive()]
    assert errors == []


def test_the_thread_does_not_spin_when_the_file_cannot_be_opened(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening fails in the same way in a process that has reached its limit of open files."""
    opened: list[int] = []

    def refused() -> sqlite3.Connection:
        opened.append(1)
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr("dockhand_webhook.inbox.database._MAINTENANCE_INTERVAL", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(inbox.database, "_open", refused)
        with pytest.raises(Exception, match="unable to open"):
            inbox.database.write(lambda transaction: None)
        threading.Event().wait(0.5)
        assert len(opened) < 200
    assert inbox.database.write(lambda transaction: 5) == 5


REGISTRIES = ("distribution-2.8.2", "distribution-3.1.1", "zot")
RECORDED = [(name, each) for name in REGISTRIES for each in recorded(name)]


@pytest.mark.parametrize("connection", ["", "staging"])
def test_recorded_events_are_delivered_unchanged(inbox: Inbox, run: Any, connection: str) -> None:
    parsers = EventParsers(Plugins())
    queue = inbox.delivery_queue("a", Backoff(), 15.0)
    [handler_id] = run(queue.register(["recorder/dockhand_event"])).values()
    expected: dict[str, Any] = {}
    for _, sent in RECORDED:
        events = parsers.parse(sent.headers, sent.body)
        run(inbox.store(connection, events))
        update = {"connection": connection or None}
        expected |= {each.id: each.model_copy(update=update) for each in events}
    assert len(expected) > 50
    deliveries = run(queue.claim({handler_id: 10_000}))
    seen = {}
    while deliveries:
        delivery = deliveries.pop()
        event = delivery.event.deserialize()
        assert delivery.event.connection == connection
        assert delivery.partition == f"{connection}:{event.repository}"
        seen[event.id] = event
        following = run(queue.mark_succeeded(delivery))
        deliveries += [following] if following else []
    assert seen == expected
    assert {type(event) for event in seen.values()} == {type(e) for e in expected.values()}


def test_the_connection_of_an_event_is_that_of_the_route(make_event: Any) -> None:
    """A connection in the event's data is ignored: a registry cannot forge another's events."""
    forged = make_event().model_copy(update={"connection": "production"})
    kind, data = serialize(forged)
    assert SerializedEvent(kind, data, "staging").deserialize().connection == "staging"
    assert SerializedEvent(kind, data).deserialize().connection is None


def test_event_classes_of_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_event: Any, inbox: Inbox, run: Any
) -> None:
    (tmp_path / "moving_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    import moving_plugin  # type: ignore[import-not-found]

    values = make_event(id="one").model_dump()
    base = {name: values[name] for name in ("id", "timestamp", "action", "repository", "raw")}
    moved = moving_plugin.Outer.Moved(**base, where=("here", "there"))
    red = moving_plugin.ManifestPushed(**{**values, "id": "two", "colour": "blue"})
    queue = inbox.delivery_queue("a", Backoff(), 15.0)
    numbers = run(queue.register(["x/dockhand_manifest_pushed"]))
    run(inbox.store("staging", [moved, red]))
    [delivery] = run(queue.claim(dict.fromkeys(numbers.values(), 9)))
    assert delivery.event.kind == "moving_plugin:Outer.Moved"
    assert delivery.event.deserialize() == moved.model_copy(update={"connection": "staging"})
    following = run(queue.mark_succeeded(delivery))
    assert type(following.event.deserialize()) is moving_plugin.ManifestPushed
    assert following.event.deserialize().colour == "blue"
    del sys.modules["moving_plugin"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no_such_module:Event", "install the plugin"),
        ("dockhand_core.events:NoSuch", "install the plugin"),
        ("Nonsense", "cannot be read"),
        ("json:JSONDecoder", "not an event class"),
        ("json:loads", "not an event class"),
    ],
)
def test_a_class_that_cannot_be_imported(kind: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        SerializedEvent(kind, "{}").deserialize()


def test_classes_of_the_core_are_stored_by_name_alone(make_event: Any) -> None:
    kind, data = serialize(make_event())
    assert kind == "ManifestPushed"
    assert type(SerializedEvent(kind, data).deserialize()) is ManifestPushed
