"""Errors of an auth driver that are retried, and those that are not."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Generator
from typing import Any

import pytest
from dockhand_distribution import DistributionDriver
from wrong_drivers import Drivers, use

from dockhand_core import (
    AuthDriver,
    ConnectionFailed,
    DockhandError,
    RegistryError,
    Timeout,
    TooManyRequests,
)
from dockhand_core.flow import Flow, call

pytestmark = [pytest.mark.usefixtures("clean")]


class GateUnavailable(ConnectionFailed):
    """The gate cannot be reached."""


class GateClosed(RegistryError):
    """The gate is closed."""


def attempts(url: str, world: str, error: DockhandError, method: str) -> int:
    """The number of times that a driver is called, if it raises an error each time."""
    calls: list[str] = []

    class Gate(AuthDriver):
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            calls.append(request.method)
            raise copy.copy(error)
            yield request

    class Driver(DistributionDriver):
        def ping(self) -> Flow[None]:
            yield from call(method, "", repeatable=method == "GET")

    with pytest.raises(type(error), match="no gate"):
        use(world, Drivers(auth=Gate, registry=Driver), base_uri=url, retries=1)
    assert set(calls) == {method}
    return len(calls)


@pytest.mark.parametrize("world", ["sync", "async"])
@pytest.mark.parametrize(
    ("error", "get", "post"),
    [
        (GateUnavailable("no gate"), 2, 1),
        (GateUnavailable("no gate", unsent=True), 2, 2),
        (GateUnavailable("no gate", unsent=True, local=True), 1, 1),
        (Timeout("no gate"), 2, 1),
        (GateClosed("no gate", status=503), 1, 1),
        (TooManyRequests("no gate", status=429, retry_after=0.0), 1, 1),
        (DockhandError("no gate"), 1, 1),
    ],
)
def test_only_failures_of_connections_are_retried(
    url: str, world: str, error: DockhandError, get: int, post: int
) -> None:
    assert attempts(url, world, error, "GET") == get
    assert attempts(url, world, error, "POST") == post


def test_errors_take_their_attributes_as_arguments() -> None:
    error = GateUnavailable("no gate", unsent=True)
    assert (str(error), error.unsent, error.local) == ("no gate", True, False)
    assert pickle.loads(pickle.dumps(error)).unsent
    closed = GateClosed("no gate", status=503, code="SEALED", detail={"node": "a"})
    assert (closed.status, closed.code, closed.detail) == (503, "SEALED", {"node": "a"})
