"""Async work that is cancelled: nothing is left behind, on either side."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Asked, Scripted, Step, Wait, reply, scripted

from dockhand_core import AsyncRegistryClient, Digest, async_connect
from dockhand_core.flow import RetryPolicy
from dockhand_core.http.transports import ASYNC_TRANSPORTS

DATA = os.urandom(300_000)
DIGEST = Digest.of(DATA)
SLOW = Digest.of(b"slow")
START = "/v2/a/b/blobs/uploads/"
TIMES = 50


class Registry:
    """Takes uploads without ever answering the last request, and sends blobs too slowly."""

    def __init__(self) -> None:
        self.begun: set[str] = set()
        self.cancelled: set[str] = set()
        self.hang = "PUT"

    def __call__(self, asked: Asked) -> list[Step] | bytes:
        if asked.method == "HEAD":
            return reply(404)
        if asked.method == "POST":
            place = f"{START}{len(self.begun)}"
            self.begun.add(place)
            return reply(202, Location=place)
        if asked.method == "DELETE":
            self.cancelled.add(asked.path)
            return reply(204)
        if asked.method == self.hang:
            return [Wait(30)]
        if asked.method == "PATCH":
            return reply(202, Location=asked.path)
        if asked.path.endswith(f"/blobs/{SLOW}"):
            return [reply(200, length=len(DATA)), DATA[:200_000], Wait(30)]
        if "/blobs/" in asked.path:
            return reply(200, DATA)
        return reply(200, b'{"tags":["v1"]}')


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def server(registry: Registry) -> Iterator[Scripted]:
    with scripted(registry) as found:
        yield found


@pytest.fixture(params=ASYNC_TRANSPORTS)
def client(request: pytest.FixtureRequest, server: Scripted) -> Callable[[], AsyncRegistryClient]:
    def make() -> AsyncRegistryClient:
        found = async_connect(
            server.url,
            transport=request.param,
            max_connections=2,
            timeout=5.0,
            logging={"driver": "null"},
        )
        found._runner.endpoint.retry = found.driver.retry = RetryPolicy(retries=3, base=0.01)
        return found

    return make


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a test's body, and sees to it that nothing was forgotten."""
    caplog.set_level(logging.WARNING)

    def go(body: Coroutine[Any, Any, None]) -> None:
        unhandled: list[dict[str, Any]] = []

        async def watched() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: unhandled.append(context))
            try:
                await body
            finally:
                left = asyncio.all_tasks() - {asyncio.current_task()}
                await asyncio.sleep(0.02)
                gc.collect()
                await asyncio.sleep(0)
                stuck = [task for task in left if task is not None and not task.done()]
                assert stuck == []

        asyncio.run(watched())
        gc.collect()
        assert unhandled == []
        assert caplog.records == []  # "never retrieved", "unclosed" …

    return go


async def cancelled(work: Awaitable[object], begun: Callable[[], bool]) -> None:
    """Cancel something that is under way, now or a moment later."""
    task = asyncio.ensure_future(work)
    while not begun() and not task.done():
        await asyncio.sleep(0.001)
    await asyncio.sleep(random.random() * 0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


async def works(found: AsyncRegistryClient) -> None:
    """Both connections are there for use."""

    async def tags() -> list[str]:
        return [tag async for tag in found.tags("a/b")]

    async with asyncio.timeout(5):
        assert await asyncio.gather(*[tags() for _ in range(8)]) == [["v1"]] * 8
        assert await found.read_blob("a/b", DIGEST) == DATA


def seen(server: Scripted, method: str, ending: str = "") -> int:
    return sum(one.method == method and one.path.endswith(ending) for one in server.asked)


Make = Callable[[], AsyncRegistryClient]
Run = Callable[[Coroutine[Any, Any, None]], None]


def test_cancelled_downloads(client: Make, server: Scripted, run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with client() as found:
            for count in range(TIMES):
                work = found.download_blob("a/b", SLOW, tmp_path / "blob")
                await cancelled(work, lambda n=count: seen(server, "GET", SLOW) > n)  # type: ignore[misc]
            await works(found)
        assert not (tmp_path / "blob").exists()
        assert seen(server, "GET", SLOW) == TIMES

    run(body())


def test_cancelled_readers(client: Make, server: Scripted, run: Run) -> None:
    async def read(found: AsyncRegistryClient) -> None:
        async with found.open_blob("a/b", SLOW) as blob:
            await blob.read()

    async def body() -> None:
        async with client() as found:
            for count in range(TIMES):
                await cancelled(read(found), lambda n=count: seen(server, "GET", SLOW) > n)  # type: ignore[misc]
            await works(found)

    run(body())


def test_abandoned_readers(client: Make, server: Scripted, run: Run) -> None:
    """Not cancelled: left in the middle, by `break`."""

    async def body() -> None:
        async with client() as found:
            for _ in range(TIMES):
                async with asyncio.timeout(5), found.open_blob("a/b", SLOW) as blob:
                    async for _block in blob:
                        break
            await works(found)

    run(body())


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_cancelled_uploads(
    client: Make, server: Scripted, registry: Registry, run: Run, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)

    async def body() -> None:
        async with client() as found:
            for count in range(TIMES):
                work = found.upload_blob("a/b", DATA if kind == "bytes" else path)
                await cancelled(work, lambda n=count: seen(server, "PUT") > n)  # type: ignore[misc]
            await works(found)
        assert len(registry.begun) == TIMES
        assert registry.cancelled == registry.begun

    run(body())


@pytest.mark.parametrize("where", ["source", "request"])
def test_cancelled_streams(
    client: Make, server: Scripted, registry: Registry, run: Run, where: str
) -> None:
    """While the caller's iterator is waited for, and while a chunk is on its way."""
    registry.hang = "PATCH" if where == "request" else "none"
    chunk = bytes(8 << 20)
    waiting = 0

    async def blocks() -> AsyncIterator[bytes]:
        nonlocal waiting
        yield chunk if where == "request" else b"a little"
        waiting += 1
        await asyncio.sleep(30)

    async def body() -> None:
        times = TIMES if where == "source" else 10
        async with client() as found:
            for count in range(times):
                work = found.upload_blob("a/b", blocks())
                begun = (  # one of two conditions
                    (lambda n=count: waiting > n)
                    if where == "source"
                    else (lambda n=count: seen(server, "PATCH") > n)
                )
                await cancelled(work, begun)
            await works(found)
        assert len(registry.begun) == times
        assert registry.cancelled == registry.begun

    run(body())


def test_cancelled_writers(client: Make, registry: Registry, run: Run) -> None:
    async def write(found: AsyncRegistryClient) -> None:
        async with found.blob_writer("a/b") as out:
            await out.write(b"a little")
            await asyncio.sleep(30)

    async def body() -> None:
        async with client() as found:
            for count in range(TIMES):
                await cancelled(write(found), lambda n=count: len(registry.begun) > n)  # type: ignore[misc]
            await works(found)
        assert registry.cancelled == registry.begun

    run(body())


def test_cancelled_at_any_moment(
    client: Make, server: Scripted, registry: Registry, run: Run, tmp_path: Path
) -> None:
    """Several at once, on fewer connections, cancelled while they wait, connect, send or read."""
    path = tmp_path / "data"
    path.write_bytes(DATA)

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"a little"
            await asyncio.sleep(0.001)

    async def body() -> None:
        async with client() as found:
            for number in range(TIMES):
                kinds: list[Callable[[], Awaitable[object]]] = [
                    lambda n=number: found.download_blob("a/b", SLOW, tmp_path / f"{n}"),  # type: ignore[misc]
                    lambda: found.upload_blob("a/b", path),
                    lambda: found.upload_blob("a/b", stream()),
                    lambda: found.read_blob("a/b", DIGEST),
                    lambda: found.manifest_exists("a/b", "v1"),
                ]
                tasks = [asyncio.ensure_future(kind()) for kind in kinds]
                await asyncio.sleep(random.random() * 0.02)
                for task in tasks:
                    task.cancel()
                for task in tasks:
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait_for(task, 5)
            await works(found)
        # An upload whose very beginning was cancelled is unknown to us: it has no DELETE.
        assert len(registry.begun - registry.cancelled) <= seen(server, "POST") // 2
        assert registry.cancelled <= registry.begun

    run(body())


def test_timed_out_from_outside(client: Make, registry: Registry, run: Run) -> None:
    """`asyncio.timeout` is a cancellation: the upload is given up before it ends."""

    async def body() -> None:
        async with client() as found:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await found.upload_blob("a/b", DATA)
            assert registry.begun
            assert registry.cancelled == registry.begun
            await works(found)

    run(body())
