"""One sync client, used by many threads; and readers that hold all connections."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dockhand_testing.http_server import CUT, ReceivedRequest, ScriptedServer, Step, reply

from dockhand_core import Digest, RegistryClient, Timeout, async_connect, connect
from dockhand_core.flow import RetryPolicy
from dockhand_core.http.transports import ASYNC_TRANSPORTS

BLOBS = {Digest.of(data): data for data in (os.urandom(40_000) for _ in range(16))}


class UnreliableRegistry:
    """A registry of blobs that cuts one reply in five at a random byte."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.random = random.Random(1)
        self.kept: dict[str, bytes] = {}
        self.cut_replies = self.uploads = 0

    def __call__(self, request: ReceivedRequest) -> list[Step] | bytes:
        answer = self.answer(request)
        with self.lock:
            breaks = self.random.random() < 0.2
            self.cut_replies += breaks
            place = self.random.randrange(len(answer))
        return [answer[:place], CUT] if breaks else answer

    def answer(self, request: ReceivedRequest) -> bytes:
        _, _, name = request.path.rpartition("/")
        if request.method == "POST":
            with self.lock:
                self.uploads += 1
                return reply(202, Location=f"{request.path}{self.uploads}")
        if request.method == "PUT":
            digest = request.query["digest"]
            if Digest.of(request.body) != digest:
                return reply(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
            self.kept[f"{request.path.split('/blobs/')[0]}/{digest}"] = request.body
            return reply(201, Location="/x")
        if request.method == "HEAD":
            kept = self.kept.get(f"{request.path.split('/blobs/')[0]}/{name}")
            return reply(404) if kept is None else reply(200, length=len(kept))
        if request.method == "DELETE" or "/uploads/" in request.path:
            return reply(404)
        data = BLOBS[Digest(name)]
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return reply(206 if start else 200, data[start:], Content_Range=span)


def test_sixteen_threads_on_four_connections(server: ScriptedServer, tmp_path: Path) -> None:
    server.handler = upstream = UnreliableRegistry()
    with connect(
        server.url, max_connections=4, timeout=30.0, logging={"driver": "null"}
    ) as registry:
        registry._runner.endpoint.retry = registry.driver.retry = RetryPolicy(
            retries=20, base=0.001
        )
        barrier = threading.Barrier(16)

        def work(number: int) -> None:
            barrier.wait(30)
            for digest, data in random.Random(number).sample(sorted(BLOBS.items()), 5):
                path = tmp_path / f"{number}-{digest.encoded[:12]}"
                assert registry.download_blob("a/b", digest, path).read_bytes() == data
                assert registry.upload_blob(f"to/{number}", path).digest == digest
                assert upstream.kept[f"/v2/to/{number}/{digest}"] == data

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))
    assert upstream.cut_replies > 20  # of about 400
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_more_threads_than_connections_to_two_origins(
    server: ScriptedServer, other: ScriptedServer, limit: int
) -> None:
    """No connection is closed while another thread is about to use it.

    Every reply comes at once and is small, and half of the requests are redirected, so connections
    change their owner, and their origin, all the time.
    """
    digest, data = next(iter(BLOBS.items()))
    other.handler = lambda request: reply(200, data)
    server.handler = lambda request: (
        reply(307, Location=f"{other.url}/x")
        if request.path.startswith("/v2/away")
        else reply(200, data)
    )
    with connect(
        server.url, max_connections=limit, timeout=5.0, retries=0, logging={"driver": "null"}
    ) as registry:

        def work(number: int) -> float:
            slowest = 0.0
            for turn in range(60):
                started = time.monotonic()
                repository = "away/a" if (number + turn) % 2 else "home/a"
                assert registry.read_blob(repository, digest) == data
                slowest = max(slowest, time.monotonic() - started)
            return slowest

        with ThreadPoolExecutor(8) as pool:
            assert max(pool.map(work, range(8))) < 4
    assert len(other.requests) == 240


def test_readers_that_hold_all_connections(
    make_client: Callable[..., RegistryClient], server: ScriptedServer
) -> None:
    """One more request fails once, with the reason, instead of waiting without end."""
    digest, data = next(iter(BLOBS.items()))
    server.handler = lambda request: reply(200, data)
    registry = make_client(server.url, max_connections=2, timeout=0.5)
    with registry.open_blob("a/b", digest) as first, registry.open_blob("a/b", digest) as second:
        for blob in (first, second):
            assert blob.read(10) == data[:10]
        started = time.monotonic()
        with pytest.raises(Timeout, match=r"max_connections = 2.*close"):
            registry.ping()
        assert 0.4 < time.monotonic() - started < 5
        assert first.read() + second.read() == data[10:] * 2
    registry.ping()


@pytest.mark.parametrize("read", [0, 10])
def test_a_reader_that_is_forgotten_gives_its_connection_back(
    server: ScriptedServer, read: int
) -> None:
    digest, data = next(iter(BLOBS.items()))
    server.handler = lambda request: reply(200, data)
    with connect(
        server.url, max_connections=1, timeout=2.0, retries=0, logging={"driver": "null"}
    ) as registry:
        for _ in range(3):
            blob = registry.open_blob("a/b", digest)
            blob.__enter__()
            assert blob.read(read) == data[:read]
            del blob
            gc.collect()
            registry.ping()


@pytest.mark.parametrize("transport", ASYNC_TRANSPORTS)
@pytest.mark.parametrize("read", [0, 10])
def test_an_async_reader_that_is_forgotten_gives_its_connection_back(
    server: ScriptedServer, read: int, transport: str
) -> None:
    digest, data = next(iter(BLOBS.items()))
    server.handler = lambda request: reply(200, data)

    async def forget() -> None:
        async with async_connect(
            server.url,
            max_connections=1,
            timeout=2.0,
            retries=0,
            transport=transport,
            logging={"driver": "null"},
        ) as registry:
            for _ in range(3):
                blob = registry.open_blob("a/b", digest)
                await blob.__aenter__()
                assert await blob.read(read) == data[:read]
                del blob
                gc.collect()
                await registry.ping()

    asyncio.run(forget())


def test_a_wait_for_other_threads_is_longer(server: ScriptedServer) -> None:
    """A reader of another thread may be idle for longer than `timeout`."""
    digest, data = next(iter(BLOBS.items()))
    server.handler = lambda request: reply(200, data)
    with connect(server.url, max_connections=1, timeout=0.3, logging={"driver": "null"}) as client:
        opened = threading.Event()

        def hold() -> None:
            with client.open_blob("a/b", digest) as blob:
                opened.set()
                time.sleep(1.0)
                assert blob.read() == data

        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(hold)
            assert opened.wait(30)
            client.ping()
            held.result(30)
