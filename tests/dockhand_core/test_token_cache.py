"""The token cache of auth drivers: expiry, and one refresh at a time for each cache key."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from wrong_drivers import Drivers, use

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


def obtained(token: str, lifetime: float) -> Steps:
    """Obtain a token at once, without a request; `lifetime` is in seconds."""
    yield from ()
    return token, lifetime


def run(steps: Generator[Any, Any, str]) -> str:
    """Run steps that yield nothing, and return their result."""
    with pytest.raises(StopIteration) as end:
        next(steps)
    found: str = end.value.value
    return found


@pytest.mark.parametrize(("lifetime", "until"), [(300, 270), (60, 45), (4, 3)])
def test_a_token_is_kept_until_shortly_before_it_expires(lifetime: float, until: float) -> None:
    now = 1000.0
    cache = TokenCache(lambda: now)
    assert run(cache.get("k", lambda: obtained("one", lifetime))) == "one"
    now += until - 0.1
    assert run(cache.get("k", lambda: obtained("two", lifetime))) == "one"
    now += 0.2
    assert run(cache.get("k", lambda: obtained("three", lifetime))) == "three"


def test_a_token_without_lifetime_is_not_kept() -> None:
    cache = TokenCache()
    assert run(cache.get("k", lambda: obtained("one", 0))) == "one"
    assert run(cache.get("k", lambda: obtained("two", 0))) == "two"


def test_a_token_that_has_expired_already_is_returned_once() -> None:
    cache = TokenCache()
    assert run(cache.get("k", lambda: obtained("one", -60))) == "one"
    assert run(cache.get("k", lambda: obtained("two", math.inf))) == "two"
    assert run(cache.get("k", lambda: obtained("three", 60))) == "two"


@pytest.mark.parametrize("world", ["sync", "async"])
def test_obtain_may_use_the_cache_with_another_key(serve: Serve, world: str) -> None:
    sent: list[str | None] = []

    class Nested(AuthDriver):
        logins = 0

        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            scope = str(request.url.path)
            token = yield from self.cached_token(scope, lambda: self.obtain(scope))
            request.headers["Authorization"] = token
            yield request

        def obtain(self, scope: str) -> Steps:
            session = yield from self.cached_token("session", self.log_in)
            return f"{session}:{scope}", 60.0

        def log_in(self) -> Steps:
            self.logins += 1
            yield from self.blocking(time.sleep, 0.01)
            return f"session{self.logins}", 60.0

    def handle(_: str, path: str, headers: Any, *__: Any) -> Any:
        sent.append(headers.get("authorization"))
        return 200, {}, b'{"name": "app", "tags": []}' if "tags" in path else b"{}"

    def operation(client: Any) -> Any:
        async def main() -> None:
            await asyncio.gather(client.ping(), client.tag_page("app"))

        if world == "async":
            return main()
        with ThreadPoolExecutor(2) as threads:
            jobs = [threads.submit(client.ping), threads.submit(client.tag_page, "app")]
            return [job.result(10) for job in jobs]

    use(world, Drivers(auth=Nested), operation, base_uri=serve(handle))
    assert sorted(map(str, sent)) == ["session1:/v2/", "session1:/v2/app/tags/list"]


def test_lifetime_starts_when_the_token_is_requested() -> None:
    now = 0.0

    def slow() -> Steps:
        nonlocal now
        now += 280
        return (yield from obtained("one", 300))

    cache = TokenCache(lambda: now)
    assert run(cache.get("k", slow)) == "one"
    assert run(cache.get("k", lambda: obtained("two", 300))) == "two"


def test_a_refused_token_is_replaced_once() -> None:
    cache = TokenCache()
    assert run(cache.get("k", lambda: obtained("one", 300))) == "one"
    assert run(cache.get("k", lambda: obtained("two", 300), refused="one")) == "two"
    # another request reports late that the old token was refused
    assert run(cache.get("k", lambda: obtained("three", 300), refused="one")) == "two"
    assert run(cache.get("other", lambda: obtained("four", 300))) == "four"


def test_the_number_of_tokens_is_limited() -> None:
    cache = TokenCache()
    for number in range(5000):
        run(cache.get(number, lambda: obtained("one", 300)))
    assert run(cache.get(4999, lambda: obtained("two", 300))) == "one"
    assert run(cache.get(0, lambda: obtained("two", 300))) == "two"


class EndpointAuth(AuthDriver):
    """An auth driver that gets its token from a token endpoint."""

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


class EndpointPlugin:
    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"asking": EndpointAuth}


class RegistryEndpoint:
    """A token endpoint that numbers its tokens, and a registry that accepts one of them."""

    def __init__(self, serve: Serve) -> None:
        self.may_reply = threading.Event()
        self.may_reply.set()
        self.requests = 0
        self.accepted = 1
        self.served: list[str] = []
        self._lock = threading.Lock()
        self.url = serve(self.answer)

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        if path == "/token":
            with self._lock:
                self.requests += 1
                number = self.requests
            self.may_reply.wait(10)
            return 200, {}, str(number).encode()
        self.served.append(headers["authorization"])
        right = headers["authorization"] == f"Bearer {self.accepted}"
        return (200, {}, b"{}") if right else (401, {}, b"")


@pytest.fixture
def endpoint(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryEndpoint]:
    found = RegistryEndpoint(serve)
    monkeypatch.setattr(EndpointAuth, "endpoint", f"{found.url}/token")
    yield found
    found.may_reply.set()


def config(endpoint: RegistryEndpoint) -> dict[str, Any]:
    table = {"base_uri": endpoint.url, "auth": {"driver": "asking"}, "retries": 0, "timeout": 5}
    return {"connections": {"main": {**table, "logging": {"driver": "null"}}}}


def ping_concurrently(
    endpoint: RegistryEndpoint, count: int, world: str
) -> list[BaseException | None]:
    """Ping `count` times at once, and return the error of each call, or None."""

    async def main() -> list[BaseException | None]:
        async with AsyncDockhand(config(endpoint)) as dockhand:
            dockhand.plugins.register(EndpointPlugin())
            client = dockhand.connection()
            calls = [client.ping() for _ in range(count)]
            return await asyncio.gather(*calls, return_exceptions=True)

    if world == "async":
        return asyncio.run(main())
    with ExitStack() as stack:
        dockhand = stack.enter_context(Dockhand(config(endpoint)))
        dockhand.plugins.register(EndpointPlugin())
        client = dockhand.connection()
        pool = stack.enter_context(ThreadPoolExecutor(count))
        return [future.exception() for future in [pool.submit(client.ping) for _ in range(count)]]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_concurrent_callers_share_one_request(endpoint: RegistryEndpoint, world: str) -> None:
    """More callers wait than the event loop has threads, and the first one still gets a thread."""
    assert ping_concurrently(endpoint, 40, world) == [None] * 40
    assert endpoint.requests == 1
    assert endpoint.served == ["Bearer 1"] * 40


@pytest.mark.parametrize("world", ["sync", "async"])
def test_concurrent_callers_share_one_refresh(endpoint: RegistryEndpoint, world: str) -> None:
    endpoint.accepted = 2
    assert ping_concurrently(endpoint, 20, world) == [None] * 20
    assert endpoint.requests == 2


@pytest.mark.parametrize("world", ["sync", "async"])
def test_a_second_refusal_is_an_error(endpoint: RegistryEndpoint, world: str) -> None:
    endpoint.accepted = -1
    [error] = ping_concurrently(endpoint, 1, world)
    assert isinstance(error, Unauthorized)
    assert endpoint.served == ["Bearer 1", "Bearer 2"]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_waiting_callers_share_an_error(
    endpoint: RegistryEndpoint, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is requested once, not once more for each waiting caller."""
    attempts: list[int] = []
    fine = EndpointAuth.obtain
    begun = threading.Event()

    def fails(self: EndpointAuth) -> Steps:
        attempts.append(1)
        yield from self.blocking(begun.wait, 0.2)
        yield from self.fetch("GET", "http://127.0.0.1:1/token")
        raise AssertionError("no server listens there")

    monkeypatch.setattr(EndpointAuth, "obtain", fails)
    errors = ping_concurrently(endpoint, 8, world)
    assert all(type(error) is ConnectionFailed for error in errors)
    assert len(attempts) == 1

    def caught(self: EndpointAuth) -> Steps:
        try:
            return (yield from fails(self))
        except ConnectionFailed:
            return (yield from fine(self))

    monkeypatch.setattr(EndpointAuth, "obtain", caught)
    assert ping_concurrently(endpoint, 2, world) == [None, None]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_an_error_of_a_blocking_step_is_a_plugin_error(
    endpoint: RegistryEndpoint, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: EndpointAuth) -> Steps:
        yield from self.blocking(int, "x")
        raise AssertionError("not a number")

    monkeypatch.setattr(EndpointAuth, "obtain", fails)
    [error] = ping_concurrently(endpoint, 1, world)
    assert isinstance(error, PluginError)
    assert str(error).startswith("EndpointAuth: ValueError: ")


def test_a_waiting_caller_takes_over_from_a_cancelled_one(endpoint: RegistryEndpoint) -> None:
    endpoint.accepted = 2
    endpoint.may_reply.clear()

    async def main() -> None:
        async with AsyncDockhand(config(endpoint)) as dockhand:
            dockhand.plugins.register(EndpointPlugin())
            client = dockhand.connection()
            first = asyncio.create_task(client.ping())
            while not endpoint.requests:
                await asyncio.sleep(0.01)
            waiting = [asyncio.create_task(client.ping()) for _ in range(3)]
            await asyncio.sleep(0.05)
            waiting[0].cancel()
            first.cancel()
            endpoint.may_reply.set()
            await asyncio.gather(*waiting[1:])
            for gone in (first, waiting[0]):
                with pytest.raises(asyncio.CancelledError):
                    await gone

    asyncio.run(main())
    assert endpoint.requests == 2
    assert endpoint.served == ["Bearer 2"] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parent(endpoint: RegistryEndpoint) -> None:
    auth = EndpointAuth(EndpointAuth.Settings())
    steps = auth.cached_token("k", auth.obtain)
    next(steps)  # start a refresh, which the parent cannot finish for the child
    child = os.fork()
    if not child:
        os._exit(0 if run(auth.cached_token("k", lambda: obtained("mine", 9))) == "mine" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    steps.close()
