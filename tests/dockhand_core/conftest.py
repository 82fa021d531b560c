"""Fixtures for the tests of plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from http_cassettes import BlockingAsyncClient

from dockhand_core import RegistryClient, connect


@pytest.fixture(params=["sync", "async"])
def memory(request: pytest.FixtureRequest) -> Iterator[RegistryClient]:
    """A sync and an async client of an empty registry in memory."""
    make: Any = connect if request.param == "sync" else BlockingAsyncClient
    with make("", driver="embedded", root=":memory:", logging={"driver": "null"}) as client:
        yield client


@pytest.fixture
def url(serve: Callable[[Callable[..., Any]], str]) -> str:
    """The URL of a server that answers every request with 200."""
    return serve(lambda *_: (200, {}, b"{}"))
