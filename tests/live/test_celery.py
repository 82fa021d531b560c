"""Events through Celery, with a real Redis, real workers and a broker that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
from dockhand_webhook import Counts, Inbox
from handlers import Handlers
from notifications import DISTRIBUTION, envelope, push
from receiving import eventually
from registries import announced, free_port, program

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

APP = """
from celery import Celery
from dockhand_celery import register_handlers

app = Celery("tasks", broker="redis://127.0.0.1:{port}/0", backend="redis://127.0.0.1:{port}/1")
app.conf.broker_connection_retry_on_startup = True
register_handlers(app)
"""
BODY = """
@hookimpl
def dockhand_event(event):
    if event.tag == "slow":
        time.sleep(1)
    note("begun", event)
    if event.tag == "kill" and not os.path.exists(FILE + ".killed"):
        open(FILE + ".killed", "w").close()
        os.kill(os.getpid(), 9)
    if event.tag == "fail" and not os.path.exists(FILE + ".failed"):
        open(FILE + ".failed", "w").close()
        raise ValueError("once")
    note("sync", event)

@hookimpl
async def dockhand_manifest_pushed(event):
    note("async", event)
"""


class Redis:
    """A Redis that can be stopped and started, and keeps what it has."""

    def __init__(self, folder: Path) -> None:
        self._binary = program("redis-server", "Debian's package redis-server has it")
        self._folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir",
                str(self._folder), "--appendonly", "yes", "--save", "",
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(self._answers)

    def _answers(self) -> bool:
        import redis

        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None


class World:
    """An inbox whose events go to Celery: receiver, hand-out, workers."""

    def __init__(self, folder: Path, redis: Redis) -> None:
        self.folder, self.redis = folder, redis
        self.handlers = Handlers(folder, BODY)
        (self.handlers.site / "tasks.py").write_text(APP.format(port=redis.port))
        self.inbox = folder / "inbox.db"

    @contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.folder, stdout=log, stderr=log,
                env=self.handlers.environment,
            )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(30)

    def worker(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        options = ("-l", "WARNING", "--without-gossip", "--without-mingle", "-c", "2")
        return self.running("celery", "-A", "tasks", "worker", *options)

    def handing_out(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        options = ("--expires", "6", "--timeout", "4", "--lease", "2", "--retry-after", "0.2")
        return self.running(
            "dockhand_celery", "--app", "tasks:app", "--inbox", str(self.inbox), *options
        )

    @contextmanager
    def receiver(self) -> Iterator[str]:
        options = ("--inbox", str(self.inbox), "--no-dispatch", "--anonymous")
        with announced("dockhand_webhook", *options, env=self.handlers.environment) as url:
            yield url

    def counts(self) -> Counts:
        return Inbox(self.inbox).counts()

    def post(self, url: str, *tags: str, repository: str = "team/app") -> list[str]:
        """Tell of pushes, in that order; gives their ids."""
        ids = []
        for tag in tags:
            event = push(repository, tag=tag)
            ids.append(str(event["id"]))
            reply = httpx.post(
                f"{url}/dockhand/notify", content=envelope(event),
                headers={"content-type": DISTRIBUTION},
            )  # fmt: skip
            assert reply.status_code == 202
        return ids

    def ids(self, handler: str) -> list[str]:
        """What a handler was told of, in the order of the first time."""
        return list(dict.fromkeys(told.id for told in self.handlers.told(handler)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    redis = Redis(tmp_path)
    redis.start()
    try:
        found = World(tmp_path, redis)
        with found.handing_out():  # its handlers are known before anything arrives
            eventually(lambda: found.inbox.exists() and len(found.counts().handlers) == 2)
        yield found
    finally:
        redis.stop()


def test_in_order_and_with_the_same_handlers(world: World) -> None:
    with world.receiver() as url, world.worker(), world.handing_out():
        tags = [f"v{number}" for number in range(20)]
        mine = world.post(url, *tags)
        others = world.post(url, *tags, repository="team/other")
        counts = eventually(lambda: (found := world.counts()).waiting == 0 and found, 60)
    assert counts
    for handler in ("sync", "async"):
        told = world.ids(handler)
        assert [each for each in told if each in mine] == mine
        assert [each for each in told if each in others] == others
        assert len(world.handlers.told(handler)) == 40  # once each, as nothing failed
    assert (counts.delivered, counts.failed, counts.dead) == (80, 0, 0)
    assert os.getpid() not in {told.process for told in world.handlers.told()}


def test_a_broker_that_is_away_loses_nothing(world: World) -> None:
    with world.receiver() as url, world.worker(), world.handing_out():
        first = world.post(url, "v1", "v2")
        eventually(lambda: world.counts().waiting == 0, 60)
        world.redis.stop()
        second = world.post(url, "v3", "v4", "v5")  # taken all the same
        time.sleep(2)
        assert world.counts().waiting == 6
        world.redis.start()
        third = world.post(url, "v6")
        eventually(lambda: world.counts().waiting == 0, 100)
        counts = world.counts()
    for handler in ("sync", "async"):
        assert world.ids(handler) == first + second + third
    assert counts.dead == 0


def test_a_handler_that_fails_is_tried_again_and_holds_back_its_repository(world: World) -> None:
    with world.receiver() as url, world.worker(), world.handing_out():
        ids = world.post(url, "fail", "v1")
        eventually(lambda: world.counts().waiting == 0, 60)
        counts = world.counts()
    assert world.ids("sync") == ids
    assert [told.id for told in world.handlers.told("begun")] == [ids[0], *ids]
    assert counts.failed == 1
    assert counts.handlers["noting/dockhand_event"].failed == 1


def test_a_worker_that_is_killed(world: World) -> None:
    with world.receiver() as url, world.worker(), world.handing_out():
        ids = world.post(url, "kill", "v1")
        eventually(lambda: world.counts().waiting == 0, 90)
    assert world.ids("sync") == ids


def test_no_worker_for_a_while(world: World) -> None:
    """The task expires; that is no failure of the handler's."""
    with world.receiver() as url, world.handing_out():
        ids = world.post(url, "v1")
        time.sleep(8)  # longer than a task waits for a worker
        assert world.counts().waiting == 2
        with world.worker():
            eventually(lambda: world.counts().waiting == 0, 60)
        counts = world.counts()
    assert world.ids("sync") == ids
    assert (counts.failed, counts.dead) == (0, 0)
    assert len(world.handlers.told("sync")) == 1


def test_whoever_hands_out_is_killed(world: World) -> None:
    """The next one waits for the task that the first one sent, and sends no other."""
    with world.receiver() as url, world.worker():
        with world.handing_out() as process:
            ids = world.post(url, "slow", "v1")
            eventually(lambda: _handed(world.inbox))
            process.kill()
            process.wait()
        with world.handing_out():
            eventually(lambda: world.counts().waiting == 0, 60)
    assert world.ids("sync") == ids
    assert len(world.handlers.told("begun")) == 2


def _handed(inbox: Path) -> int:
    with Inbox(inbox).database.reading() as connection:
        ((number,),) = connection.execute("SELECT COUNT(*) FROM deliveries WHERE handed NOTNULL")
    return int(number)
