"""Clients for the fault tests: sync, and async on each transport that is offered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blocking_async import Loop, driven
from scripted_server import Scripted, scripted

from dockhand_core import RegistryClient, async_connect, connect
from dockhand_core.flow import RetryPolicy
from dockhand_core.http.transports import ASYNC_TRANSPORTS

MODES = ["sync", *(f"async-{name}" for name in ASYNC_TRANSPORTS)]


@pytest.fixture(params=MODES)
def opened(request: pytest.FixtureRequest) -> Iterator[Callable[..., RegistryClient]]:
    """Makes clients that retry without much waiting, and closes them."""
    loop = Loop()
    clients: list[Any] = []

    def make(url: str, **settings: Any) -> RegistryClient:
        settings = {"logging": {"driver": "null"}, "timeout": 2.0, **settings}
        inner: Any
        if request.param == "sync":
            client = inner = connect(url, **settings)
        else:
            carrier = request.param.removeprefix("async-")
            inner = async_connect(url, transport=carrier, **settings)
            client = driven(loop, inner)
        retry = RetryPolicy(retries=settings.get("retries", 3), base=0.001, cap=1.0)
        inner._runner.endpoint.retry = inner.driver.retry = retry
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
    loop.close()


@pytest.fixture(scope="session")
def one_server() -> Iterator[Scripted]:
    """One for all tests: there are hundreds, and ending one takes time."""
    with scripted() as found:
        yield found


@pytest.fixture
def server(one_server: Scripted) -> Scripted:
    """A server that a test scripts."""
    one_server.asked = []
    one_server.connections = 0
    one_server.handler = Scripted.handler
    return one_server
