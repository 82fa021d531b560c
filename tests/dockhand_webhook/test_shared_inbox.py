"""An inbox that several have at once: objects, threads, processes and forks."""

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
from dockhand_webhook import Backoff, Inbox, Stored
from dockhand_webhook.inbox.event_codec import pack
from notifications import recorded
from receiving import eventually

from dockhand_core import PluginError, Plugins
from dockhand_core.events import EventParsers, ManifestPushed

PROGRAM = """
import sys
from dockhand_webhook import Inbox
print("ready", flush=True)
sys.stdin.readline()
inbox = Inbox(sys.argv[1])
inbox.database.do(lambda transaction: transaction.execute(
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


def test_two_objects_over_one_file(tmp_path: Path, event: Any) -> None:
    inboxes = [Inbox(tmp_path / "inbox.db") for _ in range(2)]
    errors: list[Exception] = []

    async def takes(number: int) -> None:
        for each in range(50):
            await inboxes[number].take("", [event(id=f"{number}-{each}"), event(id=f"both-{each}")])

    def thread(number: int) -> None:
        try:
            asyncio.run(takes(number))
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


def test_two_dispatchers_tell_of_each_event_once(
    working: Any, event: Any, tmp_path: Path, plugin: Any
) -> None:
    told: list[tuple[str, int]] = []

    async def handler(event: Any) -> None:
        await asyncio.sleep(0.001)
        told.append((event.repository, int(event.id)))

    other = Inbox(tmp_path / "inbox.db")
    workers = [
        working({"told": plugin(handler)}, concurrency=2),
        working({"told": plugin(handler)}, concurrency=2, over=other),
    ]
    for number in range(60):
        workers[number % 2].tell(event(f"r{number % 6}", str(number)))
    eventually(lambda: workers[0].inbox.counts().delivered == 60)
    assert sorted(number for _, number in told) == list(range(60))
    for repository in {name for name, _ in told}:
        mine = [number for name, number in told if name == repository]
        assert mine == sorted(mine)
    for worker in workers:
        worker.stop()
    other.close()


def test_processes_that_make_the_same_file_at_once(tmp_path: Path) -> None:
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
        said = [process.communicate(timeout=60) for process in processes]
        assert [(process.returncode, text[1]) for process, text in zip(processes, said, strict=True)
                ] == [(0, "")] * 4  # fmt: skip
        with closing(sqlite3.connect(path)) as connection:
            found = {name for (name,) in connection.execute("SELECT name FROM counts")}
        assert found == {"p0", "p1", "p2", "p3"}


def test_objects_that_make_the_same_file_at_once(tmp_path: Path) -> None:
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


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # a fork of many threads
def test_a_fork_writes_with_a_thread_of_its_own(inbox: Inbox, event: Any, run: Any) -> None:
    run(inbox.take("", [event(id="before")]))
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(inbox.take("", [event(id="child")]))
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
    run(inbox.take("", [event(id="after")]))
    assert names(inbox.database.path) == ["before", "child", "after"]


def test_to_close_while_others_write(inbox: Inbox, event: Any) -> None:
    """It waits for what was asked before, not for what is asked ever after."""
    stop, errors = threading.Event(), []

    def writes() -> None:
        try:
            while not stop.is_set():
                inbox.database.do(lambda transaction: transaction.execute("SELECT 1"))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=writes, daemon=True) for _ in range(3)]
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


def test_a_file_that_cannot_be_opened_keeps_no_thread_busy(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as in a process that has as many files open as it may."""
    opened: list[int] = []

    def refused() -> sqlite3.Connection:
        opened.append(1)
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr("dockhand_webhook.inbox.database._PAUSE", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(inbox.database, "_open", refused)
        with pytest.raises(Exception, match="unable to open"):
            inbox.database.do(lambda transaction: None)
        threading.Event().wait(0.5)
        assert len(opened) < 200
    assert inbox.database.do(lambda transaction: 5) == 5


REGISTRIES = ("distribution-2.8.2", "distribution-3.1.1", "zot")
RECORDED = [(name, each) for name in REGISTRIES for each in recorded(name)]


@pytest.mark.parametrize("connection", ["", "staging"])
def test_what_registries_send_is_the_same_when_it_is_read(
    inbox: Inbox, run: Any, connection: str
) -> None:
    parsers = EventParsers(Plugins())
    lanes = inbox.lanes("a", Backoff(), 15.0)
    [number] = run(lanes.register(["told/dockhand_event"])).values()
    expected: dict[str, Any] = {}
    for _, sent in RECORDED:
        events = parsers.parse(sent.headers, sent.body)
        run(inbox.take(connection, events))
        update = {"connection": connection or None}
        expected |= {each.id: each.model_copy(update=update) for each in events}
    assert len(expected) > 50
    jobs = run(lanes.claim({number: 10_000}))
    seen = {}
    while jobs:
        job = jobs.pop()
        event = job.stored.event()
        assert job.stored.connection == connection
        assert job.lane == f"{connection}:{event.repository}"
        seen[event.id] = event
        following = run(lanes.succeeded(job))
        jobs += [following] if following else []
    assert seen == expected
    assert {type(event) for event in seen.values()} == {type(e) for e in expected.values()}


def test_what_the_event_says_of_a_connection_does_not_count(event: Any) -> None:
    """The route says it: a registry cannot speak for another one."""
    lying = event().model_copy(update={"connection": "production"})
    kind, data = pack(lying)
    assert Stored(kind, data, "staging").event().connection == "staging"
    assert Stored(kind, data).event().connection is None


def test_a_plugins_own_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: Any, inbox: Inbox, run: Any
) -> None:
    (tmp_path / "moving_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    import moving_plugin  # type: ignore[import-not-found]

    values = event(id="one").model_dump()
    base = {name: values[name] for name in ("id", "timestamp", "action", "repository", "raw")}
    moved = moving_plugin.Outer.Moved(**base, where=("here", "there"))
    red = moving_plugin.ManifestPushed(**{**values, "id": "two", "colour": "blue"})
    lanes = inbox.lanes("a", Backoff(), 15.0)
    numbers = run(lanes.register(["x/dockhand_manifest_pushed"]))
    run(inbox.take("staging", [moved, red]))
    [job] = run(lanes.claim(dict.fromkeys(numbers.values(), 9)))
    assert job.stored.kind == "moving_plugin:Outer.Moved"
    assert job.stored.event() == moved.model_copy(update={"connection": "staging"})
    following = run(lanes.succeeded(job))
    assert type(following.stored.event()) is moving_plugin.ManifestPushed
    assert following.stored.event().colour == "blue"
    del sys.modules["moving_plugin"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no_such_module:Event", "is the plugin installed"),
        ("dockhand_core.events:NoSuch", "is the plugin installed"),
        ("Nonsense", "cannot be read"),
        ("json:JSONDecoder", "no class of events"),
        ("json:loads", "no class of events"),
    ],
)
def test_a_class_that_cannot_be_had(kind: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        Stored(kind, "{}").event()


def test_of_a_name_that_the_core_has(event: Any) -> None:
    kind, data = pack(event())
    assert kind == "ManifestPushed"
    assert type(Stored(kind, data).event()) is ManifestPushed
