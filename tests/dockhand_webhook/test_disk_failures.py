"""A full disk and a killed process: every event that was answered with 202 is stored."""

from __future__ import annotations

import itertools
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from notifications import DISTRIBUTION, envelope, push
from webhook_receiver import eventually

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Program:
    """A process of `python -m dockhand_webhook --anonymous`."""

    def __init__(self, inbox: Path) -> None:
        self.inbox = inbox
        self.log = inbox.with_suffix(".log")
        command = [sys.executable, "-m", "dockhand_webhook", "--inbox", str(inbox)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", "0", "--anonymous"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        with self.process.stdout:
            line = self.process.stdout.readline()
        assert line.startswith("listening on "), self.log.read_text()
        self.client = httpx.Client(
            base_url=line.removeprefix("listening on ").strip(),
            headers={"Content-Type": DISTRIBUTION},
            timeout=20,
        )

    def limit(self, size: int | None) -> None:
        """Limit the size of the files that the process writes, in bytes; None removes the limit."""
        limits = UNLIMITED if size is None else (size, resource.RLIM_INFINITY)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, limits)

    def post(self, name: str, padding: int = 0) -> int:
        body = envelope({**push(id=name), "padding": "x" * padding})
        return self.client.post("/dockhand/notify", content=body).status_code

    def health(self) -> int:
        return self.client.get("/healthz").status_code

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.client.close()
        self.process.send_signal(number)
        return self.process.wait(30)

    def stored_events(self) -> list[str]:
        with closing(sqlite3.connect(self.inbox)) as connection:
            return [row[0] for row in connection.execute("SELECT id FROM events ORDER BY seq")]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[], Program]]:
    programs: list[Program] = []

    def start() -> Program:
        programs.append(Program(tmp_path / "inbox.db"))
        return programs[-1]

    yield start
    for each in programs:
        each.client.close()
        each.process.kill()
        each.process.wait()


def largest_file(inbox: Path) -> int:
    return max(each.stat().st_size for each in inbox.parent.glob("inbox.db*"))


def test_a_full_disk_refuses_events_until_there_is_room(program: Any) -> None:
    running = program()
    accepted = [str(number) for number in range(10)]
    assert [running.post(name) for name in accepted] == [202] * 10
    assert running.health() == 200
    running.limit(largest_file(running.inbox) + 50_000)
    status, numbers = 202, itertools.count(10)
    while status == 202:
        name = str(next(numbers))
        status = running.post(name, 10_000)
        accepted += [name] * (status == 202)
    assert status == 503
    refused = str(next(numbers))
    reply = running.client.post("/dockhand/notify", content=b"nonsense" * 10_000)
    assert reply.status_code == 503
    assert "retry-after" in reply.headers
    assert running.post(refused, 10_000) == 503
    assert len(accepted) < 30
    running.limit(4096)  # too small for a page of the database
    eventually(lambda: running.health() == 503, 3.0)
    running.limit(None)
    assert running.health() == 200
    assert running.post(refused, 10_000) == 202
    accepted.append(refused)
    assert running.end() == 0
    found = running.stored_events()
    assert [name for name in found if name in accepted] == accepted
    assert len(found) == len(set(found))
    log = running.log.read_text()
    assert "a notification was not taken" in log
    assert "not healthy" in log
    assert "Traceback" not in log


def test_nothing_is_accepted_without_room_from_the_start(program: Any) -> None:
    """Neither an event nor an unreadable notification gets a 202."""
    running = program()
    running.limit(0)
    assert running.post("one") == 503
    assert running.client.post("/dockhand/notify", content=b"nonsense").status_code == 503
    assert running.health() == 503
    running.limit(None)
    assert running.post("two") == 202
    assert running.health() == 200
    assert running.end() == 0
    assert running.stored_events() == ["two"]


def test_a_killed_receiver_has_stored_every_accepted_event(program: Any) -> None:
    """The receiver is killed twice while six clients post; the next one uses the same file."""
    accepted: list[str] = []
    for attempt in range(2):
        running = program()
        before = len(accepted)

        def post_until_killed(running: Program, thread: str) -> None:
            with httpx.Client(base_url=running.client.base_url, timeout=20) as client:
                for number in itertools.count():
                    name = f"{thread}-{number}"
                    try:
                        reply = client.post(
                            "/dockhand/notify", content=envelope(push(id=name)),
                            headers={"Content-Type": DISTRIBUTION},
                        )  # fmt: skip
                    except httpx.TransportError:
                        return
                    if reply.status_code == 202:
                        accepted.append(name)

        threads = [
            threading.Thread(
                target=post_until_killed, args=(running, f"{attempt}-{number}"), daemon=True
            )
            for number in range(6)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda before=before: len(accepted) > before + 100)  # type: ignore[misc]
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        found = running.stored_events()
        assert set(accepted) <= set(found)
        assert len(found) == len(set(found))
    with closing(sqlite3.connect(running.inbox)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
