"""Registries and receivers on loopback: a push, its notification, the call, and the copy."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from dockhand_embedded import create_app as registry_app
from dockhand_mirror.hooks import MirrorPlugin
from dockhand_testing import build_artifact, build_index
from dockhand_webhook import Backoff
from dockhand_webhook import create_app as receiver_app

from dockhand_core import Dockhand, hookimpl

APP = "library/app"
TOKEN = "s3cret-token"


class Site:
    """A registry that posts notifications to a receiver, whose mirror copies to another site."""

    def __init__(self, name: str, folder: Path, stack: contextlib.ExitStack) -> None:
        self.name, self.folder, self._stack = name, folder, stack
        self.pushes: list[tuple[str, str, str]] = []  # user agent, repository, tag
        self._sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        for each in self._sockets:
            stack.callback(each.close)
        self.url, self._receiver = (
            f"http://127.0.0.1:{each.getsockname()[1]}" for each in self._sockets
        )

    def start(self, target: Site | None = None, **settings: Any) -> None:
        """Start the receiver and the registry."""
        connections: dict[str, Any] = {self.name: {"base_uri": self.url, "driver": "distribution"}}
        config: dict[str, Any] = {"connections": connections}
        if target is not None:
            connections[target.name] = {
                "base_uri": target.url,
                "driver": "distribution",
                "headers": {"User-Agent": "dockhand-mirror"},
                "retries": 0,
                "timeout": 2.0,
            }
            table = {"from": [self.name], "to": target.name, **settings}
            config["plugins"] = {f"site-{self.name}": table}
        dockhand = self._stack.enter_context(Dockhand(config))
        dockhand.plugins.register(self, name="recorder")
        if target is not None:
            dockhand.plugins.register(MirrorPlugin(), name=f"site-{self.name}")
        self.receiver = receiver_app(
            dockhand,
            self.folder / f"{self.name}.db",
            tokens=[TOKEN],
            backoff=Backoff(first=0.2, factor=1.0),
        )
        self._serve(self.receiver, self._sockets[1])
        self.start_registry()
        self.client = dockhand.connection(self.name)

    def start_registry(self) -> None:
        """Start the registry, with the receiver as the endpoint of its notifications."""
        url = f"{self._receiver}/dockhand/notify/{self.name}"
        app = registry_app(":memory:", notifications=[{"url": url, "token": TOKEN}])
        self._serve(app, self._sockets[0])

    def _serve(self, app: Any, listener: socket.socket) -> None:
        options: dict[str, Any] = {"log_config": None, "ws": "none", "timeout_graceful_shutdown": 1}
        server = uvicorn.Server(uvicorn.Config(app, **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        self._stack.callback(thread.join, 10)
        self._stack.callback(setattr, server, "should_exit", True)

    @hookimpl
    def dockhand_manifest_pushed(self, event: Any) -> None:
        """Record a push."""
        if event.tag:
            self.pushes.append((event.request_user_agent, event.repository, event.tag))

    @property
    def mirrored(self) -> Any:
        """The counts of the mirror's deliveries."""
        return self.receiver.counts().handlers[f"site-{self.name}/dockhand_event"]

    @property
    def tags(self) -> dict[str, list[str]]:
        """The tags of each repository."""
        return {name: list(self.client.tags(name)) for name in self.client.repositories()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    with contextlib.ExitStack() as stack:
        yield lambda name: Site(name, tmp_path, stack)


def eventually(condition: Callable[[], object], timeout: float = 30) -> None:
    """Wait until a condition is true."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def test_push_is_copied(site: Callable[[str], Site]) -> None:
    main, backup = site("main"), site("backup")
    backup.start()
    main.start(backup, to_repository="{connection}/{repository}")
    index = build_index("linux/amd64", "linux/arm64").push(main.client, APP, "v1")
    sbom = build_artifact({"sbom.json": b"{}"}, subject=index).push(main.client, APP)
    eventually(lambda: backup.tags == {"main/library/app": ["v1"]})
    eventually(lambda: backup.client.manifest_exists("main/library/app", sbom.digest))
    assert backup.client.manifest("main/library/app", "v1").raw == index.raw
    assert backup.client.image("main/library/app", "v1", platform="linux/arm64").layers
    eventually(lambda: main.mirrored.waiting == 0)
    assert main.mirrored.failed == 0


def test_two_mirrors_of_each_other(site: Callable[[str], Site]) -> None:
    """Each push is copied once, and copies are not copied back, also under another name."""
    one, two = site("one"), site("two")
    one.start(two, to_repository="from-one/{repository}")
    two.start(one)
    build_index("linux/amd64", "linux/arm64").push(one.client, APP, "v1")
    build_index("linux/arm64").push(two.client, APP, "v2")
    eventually(lambda: len(one.pushes) == len(two.pushes) == 2)
    for each in (one, two):
        eventually(lambda each=each: each.mirrored.waiting == 0)  # type: ignore[misc]
    assert one.tags == {APP: ["v1", "v2"]}
    assert two.tags == {"from-one/library/app": ["v1"], APP: ["v2"]}
    mark = "dockhand-mirror"
    assert [push for push in one.pushes if push[0] == mark] == [(mark, APP, "v2")]
    assert [push for push in two.pushes if push[0] == mark] == [(mark, f"from-one/{APP}", "v1")]


def test_target_that_is_down(site: Callable[[str], Site]) -> None:
    """The event is delivered again when the target is there."""
    main, backup = site("main"), site("backup")
    main.start(backup)
    index = build_index("linux/amd64").push(main.client, APP, "v1")
    eventually(lambda: main.mirrored.failed)
    backup.start()
    eventually(lambda: backup.tags == {APP: ["v1"]})
    assert backup.client.manifest_head(APP, "v1").digest == index.digest
