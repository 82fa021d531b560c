"""What the runners promise: cancellation, parallel work, forks, closed clients."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from blocking_async import Loop, driven
from scripted_server import STOP, Asked, Scripted, Step, Wait, reply

from dockhand_core import (
    AsyncRegistryClient,
    Digest,
    DockhandError,
    RegistryClient,
    async_connect,
    connect,
)
from dockhand_core.flow import Flow, blocking, call, parallel, pause
from dockhand_core.http.transports import ASYNC_TRANSPORTS

DATA = bytes(2 << 20)
DIGEST = Digest.of(DATA)
QUIET: dict[str, Any] = {"logging": {"driver": "null"}}


def pausing(asked: Asked) -> list[Step] | bytes:
    """Half a blob, and then nothing; uploads are begun and never end."""
    if asked.method == "GET" and "/blobs/sha256" in asked.path:
        return [reply(200, length=len(DATA)), DATA[: 1 << 20], STOP]
    if asked.method == "HEAD":
        return reply(404)
    if asked.method == "POST":
        return reply(202, Location="/v2/a/b/blobs/uploads/1?_state=x")
    if asked.method == "PUT":
        return [STOP]
    return reply(204) if asked.method == "DELETE" else reply(200, b'{"tags":["v1"]}')


@pytest.mark.parametrize("carrier", ASYNC_TRANSPORTS)
def test_cancellation_leaks_nothing(server: Scripted, carrier: str) -> None:
    """More cancelled operations than there are connections; then it still works."""
    server.handler = pausing

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)
            await asyncio.sleep(0.001)

    async def main() -> None:
        settings: dict[str, Any] = {**QUIET, "max_connections": 2, "transport": carrier}
        async with async_connect(server.url, timeout=5.0, **settings) as registry:

            async def read() -> None:
                async with registry.open_blob("a/b", DIGEST) as blob:
                    await blob.read()

            async def write() -> None:
                await registry.upload_blob("a/b", DATA)

            async def write_chunks() -> None:
                server.handler = lambda asked: (
                    [Wait(0.2), reply(202, Location="/v2/a/b/blobs/uploads/1?_state=y")]
                    if asked.method == "PATCH"
                    else pausing(asked)
                )
                await registry.upload_blob("a/b", endless())

            for operation in [read, write] * 4 + [write_chunks] * 2:
                task = asyncio.create_task(operation())
                await asyncio.sleep(0.08)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            async with asyncio.timeout(3):
                assert [tag async for tag in registry.tags("a/b")] == ["v1"]

    asyncio.run(main())
    # what was begun was given up
    assert len(server.said("DELETE")) == len(server.said("POST")) == 6


def test_several_loops(server: Scripted) -> None:
    """One client, in one loop after another."""
    server.handler = pausing
    registry = async_connect(server.url, **QUIET)

    async def once() -> list[str]:
        try:
            return [tag async for tag in registry.tags("a/b")]
        finally:
            await registry.reset()

    assert [asyncio.run(once()) for _ in range(3)] == [["v1"]] * 3


def test_closed(server: Scripted) -> None:
    server.handler = pausing
    registry = connect(server.url, **QUIET)
    registry.ping()
    registry.reset()
    registry.ping()
    assert server.connections == 2
    registry.close()
    with pytest.raises(DockhandError, match="closed"):
        registry.ping()


def test_fork(server: Scripted) -> None:
    """A child speaks on sockets of its own, and the parent goes on with its own."""
    server.handler = pausing
    with connect(server.url, **QUIET) as registry:
        registry.ping()
        child = os.fork()
        if child == 0:  # pragma: no cover
            try:
                registry.ping()
                registry.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        registry.ping()
    assert [one.connection for one in server.asked] == [1, 2, 1]


# -- parallel work, as flows ask for it ------------------------------------------------------

word = contextvars.ContextVar("word", default="nothing")


class Work:
    """Flows that count how many of them are at it."""

    def __init__(self) -> None:
        self.running = self.most = self.begun = 0
        self.lock = threading.Lock()

    def flow(self, number: int, fails: bool = False) -> Flow[int]:
        with self.lock:
            self.begun += 1
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            yield from pause(0.02)
            if fails:
                raise ZeroDivisionError(number)
            seen = yield from blocking(word.get)
            assert seen == "something"
        finally:
            with self.lock:
                self.running -= 1
        return number


@pytest.fixture(params=["sync", "async"])
def runs(request: pytest.FixtureRequest, server: Scripted) -> Any:
    """Runs a flow on a client."""
    word.set("something")

    def run(flow: Flow[Any]) -> Any:
        if request.param == "sync":
            with connect(server.url, **QUIET) as registry:
                return registry.run(flow)

        async def main() -> Any:
            async with async_connect(server.url, **QUIET) as registry:
                return await registry.run(flow)

        return asyncio.run(main())

    return run


def test_parallel(runs: Any) -> None:
    work = Work()
    flows = (work.flow(number) for number in range(20))
    assert runs(parallel(flows, limit=4)) == list(range(20))
    assert work.most == 4


def test_parallel_within_parallel(runs: Any) -> None:
    work = Work()

    def outer(number: int) -> Flow[list[int]]:
        return (yield from parallel([work.flow(number), work.flow(number + 10)], limit=2))

    assert runs(parallel([outer(1), outer(2)], limit=2)) == [[1, 11], [2, 12]]


def test_parallel_stops_at_an_error(runs: Any) -> None:
    work = Work()

    def flows() -> Any:
        for number in range(1000):
            yield work.flow(number, fails=number == 5)

    with pytest.raises(ZeroDivisionError, match="5"):
        runs(parallel(flows(), limit=4))
    assert work.begun < 50
    assert work.running == 0


def test_parallel_calls(runs: Any, server: Scripted) -> None:
    """They run at once on the wire."""
    server.handler = lambda asked: [Wait(0.2), reply(200, b"{}")]
    start = time.monotonic()
    replies = runs(parallel([call("GET", "") for _ in range(8)], limit=8))
    assert [one.status for one in replies] == [200] * 8
    assert time.monotonic() - start < 1.5  # one after the other they would take 1.6
    assert server.connections > 1


def test_closing_a_flow_does_nothing(server: Scripted) -> None:
    """A flow that is closed does not yield; what it began is its caller's."""
    with connect(server.url, **QUIET) as registry:
        flow = registry.driver.upload_blob("a/b", iter([b"x"]), digest=None, progress=None)
        next(flow)
        flow.close()
    assert server.asked == []


def test_driven_is_the_async_client(server: Scripted) -> None:
    """The tests' own tool: it does run the async client."""
    loop = Loop()
    inner = async_connect(server.url, **QUIET)
    assert isinstance(inner, AsyncRegistryClient)
    assert not isinstance(inner, RegistryClient)
    server.handler = pausing
    with driven(loop, inner) as registry:
        assert list(registry.tags("a/b")) == ["v1"]
    loop.close()
