"""A soak test: the receiver and workers are killed again and again during pushes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from dockhand_testing.contracts.samples import config_of, push_blob
from dockhand_webhook import Inbox
from dockhand_webhook.snippets import distribution_section
from handlers import HandlerCall, RecordingPlugin
from registries import distribution, free_port
from webhook_receiver import eventually

from dockhand_core import ImageManifest, connect
from dockhand_core.models import media

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

KILLS = 20
IMAGES = 300
REPOSITORIES = 30
CONCURRENCY = 4  # repositories at a time, for each handler in each process
HANDLERS = ("every", "pushed")


class Processes:
    """Named processes, which a test can kill with SIGKILL and start again."""

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        self._log, self._environment = log, environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[str, ...]] = {}
        self.killed: list[str] = []

    def start(self, name: str, *command: str) -> None:
        self._commands[name] = command
        with self._log.open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "dockhand_webhook", *command],
                env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        self._running[name].kill()
        assert self._running[name].wait() == -signal.SIGKILL  # the process had not ended by itself
        self.killed.append(name)
        self.start(name, *self._commands[name])

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.wait(30)


@contextmanager
def running_processes(folder: Path, plugin: RecordingPlugin, port: int) -> Iterator[Processes]:
    """Start a receiver that calls handlers, and two workers for the same inbox."""
    found = Processes(folder / "log", plugin.environment)
    inbox = ("--inbox", str(folder / "inbox.db"))
    options = ("--concurrency", str(CONCURRENCY), "--lease", "1", "--retry-after", "0.05")
    try:
        found.start("receiver", *inbox, "--port", str(port), *options)
        for number in range(2):
            found.start(f"worker {number}", "work", *inbox, *options)
        yield found
    finally:
        found.stop()


def push_all(url: str) -> list[tuple[str, str]]:
    """Push images to all repositories in turn; return the repository and the tag of each image."""
    pushed = []
    with connect(url, logging={"driver": "null"}) as registry:
        for number in range(IMAGES):
            repository, tag = f"soak/r{number % REPOSITORIES:02}", f"v{number}"
            config = push_blob(registry, repository, config_of(number=tag), media.OCI_CONFIG)
            manifest = ImageManifest(config=config, layers=())
            registry.put_manifest(repository, tag, manifest)
            pushed.append((repository, tag))
            time.sleep(0.02)  # so that the pushes last as long as the kills
    return pushed


def first_calls(calls: list[HandlerCall]) -> dict[str, list[str]]:
    """Group event ids by repository, in the order of the first call for each event."""
    found: dict[str, list[str]] = defaultdict(list)
    for call in calls:
        if call.id not in found[call.repository]:
            found[call.repository].append(call.id)
    return found


@pytest.mark.parametrize("version", ["2.8", "3.1"])
def test_no_event_is_lost_or_out_of_order(version: str, tmp_path: Path) -> None:
    plugin, port = RecordingPlugin(tmp_path), free_port()
    inbox = Inbox(tmp_path / "inbox.db")
    route = f"http://127.0.0.1:{port}/dockhand/notify"
    section = yaml.safe_load(distribution_section(route, inbox.tokens.issue().get_secret_value()))
    section["notifications"]["endpoints"][0]["backoff"] = "100ms"  # the default is 5 s
    with ExitStack() as stack:
        running = stack.enter_context(running_processes(tmp_path, plugin, port))
        eventually(lambda: len(inbox.counts().handlers) == len(HANDLERS))
        url = stack.enter_context(distribution(version, tmp_path / "registry", **section))
        pushed, push = _start_thread(lambda: push_all(url))
        for _ in range(KILLS):
            time.sleep(random.uniform(0.2, 0.7))
            running.kill(random.choice(["receiver", "receiver", "worker 0", "worker 1"]))
        push.join()
        [images] = pushed
        arrived = _wait_for_pushes(inbox, images)
        eventually(lambda: inbox.counts().waiting == 0, 60)
        counts = inbox.counts()
    assert len(running.killed) == KILLS
    assert counts.dead_letters == 0
    calls = {handler: plugin.calls(handler) for handler in HANDLERS}
    everything = {each for ids in arrived.values() for each in ids}
    assert {each.id for each in calls["every"]} == everything
    assert {(each.repository, each.tag) for each in calls["pushed"]} == set(images)
    for handler in HANDLERS:
        for repository, ids in first_calls(calls[handler]).items():
            known = set(ids)
            assert ids == [each for each in arrived[repository] if each in known], repository
        repeated = len(calls[handler]) - len({each.id for each in calls[handler]})
        assert repeated <= KILLS * CONCURRENCY, (
            "more deliveries repeated than were in progress at the kills"
        )


def _start_thread(
    work: Callable[[], list[tuple[str, str]]],
) -> tuple[list[list[tuple[str, str]]], threading.Thread]:
    """Call a function in a thread; return the list that gets its result, and the thread."""
    results: list[list[tuple[str, str]]] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return results, thread


def _wait_for_pushes(inbox: Inbox, images: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Wait until every push is in the inbox; return the event ids by repository, in order."""

    def rows() -> list[tuple[str, str, str]]:
        with inbox.database.reading() as connection:
            return connection.execute("SELECT lane, id, kind FROM events ORDER BY seq").fetchall()

    eventually(lambda: sum(row[2] == "ManifestPushed" for row in rows()) >= len(images), 60)
    found: dict[str, list[str]] = defaultdict(list)
    for partition, event_id, _ in rows():
        found[partition.partition(":")[2]].append(event_id)
    return found
