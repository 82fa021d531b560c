"""Fixtures: sync and async clients on each transport, and scripted servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dockhand_testing.blocking import BlockingLoop, as_blocking
from dockhand_testing.http_server import ScriptedServer, scripted_server
from watched_registry import WatchedRegistry, watched_registry

from dockhand_core import RegistryClient, async_connect, connect
from dockhand_core.flow import RetryPolicy
from dockhand_core.http.transports import ASYNC_TRANSPORTS, SYNC_TRANSPORTS

MODES = [f"sync-{name}" for name in SYNC_TRANSPORTS]
MODES += [f"async-{name}" for name in ASYNC_TRANSPORTS]


@pytest.fixture(params=MODES)
def make_client(request: pytest.FixtureRequest) -> Iterator[Callable[..., RegistryClient]]:
    """Provide a function that makes a client from a URL and settings.

    The client is sync or async, on one of the transports. It retries almost without delay, and is
    closed after the test.
    """
    loop = BlockingLoop()
    clients: list[Any] = []

    def make(url: str, **settings: Any) -> RegistryClient:
        settings = {"logging": {"driver": "null"}, "timeout": 10.0, **settings}
        inner: Any
        kind, transport = request.param.split("-")
        if kind == "sync":
            client = inner = connect(url, transport=transport, **settings)
        else:
            inner = async_connect(url, transport=transport, **settings)
            client = as_blocking(loop, inner)
        retry = RetryPolicy(retries=settings.get("retries", 3), base=0.001, cap=1.0)
        inner._runner.endpoint.retry = inner.driver.retry = retry
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
    loop.close()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Start a server that a test scripts; until then, the server replies 404."""
    with scripted_server() as found:
        yield found


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    """Start a second scripted server, which is another origin."""
    with scripted_server() as found:
        yield found


@pytest.fixture
def source() -> Iterator[WatchedRegistry]:
    """Run the registry that images are copied from."""
    with watched_registry() as found:
        yield found


@pytest.fixture
def target() -> Iterator[WatchedRegistry]:
    """Run the registry that images are copied to."""
    with watched_registry() as found:
        yield found
