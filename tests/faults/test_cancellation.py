"""Cancelled async work leaves no task, connection or upload behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dockhand_testing.http_server import (
    HANG,
    ReceivedRequest,
    ScriptedServer,
    Step,
    reply,
    scripted_server,
)

from dockhand_core import AsyncRegistryClient, Digest, async_connect
from dockhand_core.flow import RetryPolicy
from dockhand_core.http.transports import ASYNC_TRANSPORTS

DATA = os.urandom(300_000)
DIGEST = Digest.of(DATA)
SLOW = Digest.of(b"slow")
START = "/v2/a/b/blobs/uploads/"
TIMES = 50
SECONDS = 30.0  # seconds; an operation that takes longer fails the test
MakeClient = Callable[[], AsyncRegistryClient]
Run = Callable[[Coroutine[Any, Any, None]], None]


class Registry:
    """A registry that does not reply to some requests, and stalls in the middle of the blob SLOW.

    Attributes:
        begun: the paths of the uploads that were begun.
        cancelled: the paths of the uploads that were cancelled.
        hang: the method of requests that get no reply; by default PUT, which finishes an upload.
    """

    def __init__(self) -> None:
        self.begun: set[str] = set()
        self.cancelled: set[str] = set()
        self.hang = "PUT"

    def __call__(self, request: ReceivedRequest) -> list[Step] | bytes:
        if request.method == "HEAD":
            return reply(404)
        if request.method == "POST":
            place = f"{START}{len(self.begun)}"
            self.begun.add(place)
            return reply(202, Location=place)
        if request.method == "DELETE":
            self.cancelled.add(request.path)
            return reply(204)
        if request.method == self.hang:
            return [HANG]
        if request.method == "PATCH":
            return reply(202, Location=request.path)
        if request.path.endswith(f"/blobs/{SLOW}"):
            return [reply(200, length=len(DATA)), DATA[:200_000], HANG]
        if "/blobs/" in request.path:
            return reply(200, DATA)
        return reply(200, b'{"tags":["v1"]}')


@pytest.fixture
def registry() -> Registry:
    """Provide the scripted registry, whose state a test reads and sets."""
    return Registry()


@pytest.fixture
def server(registry: Registry) -> Iterator[ScriptedServer]:
    """Serve the scripted registry."""
    with scripted_server(registry) as found:
        yield found


@pytest.fixture(params=ASYNC_TRANSPORTS)
def make_client(request: pytest.FixtureRequest, server: ScriptedServer) -> MakeClient:
    """Provide a function that makes async clients with at most two connections each."""

    def make() -> AsyncRegistryClient:
        found = async_connect(
            server.url,
            transport=request.param,
            max_connections=2,
            timeout=30.0,
            logging={"driver": "null"},
        )
        found._runner.endpoint.retry = found.driver.retry = RetryPolicy(retries=3, base=0.01)
        return found

    return make


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Provide a function that runs a coroutine, then checks for open tasks, warnings and errors."""
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
                if left:
                    await asyncio.wait(left, timeout=SECONDS)
                gc.collect()
                await asyncio.sleep(0)
                assert [task for task in left if task is not None and not task.done()] == []

        asyncio.run(watched())
        gc.collect()
        assert unhandled == []
        assert caplog.records == []  # no "never retrieved" or "unclosed"

    return go


async def cancel_once(begun: Callable[[], bool], work: Awaitable[object]) -> None:
    """Run `work`, and cancel it up to 10 ms after `begun` returns true."""
    task = asyncio.ensure_future(work)
    while not begun() and not task.done():
        await asyncio.sleep(0.001)
    await asyncio.sleep(random.random() * 0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, SECONDS)


async def assert_usable(found: AsyncRegistryClient) -> None:
    """Assert that both connections of a client can be used."""

    async def tags() -> list[str]:
        return [tag async for tag in found.tags("a/b")]

    async with asyncio.timeout(SECONDS):
        assert await asyncio.gather(*[tags() for _ in range(8)]) == [["v1"]] * 8
        assert await found.read_blob("a/b", DIGEST) == DATA


def count(server: ScriptedServer, method: str, ending: str = "") -> int:
    """Count the requests with this method and a path with this ending."""
    return sum(one.method == method and one.path.endswith(ending) for one in server.requests)


def test_cancelled_downloads(
    make_client: MakeClient, server: ScriptedServer, run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        async with make_client() as found:
            for number in range(TIMES):
                work = found.download_blob("a/b", SLOW, tmp_path / "blob")
                await cancel_once(lambda n=number: count(server, "GET", SLOW) > n, work)  # type: ignore[misc]
            await assert_usable(found)
        assert not (tmp_path / "blob").exists()
        assert count(server, "GET", SLOW) == TIMES

    run(body())


@pytest.mark.parametrize("fails", [False, True])
def test_a_file_is_not_closed_while_a_thread_writes_to_it(
    make_client: MakeClient, server: ScriptedServer, run: Run, tmp_path: Path, fails: bool
) -> None:
    """A thread cannot be cancelled, so each of several cancellations waits for it."""
    data = os.urandom(8 << 20)
    digest = Digest.of(data)
    server.handler = lambda request: reply(200, data)
    part = tmp_path / f"blob.{digest.encoded[:16]}.part"
    writing = written = 0

    def progress(done: int, _: int | None) -> None:
        nonlocal writing, written
        writing += 1
        time.sleep(0.2)
        assert part in open_files()
        written += 1
        if fails:
            raise ZeroDivisionError

    async def body() -> None:
        async with make_client() as found:
            work = asyncio.create_task(
                found.download_blob("a/b", digest, tmp_path / "blob", progress=progress)
            )
            while not writing:
                await asyncio.sleep(0.001)
            for _ in range(3):
                work.cancel()
                await asyncio.sleep(0.01)
            with pytest.raises(asyncio.CancelledError):
                await work
            assert written == writing

    run(body())


def open_files() -> list[Path]:
    """The paths of this process's open files."""
    links = [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [each.readlink() for each in links]


def test_cancelled_readers(make_client: MakeClient, server: ScriptedServer, run: Run) -> None:
    async def read(found: AsyncRegistryClient) -> None:
        async with found.open_blob("a/b", SLOW) as blob:
            await blob.read()

    async def body() -> None:
        async with make_client() as found:
            for number in range(TIMES):
                await cancel_once(lambda n=number: count(server, "GET", SLOW) > n, read(found))  # type: ignore[misc]
            await assert_usable(found)

    run(body())


def test_abandoned_readers(make_client: MakeClient, server: ScriptedServer, run: Run) -> None:
    """`break` leaves each reader in the middle of a blob, and the context manager closes it."""

    async def body() -> None:
        async with make_client() as found:
            for _ in range(TIMES):
                async with asyncio.timeout(SECONDS), found.open_blob("a/b", SLOW) as blob:
                    async for _block in blob:
                        break
            await assert_usable(found)

    run(body())


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_cancelled_uploads(
    make_client: MakeClient,
    server: ScriptedServer,
    registry: Registry,
    run: Run,
    tmp_path: Path,
    kind: str,
) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)

    async def body() -> None:
        async with make_client() as found:
            for number in range(TIMES):
                work = found.upload_blob("a/b", DATA if kind == "bytes" else path)
                await cancel_once(lambda n=number: count(server, "PUT") > n, work)  # type: ignore[misc]
            await assert_usable(found)
        assert len(registry.begun) == TIMES
        assert registry.cancelled == registry.begun

    run(body())


@pytest.mark.parametrize("where", ["source", "request"])
def test_cancelled_streams(
    make_client: MakeClient, server: ScriptedServer, registry: Registry, run: Run, where: str
) -> None:
    """The upload is cancelled while it waits for the caller's iterator or sends a chunk."""
    registry.hang = "PATCH" if where == "request" else "none"
    chunk = bytes(8 << 20)
    waiting = 0

    async def blocks() -> AsyncIterator[bytes]:
        nonlocal waiting
        yield chunk if where == "request" else b"a little"
        waiting += 1
        await asyncio.sleep(60)

    async def body() -> None:
        times = TIMES if where == "source" else 10
        async with make_client() as found:
            for number in range(times):
                work = found.upload_blob("a/b", blocks())
                begun = (
                    (lambda n=number: waiting > n)
                    if where == "source"
                    else (lambda n=number: count(server, "PATCH") > n)
                )
                await cancel_once(begun, work)
            await assert_usable(found)
        assert len(registry.begun) == times
        assert registry.cancelled == registry.begun

    run(body())


def test_cancelled_writers(make_client: MakeClient, registry: Registry, run: Run) -> None:
    writing = 0

    async def write(found: AsyncRegistryClient) -> None:
        nonlocal writing
        async with found.blob_writer("a/b") as out:
            await out.write(b"a little")
            writing += 1
            await asyncio.sleep(60)

    async def body() -> None:
        async with make_client() as found:
            for number in range(TIMES):
                await cancel_once(lambda n=number: writing > n, write(found))  # type: ignore[misc]
            await assert_usable(found)
        assert len(registry.begun) == TIMES
        assert registry.cancelled == registry.begun

    run(body())


def test_cancelled_at_any_moment(
    make_client: MakeClient, server: ScriptedServer, registry: Registry, run: Run, tmp_path: Path
) -> None:
    """Operations that compete for connections are cancelled as they wait, connect, send or read."""
    path = tmp_path / "data"
    path.write_bytes(DATA)

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"a little"
            await asyncio.sleep(0.001)

    async def body() -> None:
        async with make_client() as found:
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
                        await asyncio.wait_for(task, SECONDS)
            await assert_usable(found)
        # The client cannot cancel an upload if it did not read the reply to the POST.
        known = {one.path for one in server.requests if one.method in ("PUT", "PATCH")}
        assert known <= registry.cancelled <= registry.begun

    run(body())


def test_a_timeout_of_the_caller(
    make_client: MakeClient, server: ScriptedServer, registry: Registry, run: Run
) -> None:
    """`asyncio.timeout` cancels the task; the client cancels the upload before the block ends."""

    async def expire(timeout: asyncio.Timeout) -> None:
        while not count(server, "PUT"):
            await asyncio.sleep(0.001)
        timeout.reschedule(asyncio.get_running_loop().time())

    async def body() -> None:
        async with make_client() as found:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as timeout, asyncio.TaskGroup() as group:
                    group.create_task(expire(timeout))
                    await found.upload_blob("a/b", DATA)
            assert registry.begun
            assert registry.cancelled == registry.begun
            await assert_usable(found)

    run(body())
