"""Tokens of auth drivers: kept until shortly before they expire, one refresh at a time."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from dockhand_core import (
    AsyncDockhand,
    AuthDriver,
    ConnectionFailed,
    Dockhand,
    PluginError,
    Unauthorized,
    hookimpl,
)
from dockhand_core.tokens import TokenCache

Serve = Callable[..., str]
Steps = Generator[Any, Any, tuple[str, float]]


def no_steps(token: str, lifetime: float) -> Steps:
    yield from ()
    return token, lifetime


def at_once(steps: Generator[Any, Any, str]) -> str:
    """What steps give that wait for nothing."""
    with pytest.raises(StopIteration) as end:
        next(steps)
    found: str = end.value.value
    return found


@pytest.mark.parametrize(("lifetime", "until"), [(300, 270), (60, 45), (4, 3)])
def test_kept_until_shortly_before_it_expires(lifetime: float, until: float) -> None:
    now = 1000.0
    cache = TokenCache(lambda: now)
    assert at_once(cache.get("k", lambda: no_steps("one", lifetime))) == "one"
    now += until - 0.1
    assert at_once(cache.get("k", lambda: no_steps("two", lifetime))) == "one"
    now += 0.2
    assert at_once(cache.get("k", lambda: no_steps("three", lifetime))) == "three"


def test_one_that_is_good_for_no_time_is_not_kept() -> None:
    cache = TokenCache()
    assert at_once(cache.get("k", lambda: no_steps("one", 0))) == "one"
    assert at_once(cache.get("k", lambda: no_steps("two", 0))) == "two"


def test_the_time_that_it_took_counts() -> None:
    now = 0.0

    def slow() -> Steps:
        nonlocal now
        now += 280
        return (yield from no_steps("one", 300))

    cache = TokenCache(lambda: now)
    assert at_once(cache.get("k", slow)) == "one"
    assert at_once(cache.get("k", lambda: no_steps("two", 300))) == "two"


def test_a_refused_one_is_replaced_once() -> None:
    cache = TokenCache()
    assert at_once(cache.get("k", lambda: no_steps("one", 300))) == "one"
    assert at_once(cache.get("k", lambda: no_steps("two", 300), refused="one")) == "two"
    # somebody else's answer to the old one arrives late
    assert at_once(cache.get("k", lambda: no_steps("three", 300), refused="one")) == "two"
    assert at_once(cache.get("other", lambda: no_steps("four", 300))) == "four"


def test_bounded() -> None:
    cache = TokenCache()
    for number in range(5000):
        at_once(cache.get(number, lambda: no_steps("one", 300)))
    assert at_once(cache.get(4999, lambda: no_steps("two", 300))) == "one"
    assert at_once(cache.get(0, lambda: no_steps("two", 300))) == "two"


class Asking(AuthDriver):
    """Asks a token endpoint; it may fail, or hold an answer back."""

    endpoint = ""

    def obtain(self) -> Steps:
        yield from self.blocking(time.sleep, 0)
        reply = yield from self.fetch("GET", self.endpoint)
        return reply.text, 300

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        token = yield from self.cached_token("k", self.obtain)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401:
            token = yield from self.cached_token("k", self.obtain, refused=token)
            request.headers["Authorization"] = f"Bearer {token}"
            yield request


class Hooks:
    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"asking": Asking}


class RegistryEndpoint:
    """A token endpoint and a registry that takes its latest token."""

    def __init__(self, serve: Serve) -> None:
        self.go = threading.Event()
        self.go.set()
        self.asked = 0
        self.accepted = 1
        self.served: list[str] = []
        self._lock = threading.Lock()
        self.url = serve(self.answer)

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        if path == "/token":
            with self._lock:
                self.asked += 1
                number = self.asked
            self.go.wait(10)
            return 200, {}, str(number).encode()
        self.served.append(headers["authorization"])
        right = headers["authorization"] == f"Bearer {self.accepted}"
        return (200, {}, b"{}") if right else (401, {}, b"")


@pytest.fixture
def endpoint(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryEndpoint]:
    found = RegistryEndpoint(serve)
    monkeypatch.setattr(Asking, "endpoint", f"{found.url}/token")
    yield found
    found.go.set()


def config(endpoint: RegistryEndpoint) -> dict[str, Any]:
    table = {"base_uri": endpoint.url, "auth": {"driver": "asking"}, "retries": 0, "timeout": 5}
    return {"connections": {"main": {**table, "logging": {"driver": "null"}}}}


def pings(endpoint: RegistryEndpoint, count: int, world: str) -> list[BaseException | None]:
    """Ping that many times at once; the errors."""

    async def main() -> list[BaseException | None]:
        async with AsyncDockhand(config(endpoint)) as dockhand:
            dockhand.plugins.register(Hooks())
            client = dockhand.connection()
            calls = [client.ping() for _ in range(count)]
            return await asyncio.gather(*calls, return_exceptions=True)

    if world == "async":
        return asyncio.run(main())
    with ExitStack() as stack:
        dockhand = stack.enter_context(Dockhand(config(endpoint)))
        dockhand.plugins.register(Hooks())
        client = dockhand.connection()
        pool = stack.enter_context(ThreadPoolExecutor(count))
        return [future.exception() for future in [pool.submit(client.ping) for _ in range(count)]]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_one_asks_for_all(endpoint: RegistryEndpoint, world: str) -> None:
    """More wait than the event loop has threads, and the one they wait for needs one."""
    assert pings(endpoint, 40, world) == [None] * 40
    assert endpoint.asked == 1
    assert endpoint.served == ["Bearer 1"] * 40


@pytest.mark.parametrize("world", ["sync", "async"])
def test_one_refreshes_for_all(endpoint: RegistryEndpoint, world: str) -> None:
    endpoint.accepted = 2
    assert pings(endpoint, 20, world) == [None] * 20
    assert endpoint.asked == 2


@pytest.mark.parametrize("world", ["sync", "async"])
def test_refused_for_good_ends(endpoint: RegistryEndpoint, world: str) -> None:
    endpoint.accepted = -1
    [error] = pings(endpoint, 1, world)
    assert isinstance(error, Unauthorized)
    assert endpoint.served == ["Bearer 1", "Bearer 2"]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_an_error_is_everybodys(
    endpoint: RegistryEndpoint, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt, not one for each that waits."""
    attempts: list[int] = []
    fine = Asking.obtain
    begun = threading.Event()

    def fails(self: Asking) -> Steps:
        attempts.append(1)
        yield from self.blocking(begun.wait, 0.2)
        yield from self.fetch("GET", "http://127.0.0.1:1/token")
        raise AssertionError("nobody listens there")

    monkeypatch.setattr(Asking, "obtain", fails)
    errors = pings(endpoint, 8, world)
    assert all(type(error) is ConnectionFailed for error in errors)
    assert len(attempts) == 1

    def caught(self: Asking) -> Steps:
        try:
            return (yield from fails(self))
        except ConnectionFailed:
            return (yield from fine(self))

    monkeypatch.setattr(Asking, "obtain", caught)
    assert pings(endpoint, 2, world) == [None, None]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_what_a_blocking_step_raises(
    endpoint: RegistryEndpoint, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Asking) -> Steps:
        yield from self.blocking(int, "x")
        raise AssertionError("not a number")

    monkeypatch.setattr(Asking, "obtain", fails)
    [error] = pings(endpoint, 1, world)
    assert isinstance(error, PluginError)
    assert str(error).startswith("Asking: ValueError: ")


def test_the_next_asks_where_one_was_cancelled(endpoint: RegistryEndpoint) -> None:
    endpoint.accepted = 2
    endpoint.go.clear()

    async def main() -> None:
        async with AsyncDockhand(config(endpoint)) as dockhand:
            dockhand.plugins.register(Hooks())
            client = dockhand.connection()
            first = asyncio.create_task(client.ping())
            while not endpoint.asked:
                await asyncio.sleep(0.01)
            waiting = [asyncio.create_task(client.ping()) for _ in range(3)]
            await asyncio.sleep(0.05)
            waiting[0].cancel()
            first.cancel()
            endpoint.go.set()
            await asyncio.gather(*waiting[1:])
            for gone in (first, waiting[0]):
                with pytest.raises(asyncio.CancelledError):
                    await gone

    asyncio.run(main())
    assert endpoint.asked == 2
    assert endpoint.served == ["Bearer 2"] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_does_not_wait_for_its_parent(endpoint: RegistryEndpoint) -> None:
    auth = Asking(Asking.Settings())
    steps = auth.cached_token("k", auth.obtain)
    next(steps)  # on its way, in a process that will not finish it for the child
    child = os.fork()
    if not child:
        os._exit(0 if at_once(auth.cached_token("k", lambda: no_steps("mine", 9))) == "mine" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    steps.close()
