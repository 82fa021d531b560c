"""Runners: cancellation, parallel work, forks and closed clients."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from dockhand_testing.blocking import BlockingLoop, as_blocking
from dockhand_testing.http_server import HANG, ReceivedRequest, ScriptedServer, Step, reply

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


def stalling(request: ReceivedRequest) -> list[Step] | bytes:
    """Stall in the middle of a blob, and after the body of an upload; reply to other requests."""
    if request.method == "GET" and "/blobs/sha256" in request.path:
        return [reply(200, length=len(DATA)), DATA[: 1 << 20], HANG]
    if request.method == "HEAD":
        return reply(404)
    if request.method == "POST":
        return reply(202, Location="/v2/a/b/blobs/uploads/1?_state=x")
    if request.method in ("PATCH", "PUT"):
        return [HANG]
    return reply(204) if request.method == "DELETE" else reply(200, b'{"tags":["v1"]}')


@pytest.mark.parametrize("transport", ASYNC_TRANSPORTS)
def test_cancellation_leaks_nothing(server: ScriptedServer, transport: str) -> None:
    """The client still works after more cancelled operations than it has connections."""
    server.handler = stalling

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)
            await asyncio.sleep(0.001)

    async def main() -> None:
        settings: dict[str, Any] = {**QUIET, "max_connections": 2, "transport": transport}
        async with async_connect(server.url, timeout=30.0, **settings) as registry:

            async def read() -> None:
                async with registry.open_blob("a/b", DIGEST) as blob:
                    await blob.read()

            async def write() -> None:
                await registry.upload_blob("a/b", DATA)

            async def write_chunks() -> None:
                await registry.upload_blob("a/b", endless())

            operations = [(read, "GET"), (write, "PUT")] * 4 + [(write_chunks, "PATCH")] * 2
            for operation, method in operations:
                before = len(server.with_method(method))
                task = asyncio.create_task(operation())
                while len(server.with_method(method)) == before:  # wait until the request arrives
                    assert not task.done()
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            async with asyncio.timeout(30):
                assert [tag async for tag in registry.tags("a/b")] == ["v1"]

    asyncio.run(main())
    assert len(server.with_method("DELETE")) == len(server.with_method("POST")) == 6


def test_one_client_in_several_loops(server: ScriptedServer) -> None:
    server.handler = stalling
    registry = async_connect(server.url, **QUIET)

    async def once() -> list[str]:
        try:
            return [tag async for tag in registry.tags("a/b")]
        finally:
            await registry.reset()

    assert [asyncio.run(once()) for _ in range(3)] == [["v1"]] * 3


def test_reset_and_closed_clients(server: ScriptedServer) -> None:
    server.handler = stalling
    registry = connect(server.url, **QUIET)
    registry.ping()
    registry.reset()
    registry.ping()
    assert server.connections == 2
    registry.close()
    with pytest.raises(DockhandError, match="closed"):
        registry.ping()


def test_fork(server: ScriptedServer) -> None:
    """A forked child opens a new socket, and the parent continues to use its old one."""
    server.handler = stalling
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
    assert [one.connection for one in server.requests] == [1, 2, 1]


# -- parallel work of flows ------------------------------------------------------------------

context_word = contextvars.ContextVar("context_word", default="nothing")


class CountingFlows:
    """A factory of flows, which counts how many of its flows run.

    Args:
        together: the number of flows that wait for each other, so that they run at the same time.

    Attributes:
        running: the number of flows that run now.
        most: the highest number of flows that ran at the same time.
        begun: the number of flows that have begun.
    """

    def __init__(self, together: int = 1) -> None:
        self.running = self.most = self.begun = 0
        self.lock = threading.Lock()
        self.barrier = threading.Barrier(together)

    def flow(self, number: int, fails: bool = False) -> Flow[int]:
        with self.lock:
            self.begun += 1
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            yield from blocking(lambda: self.barrier.wait(30))
            yield from pause(0.02)
            if fails:
                raise ZeroDivisionError(number)
            seen = yield from blocking(context_word.get)
            assert seen == "something"
        finally:
            with self.lock:
                self.running -= 1
        return number


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, server: ScriptedServer) -> Any:
    """Provide a function that runs a flow with a sync or async client."""
    context_word.set("something")

    def run_flow(flow: Flow[Any]) -> Any:
        if request.param == "sync":
            with connect(server.url, **QUIET) as registry:
                return registry.run(flow)

        async def main() -> Any:
            async with async_connect(server.url, **QUIET) as registry:
                return await registry.run(flow)

        return asyncio.run(main())

    return run_flow


def test_parallel_keeps_to_its_limit(run: Any) -> None:
    work = CountingFlows(together=4)
    flows = (work.flow(number) for number in range(20))
    assert run(parallel(flows, limit=4)) == list(range(20))
    assert work.most == 4


def test_parallel_within_parallel(run: Any) -> None:
    work = CountingFlows()

    def outer(number: int) -> Flow[list[int]]:
        return (yield from parallel([work.flow(number), work.flow(number + 10)], limit=2))

    assert run(parallel([outer(1), outer(2)], limit=2)) == [[1, 11], [2, 12]]


def test_parallel_stops_at_an_error(run: Any) -> None:
    work = CountingFlows()

    def flows() -> Any:
        for number in range(1000):
            yield work.flow(number, fails=number == 5)

    with pytest.raises(ZeroDivisionError, match="5"):
        run(parallel(flows(), limit=4))
    assert work.begun < 500
    assert work.running == 0


def test_parallel_calls_are_on_the_wire_together(run: Any, server: ScriptedServer) -> None:
    arrived = threading.Barrier(8)

    def handler(request: ReceivedRequest) -> bytes:
        arrived.wait(30)  # no reply before all eight requests have arrived
        return reply(200, b"{}")

    server.handler = handler
    replies = run(parallel([call("GET", "") for _ in range(8)], limit=8))
    assert [one.status for one in replies] == [200] * 8
    assert server.connections > 1


def test_closing_a_flow_does_nothing(server: ScriptedServer) -> None:
    """A closed flow yields no more effects; its caller has to undo the operation, if necessary."""
    with connect(server.url, **QUIET) as registry:
        flow = registry.driver.upload_blob("a/b", iter([b"x"]), digest=None, progress=None)
        next(flow)
        flow.close()
    assert server.requests == []


def test_as_blocking_runs_the_async_client(server: ScriptedServer) -> None:
    """This checks `as_blocking`, which other tests use to test the async client."""
    loop = BlockingLoop()
    inner = async_connect(server.url, **QUIET)
    assert isinstance(inner, AsyncRegistryClient)
    assert not isinstance(inner, RegistryClient)
    server.handler = stalling
    with as_blocking(loop, inner) as registry:
        assert list(registry.tags("a/b")) == ["v1"]
    loop.close()
