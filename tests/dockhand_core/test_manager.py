"""Managers: connections are made once, disconnected, made again and closed."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from raw_servers import OK_REPLY, replying_server

from dockhand_core import (
    AsyncDockhand,
    AsyncRegistryClient,
    AuthDriver,
    ConfigError,
    Dockhand,
    DockhandError,
    DriverMismatch,
    RegistryClient,
    RegistryDriver,
    async_connect,
    connect,
    hookimpl,
)
from dockhand_core.flow import Flow, call

pytestmark = pytest.mark.usefixtures("clean")


class CountingTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A sync and async transport that keeps the requests and counts the calls of `close`."""

    def __init__(self) -> None:
        self.sent: list[httpx.Request] = []
        self.closed = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(b"{}"))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


class FakeDriver(RegistryDriver):
    class Settings(BaseModel):
        number: int = 0

    client = RegistryClient
    async_client = AsyncRegistryClient
    made = 0
    fake_transport = CountingTransport()

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        type(self).made += 1
        time.sleep(0.002)  # time in which racing threads make a second driver, if there is no lock

    @classmethod
    def base_uri(cls, settings: Any) -> str:
        return f"http://fake{settings.number}"

    @classmethod
    def transport(cls, settings: Any) -> httpx.BaseTransport:
        return cls.fake_transport

    def ping(self) -> Flow[None]:
        yield from call("GET", "")


class FakeAuth(AuthDriver):
    made = 0

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        type(self).made += 1
        self.token = f"token {self.made}"

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers["Authorization"] = self.token
        yield request


class FakePlugin:
    @hookimpl
    def dockhand_registry_drivers(self) -> dict[str, Any]:
        return {"fake": FakeDriver}

    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"fake": FakeAuth}


CONFIG = {
    "default": "one",
    "connections": {
        "one": {"driver": "fake", "number": 1, "auth": {"driver": "fake"}},
        "two": {"driver": "fake", "number": 2, "logging": {"driver": "null"}},
        "broken": {"driver": "fake", "number": "many"},
    },
}


@pytest.fixture(autouse=True)
def reset_fakes() -> None:
    FakeDriver.made = FakeAuth.made = 0
    FakeDriver.fake_transport = CountingTransport()


@pytest.fixture
def dockhand() -> Iterator[Dockhand]:
    with Dockhand(CONFIG) as made:
        made.plugins.register(FakePlugin())
        yield made


def sent_authorizations() -> list[str | None]:
    return [request.headers.get("Authorization") for request in FakeDriver.fake_transport.sent]


def test_a_connection_is_made_once_and_on_demand(dockhand: Dockhand) -> None:
    assert FakeDriver.made == 0
    assert dockhand.connections == ("one", "two", "broken")
    one = dockhand.connection()
    assert dockhand.connection("one") is one
    assert dockhand.connection("one", RegistryClient) is one
    assert (one.name, FakeDriver.made, FakeAuth.made) == ("one", 1, 1)
    two = dockhand.connection("two")
    assert two is not one
    assert two.name == "two"


def test_a_broken_connection_leaves_the_others_usable(dockhand: Dockhand) -> None:
    with pytest.raises(ConfigError, match="connection 'broken': number"):
        dockhand.connection("broken")
    dockhand.connection("two").ping()
    with pytest.raises(ConfigError, match="no connection named 'three'; configured: broken, one"):
        dockhand.connection("three")


def test_many_threads_get_the_same_client(dockhand: Dockhand) -> None:
    barrier = threading.Barrier(32)

    def ask(number: int) -> RegistryClient:
        barrier.wait(10)
        client = dockhand.connection("one" if number % 2 else "two")
        client.ping()
        return client

    with ThreadPoolExecutor(32) as pool:
        clients = list(pool.map(ask, range(32)))
    assert len({id(client) for client in clients}) == 2
    assert FakeDriver.made == 2
    assert len(FakeDriver.fake_transport.sent) == 32


def test_a_disconnected_client_reconnects_without_its_old_token(dockhand: Dockhand) -> None:
    one = dockhand.connection()
    one.ping()
    one.ping()
    dockhand.disconnect("one")
    assert FakeDriver.fake_transport.closed == 1
    assert dockhand.connection() is one
    one.ping()
    # a new auth driver has replaced the one that held the token
    assert sent_authorizations() == ["token 1", "token 1", "token 2"]


def test_disconnecting_an_unused_connection_does_nothing(dockhand: Dockhand) -> None:
    dockhand.disconnect()
    dockhand.disconnect("two")
    assert FakeDriver.made == 0
    with pytest.raises(ConfigError, match="no connection named 'three'"):
        dockhand.disconnect("three")


def test_a_closed_manager_and_its_clients_refuse_use(dockhand: Dockhand) -> None:
    one, two = dockhand.connection("one"), dockhand.connection("two")
    one.ping()
    two.ping()
    dockhand.close()
    dockhand.close()
    assert FakeDriver.fake_transport.closed == 2
    for client in (one, two):
        with pytest.raises(DockhandError, match="this client is closed"):
            client.ping()
    with pytest.raises(DockhandError, match="this manager is closed"):
        dockhand.connection()
    dockhand.disconnect()  # a closed manager has nothing to disconnect


def test_a_closed_client_refuses_use(dockhand: Dockhand) -> None:
    with dockhand.connection() as one:
        one.ping()
    with pytest.raises(DockhandError, match="closed"):
        one.ping()


def test_leaving_the_block_closes_even_after_an_error() -> None:
    made = Dockhand(CONFIG)
    made.plugins.register(FakePlugin())
    client = made.connection()
    with pytest.raises(KeyError), made:
        raise KeyError(client.name)
    with pytest.raises(DockhandError):
        client.ping()


def test_connect_is_a_context_manager() -> None:
    with connect("http://127.0.0.1:1", retries=0) as client:
        assert isinstance(client, RegistryClient)
        assert client.name == "default"
        assert not client.is_online()
    with pytest.raises(DockhandError, match="this client is closed"):
        client.ping()


def test_reprs_name_connections(dockhand: Dockhand) -> None:
    assert repr(dockhand) == "<Dockhand one, two, broken>"
    assert repr(Dockhand({})) == "<Dockhand without connections>"
    assert repr(dockhand.connection()) == "<RegistryClient 'one' http://fake1>"


def test_another_client_class_is_refused(dockhand: Dockhand) -> None:
    class Other(RegistryClient):
        pass

    with pytest.raises(DriverMismatch, match="is RegistryClient, not Other"):
        dockhand.connection("one", Other)
    dockhand.connection("one").ping()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # earlier tests may leave threads
def test_a_forked_child_makes_its_own_transport() -> None:
    with connect("http://127.0.0.1:1", retries=0) as client:
        assert not client.is_online()
        before = client._runner._transport
        assert before is not None
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            renewed = client._runner._transport is None
            renewed = renewed and not client.is_online() and client._runner._transport is not before
            os.write(write, b"yes" if renewed else b"no")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 3) == b"yes"
        os.close(read)
        os.close(write)
        assert client._runner._transport is before


def test_async_manager_behaves_the_same() -> None:
    async def main() -> None:
        async with AsyncDockhand(CONFIG) as dockhand:
            dockhand.plugins.register(FakePlugin())
            one = dockhand.connection()  # an ordinary method: not awaited
            assert dockhand.connection("one", AsyncRegistryClient) is one
            assert one.name == "one"
            await asyncio.gather(*(one.ping() for _ in range(8)))
            await dockhand.disconnect("one")
            assert FakeDriver.fake_transport.closed == 1
            await one.ping()
            assert sent_authorizations() == ["token 1"] * 8 + ["token 2"]
            with pytest.raises(ConfigError):
                await dockhand.disconnect("three")
            assert repr(dockhand) == "<AsyncDockhand one, two, broken>"
        with pytest.raises(DockhandError, match="this client is closed"):
            await one.ping()
        with pytest.raises(DockhandError, match="this manager is closed"):
            dockhand.connection()
        await dockhand.close()

    asyncio.run(main())


def test_async_connect_is_a_context_manager() -> None:
    async def main() -> None:
        async with async_connect("http://127.0.0.1:1", retries=0) as client:
            assert isinstance(client, AsyncRegistryClient)
            assert not await client.is_online()
        with pytest.raises(DockhandError, match="this client is closed"):
            await client.ping()

    asyncio.run(main())


def test_async_pages_are_iterated_without_await(serve: Any) -> None:
    url = serve(lambda *_: (200, {}, b'{"repositories": ["a", "b"], "name": "r", "tags": ["t"]}'))

    async def main() -> None:
        async with async_connect(url, logging={"driver": "null"}) as client:
            pages = client.repositories()
            assert isinstance(pages, AsyncIterator)
            assert [name async for name in pages] == ["a", "b"]
            assert [name async for name in client.tags("r", page_size=5)] == ["t"]

    asyncio.run(main())


def test_one_async_client_works_in_several_event_loops(serve: Any) -> None:
    client = async_connect(serve(lambda *_: (200, {}, b"{}")), logging={"driver": "null"})

    async def once() -> None:
        await client.ping()
        await client.reset()

    for _ in range(2):
        asyncio.run(once())


@pytest.mark.parametrize("name", ["User-Agent", "user-agent"])
def test_user_agent_of_a_connection_replaces_that_of_dockhand(name: str) -> None:
    """Servers read the first of two, so a second header would have no effect."""
    with (
        replying_server(OK_REPLY) as server,
        connect(server.url, headers={name: "mirror/1"}) as registry,
    ):
        registry.ping()
    agents = [value for key, value in server.requests[0].headers if key.lower() == "user-agent"]
    assert agents == ["mirror/1"]


def test_manager_knows_whether_it_is_closed() -> None:
    async def main() -> None:
        async with AsyncDockhand({}) as dockhand:
            assert not dockhand.closed
        assert dockhand.closed

    with Dockhand({}) as dockhand:
        assert not dockhand.closed
    assert dockhand.closed
    asyncio.run(main())
