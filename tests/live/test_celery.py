"""Deliveries through Celery, with a real Redis server that is stopped and real workers."""

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
from handlers import RecordingPlugin
from notifications import DISTRIBUTION, envelope, push
from registries import free_port, program, running_server
from webhook_receiver import eventually

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

APP = """
from celery import Celery
from dockhand_celery import register_handlers

app = Celery("tasks", broker="redis://127.0.0.1:{port}/0", backend="redis://127.0.0.1:{port}/1")
app.conf.broker_connection_retry_on_startup = True
register_handlers(app)
"""
HANDLERS = """
@hookimpl
def dockhand_event(event):
    if event.tag == "slow":
        time.sleep(1)
    record("started", event)
    if event.tag == "kill" and not os.path.exists(FILE + ".killed"):
        open(FILE + ".killed", "w").close()
        os.kill(os.getpid(), 9)
    if event.tag == "fail" and not os.path.exists(FILE + ".failed"):
        open(FILE + ".failed", "w").close()
        raise ValueError("once")
    record("sync", event)

@hookimpl
async def dockhand_manifest_pushed(event):
    record("async", event)
"""


class Redis:
    """A Redis server that can be stopped and started, and keeps its data."""

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
        eventually(self._is_up)

    def _is_up(self) -> bool:
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


class CeleryDeployment:
    """An inbox, and the processes that use it: a receiver, a dispatcher and Celery workers."""

    def __init__(self, folder: Path, redis: Redis) -> None:
        self.folder, self.redis = folder, redis
        self.plugin = RecordingPlugin(folder, HANDLERS)
        (self.plugin.site / "tasks.py").write_text(APP.format(port=redis.port))
        self.inbox = folder / "inbox.db"

    @contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.folder, stdout=log, stderr=log,
                env=self.plugin.environment,
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

    def dispatcher(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        options = ("--expires", "6", "--timeout", "4", "--lease", "2", "--retry-after", "0.2")
        return self.running(
            "dockhand_celery", "--app", "tasks:app", "--inbox", str(self.inbox), *options
        )

    @contextmanager
    def receiver(self) -> Iterator[str]:
        options = ("--inbox", str(self.inbox), "--no-dispatch", "--anonymous")
        with running_server("dockhand_webhook", *options, env=self.plugin.environment) as url:
            yield url

    def counts(self) -> Counts:
        return Inbox(self.inbox).counts()

    def post(self, url: str, *tags: str, repository: str = "team/app") -> list[str]:
        """Send a push notification for each tag, in order, and return the ids of the events."""
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

    def event_ids(self, handler: str) -> list[str]:
        """Return the ids of the events that a handler got, in the order of the first calls."""
        return list(dict.fromkeys(call.id for call in self.plugin.calls(handler)))


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[CeleryDeployment]:
    redis = Redis(tmp_path)
    redis.start()
    try:
        found = CeleryDeployment(tmp_path, redis)
        with found.dispatcher():  # the dispatcher registers the handlers
            eventually(lambda: found.inbox.exists() and len(found.counts().handlers) == 2)
        yield found
    finally:
        redis.stop()


def test_events_are_delivered_in_order_to_every_handler(deployment: CeleryDeployment) -> None:
    with deployment.receiver() as url, deployment.worker(), deployment.dispatcher():
        tags = [f"v{number}" for number in range(20)]
        mine = deployment.post(url, *tags)
        others = deployment.post(url, *tags, repository="team/other")
        counts = eventually(lambda: (found := deployment.counts()).waiting == 0 and found, 60)
    assert counts
    for handler in ("sync", "async"):
        delivered = deployment.event_ids(handler)
        assert [each for each in delivered if each in mine] == mine
        assert [each for each in delivered if each in others] == others
        assert len(deployment.plugin.calls(handler)) == 40  # one call for each event
    assert (counts.delivered, counts.failed, counts.dead) == (80, 0, 0)
    assert os.getpid() not in {call.process for call in deployment.plugin.calls()}


def test_no_event_is_lost_while_the_broker_is_down(deployment: CeleryDeployment) -> None:
    with deployment.receiver() as url, deployment.worker(), deployment.dispatcher():
        first = deployment.post(url, "v1", "v2")
        eventually(lambda: deployment.counts().waiting == 0, 60)
        deployment.redis.stop()
        second = deployment.post(url, "v3", "v4", "v5")  # accepted although the broker is stopped
        time.sleep(2)
        assert deployment.counts().waiting == 6
        deployment.redis.start()
        third = deployment.post(url, "v6")
        eventually(lambda: deployment.counts().waiting == 0, 100)
        counts = deployment.counts()
    for handler in ("sync", "async"):
        assert deployment.event_ids(handler) == first + second + third
    assert counts.dead == 0


def test_a_failing_handler_is_retried_before_later_events_of_the_repository(
    deployment: CeleryDeployment,
) -> None:
    with deployment.receiver() as url, deployment.worker(), deployment.dispatcher():
        ids = deployment.post(url, "fail", "v1")
        eventually(lambda: deployment.counts().waiting == 0, 60)
        counts = deployment.counts()
    assert deployment.event_ids("sync") == ids
    assert [call.id for call in deployment.plugin.calls("started")] == [ids[0], *ids]
    assert counts.failed == 1
    assert counts.handlers["recording/dockhand_event"].failed == 1


def test_events_of_a_killed_worker_are_delivered(deployment: CeleryDeployment) -> None:
    with deployment.receiver() as url, deployment.worker(), deployment.dispatcher():
        ids = deployment.post(url, "kill", "v1")
        eventually(lambda: deployment.counts().waiting == 0, 90)
    assert deployment.event_ids("sync") == ids


def test_time_without_a_worker_is_no_failed_attempt(deployment: CeleryDeployment) -> None:
    """A task that no worker has started expires and is sent again, without a failed attempt."""
    with deployment.receiver() as url, deployment.dispatcher():
        ids = deployment.post(url, "v1")
        time.sleep(8)  # longer than `--expires`
        assert deployment.counts().waiting == 2
        with deployment.worker():
            eventually(lambda: deployment.counts().waiting == 0, 60)
        counts = deployment.counts()
    assert deployment.event_ids("sync") == ids
    assert (counts.failed, counts.dead) == (0, 0)
    assert len(deployment.plugin.calls("sync")) == 1


def test_a_new_dispatcher_waits_for_the_tasks_of_a_killed_one(deployment: CeleryDeployment) -> None:
    """The new dispatcher does not send a second task for the same delivery."""
    with deployment.receiver() as url, deployment.worker():
        with deployment.dispatcher() as process:
            ids = deployment.post(url, "slow", "v1")
            eventually(lambda: _count_handed_out(deployment.inbox))
            process.kill()
            process.wait()
        with deployment.dispatcher():
            eventually(lambda: deployment.counts().waiting == 0, 60)
    assert deployment.event_ids("sync") == ids
    assert len(deployment.plugin.calls("started")) == 2


def _count_handed_out(inbox: Path) -> int:
    with Inbox(inbox).database.reading() as connection:
        ((number,),) = connection.execute("SELECT COUNT(*) FROM deliveries WHERE handed NOTNULL")
    return int(number)
