"""A server that limits the rate of requests (429), and clients that send many at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from dockhand_testing.http_server import ReceivedRequest, ScriptedServer, Step, reply

from dockhand_core import (
    Digest,
    RegistryClient,
    ServerError,
    TooManyRequests,
    async_connect,
    connect,
)
from dockhand_core.flow import RetryPolicy
from dockhand_core.http.rate_limits import Pace, RateLimits, Turns

MakeClient = Callable[..., RegistryClient]
QUIET: dict[str, Any] = {"driver": "null"}
TAGS = reply(200, b'{"name":"a/b","tags":["v1"]}')


class Limited:
    """A registry that takes uploads, and accepts only `count` requests in each `seconds`.

    Args:
        headers: headers of the replies with status 429.
    """

    def __init__(self, count: int, seconds: float, **headers: str) -> None:
        self._count, self._seconds, self._headers = count, seconds, headers
        self._lock = threading.Lock()
        self._times: list[float] = []
        self.refused = 0
        self.blobs: set[str] = set()

    def __call__(self, request: ReceivedRequest) -> bytes:
        with self._lock:
            now = time.monotonic()
            self._times = [one for one in self._times if now - one < self._seconds]
            if len(self._times) >= self._count:
                self.refused += 1
                return reply(429, b"", **self._headers)
            self._times.append(now)
            if request.method == "HEAD":
                return reply(404)
            if request.method == "POST":
                return reply(202, Location=f"{request.path}{len(self._times)}")
            self.blobs.add(str(Digest.of(request.body)))
            return reply(201, Location="/v2/a/b/blobs/x")


BLOBS = [f"blob {number}".encode() for number in range(25)]
DIGESTS = {str(Digest.of(blob)) for blob in BLOBS}


def test_25_uploads_in_threads_at_5_requests_a_second(server: ScriptedServer) -> None:
    limited = server.handler = Limited(5, 1.0, Retry_After="1")
    with connect(server.url, logging=QUIET) as registry, ThreadPoolExecutor(25) as pool:
        list(pool.map(lambda blob: registry.upload_blob("a/b", blob), BLOBS))
    assert limited.blobs == DIGESTS
    # At first, all 25 arrive at once; then the requests are spread out.
    assert 0 < limited.refused < 100


@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
def test_25_uploads_in_tasks(server: ScriptedServer, transport: str) -> None:
    limited = server.handler = Limited(5, 0.2)

    async def upload() -> None:
        async with (
            async_connect(server.url, logging=QUIET, transport=transport, retries=8) as registry,
            asyncio.TaskGroup() as group,
        ):
            for blob in BLOBS:
                group.create_task(registry.upload_blob("a/b", blob))

    asyncio.run(upload())
    assert limited.blobs == DIGESTS
    assert limited.refused > 0


def test_25_uploads_in_tasks_at_5_requests_a_second(server: ScriptedServer) -> None:
    limited = server.handler = Limited(5, 1.0, Retry_After="1")

    async def upload() -> None:
        async with (
            async_connect(server.url, logging=QUIET) as registry,
            asyncio.TaskGroup() as group,
        ):
            for blob in BLOBS:
                group.create_task(registry.upload_blob("a/b", blob))

    asyncio.run(upload())
    assert limited.blobs == DIGESTS
    assert 0 < limited.refused < 100


def test_a_429_pauses_the_other_requests(make_client: MakeClient, server: ScriptedServer) -> None:
    answers = iter([reply(429, Retry_After="1")])
    server.handler = lambda request: next(answers, TAGS)
    registry = make_client(server.url)
    start = time.monotonic()
    assert list(registry.tags("a/b")) == ["v1"]
    assert list(registry.tags("a/b")) == ["v1"]
    assert time.monotonic() - start >= 1.0
    assert len(server.requests) == 3


def test_waits_do_not_use_up_retries(make_client: MakeClient, server: ScriptedServer) -> None:
    answers = iter([reply(429, Retry_After="0")] * 5)
    server.handler = lambda request: next(answers, TAGS)
    assert list(make_client(server.url, retries=1).tags("a/b")) == ["v1"]
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("settings", "headers", "requests"),
    [
        ({"rate_limit_timeout": 1}, {"Retry_After": "1"}, 2),
        ({"rate_limit_timeout": 0}, {"Retry_After": "0"}, 1),
        ({"rate_limit_timeout": 60}, {"Retry_After": "61"}, 1),
        ({}, {"Retry_After": "99999999999999999999999"}, 1),
        ({"retries": 2}, {}, 3),
        ({"retries": 2}, {"Retry_After": "-5"}, 3),
        ({"retries": 2}, {"Retry_After": "soon"}, 3),
        ({"retries": 0}, {}, 1),
        ({"retries": 0}, {"Retry_After": "1"}, 1),
    ],
)
def test_waits_end(
    make_client: MakeClient,
    server: ScriptedServer,
    settings: dict[str, Any],
    headers: dict[str, str],
    requests: int,
) -> None:
    server.handler = lambda request: reply(429, b"", **headers)
    with pytest.raises(TooManyRequests) as caught:
        list(make_client(server.url, **settings).tags("a/b"))
    assert len(server.requests) == caught.value.attempts == requests


@pytest.mark.parametrize("value", ["0", "0.0000001", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_pause_of_no_length_is_no_hot_loop(
    make_client: MakeClient, server: ScriptedServer, value: str
) -> None:
    server.handler = lambda request: reply(429, Retry_After=value)
    with pytest.raises(TooManyRequests):
        make_client(server.url, rate_limit_timeout=2).ping()
    assert 4 <= len(server.requests) <= 8


def test_a_503_pauses_its_own_request_only(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = lambda request: (
        reply(503, Retry_After="1") if request.path == "/v2/a/b/tags/list" else reply(200)
    )
    registry = make_client(server.url, retries=1)
    with pytest.raises(ServerError):
        list(registry.tags("a/b"))
    start = time.monotonic()
    registry.ping()
    assert time.monotonic() - start < 0.9
    assert len(server.requests) == 3


def test_a_storage_does_not_pause_the_registry(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer
) -> None:
    data = b"data"
    answers = iter([reply(429, Retry_After="1")])
    other.handler = lambda request: next(answers, reply(200, data))
    server.handler = lambda request: (
        reply(307, Location=f"{other.url}/x") if "blobs" in request.path else reply(200)
    )
    registry = make_client(server.url, rate_limit_timeout=0.5)
    with pytest.raises(TooManyRequests):
        registry.read_blob("a/b", Digest.of(data))
    registry.ping()
    assert registry.read_blob("a/b", Digest.of(data)) == data


def test_is_online_does_not_wait(make_client: MakeClient, server: ScriptedServer) -> None:
    steps: list[Step] = [reply(429, Retry_After="30")]
    server.handler = lambda request: list(steps)
    start = time.monotonic()
    assert make_client(server.url).is_online() is True
    assert make_client(server.url).is_online() is True
    assert time.monotonic() - start < 10


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pace() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert [pace.reserve() for _ in range(3)] == [0.0, 0.0, 0.0]
    for _ in range(5):
        pace.refused(2.0, 0)  # five requests that were sent before the pause
    assert pace.pauses == 1
    waits = [pace.reserve() for _ in range(4)]
    assert waits[0] == 2.0
    assert all(0.07 < later - earlier < 0.13 for earlier, later in pairwise(waits))
    clock.now += 2
    pace.refused(2.0, 1)
    waits = [pace.reserve() for _ in range(2)]
    assert 0.15 < waits[1] - waits[0] < 0.25  # slower
    for _ in range(300):
        pace.accepted()
    clock.now += 3
    assert [pace.reserve() for _ in range(3)] == [0.0, 0.0, 0.0]
    pace.refused(1.0, 2)
    clock.now += 100
    assert pace.reserve() == 0.0  # after a long time, as at the start


def test_the_number_of_paces_is_limited() -> None:
    limits = RateLimits(300.0)
    for number in range(500):
        limits.pace(f"https://storage{number}.example.com/x")
    assert len(limits._paces) <= 64
    turns = Turns(limits, RetryPolicy(), wait=True)
    assert turns.repeats("https://new.example.com", 429, {"retry-after": "2"})
