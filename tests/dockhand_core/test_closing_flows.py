"""A driver's `close` is a flow, and sends requests before its connection is closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Mapping
from typing import Any

import pytest
from dockhand_distribution import DistributionDriver
from wrong_drivers import Drivers, use

from dockhand_core import (
    AsyncDockhand,
    AuthDriver,
    ConnectionFailed,
    Dockhand,
    DockhandError,
    PluginError,
)
from dockhand_core.flow import Flow, blocking, call

pytestmark = [
    pytest.mark.usefixtures("clean"),
    pytest.mark.filterwarnings("error"),
    pytest.mark.parametrize("world", ["sync", "async"]),
]

Steps = Generator[Any, Any, Any]


class Gate:
    """A registry whose other half gives sessions and ends them."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.open = 0
        self.status = 204

    def __call__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        self.seen.append(f"{method} {path} {headers.get('authorization', '')}".strip())
        if path == "/sessions":
            self.open += 1
            return 200, {}, b"session-%d" % self.open
        if path.startswith("/sessions/"):
            self.open -= 1
            return self.status, {"Retry-After": "30"}, b""
        return 200, {}, b"{}"


class GateAuth(AuthDriver):
    """A driver with a session, which it ends when it is closed."""

    class Settings(AuthDriver.Settings):
        url: str

    session: str | None = None

    def auth_flow(self, request: Any) -> Steps:
        if self.session is None:
            reply = yield from self.fetch("POST", f"{self.settings.url}/sessions")
            self.session = reply.text
        request.headers["Authorization"] = f"Gate {self.session}"
        yield request

    def close(self) -> Steps:
        if self.session is not None:
            reply = yield from self.fetch("DELETE", f"{self.settings.url}/sessions/{self.session}")
            yield from self.blocking(str)
            self.session = None
            if reply.status_code >= 400:
                raise ValueError(f"the gate answered {reply.status_code} to hunter2")
        super().close()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def at(gate: Gate, serve: Callable[[Callable[..., Any]], str]) -> str:
    return serve(gate)


def table(at: str, **more: Any) -> dict[str, Any]:
    return {"base_uri": at, "auth": {"driver": "wrong", "url": at}, **more}


def test_an_auth_driver_ends_its_session_when_the_client_is_closed(
    world: str, gate: Gate, at: str
) -> None:
    use(world, Drivers(auth=GateAuth), **table(at))
    assert gate.seen == ["POST /sessions", "GET /v2/ Gate session-1", "DELETE /sessions/session-1"]
    assert gate.open == 0


def test_an_auth_driver_that_was_not_used_sends_nothing(world: str, gate: Gate, at: str) -> None:
    async def nothing() -> None: ...

    use(world, Drivers(auth=GateAuth), lambda _: nothing() if world == "async" else 1, **table(at))
    assert gate.seen == []


def test_disconnect_and_reset_end_the_session_too(world: str, gate: Gate, at: str) -> None:
    config = {"connections": {"main": table(at)}}
    opened = []

    async def main() -> None:
        async with AsyncDockhand(config) as dockhand:
            dockhand.plugins.register(Drivers(auth=GateAuth))
            client = dockhand.connection()
            for end in (dockhand.disconnect, client.reset):
                await client.ping()
                await end()
                opened.append(gate.open)

    if world == "async":
        asyncio.run(main())
    else:
        with Dockhand(config) as dockhand:
            dockhand.plugins.register(Drivers(auth=GateAuth))
            client = dockhand.connection()
            for end in (dockhand.disconnect, client.reset):
                client.ping()
                end()
                opened.append(gate.open)
    assert opened == [0, 0]
    assert len(gate.seen) == 6


def test_a_failed_close_is_an_error_without_secrets(world: str, gate: Gate, at: str) -> None:
    gate.status = 429  # not waited for: closing ends soon
    more = {"headers": {"X-Gate": "hunter2"}}
    with pytest.raises(PluginError) as caught:
        use(world, Drivers(auth=GateAuth), **table(at, **more))
    assert str(caught.value) == "GateAuth.close: ValueError: the gate answered 429 to ..."
    assert sum(line.startswith("DELETE") for line in gate.seen) == 1


def test_a_failed_request_of_close_is_raised_at_its_step(world: str, gate: Gate, at: str) -> None:
    caught: list[DockhandError] = []

    class Careful(GateAuth):
        def close(self) -> Steps:
            try:
                yield from self.fetch("DELETE", "http://127.0.0.1:1/sessions")
            except ConnectionFailed as error:
                caught.append(error)
            super(GateAuth, self).close()

    use(world, Drivers(auth=Careful), **table(at))
    assert len(caught) == 1
    assert caught[0].unsent  # type: ignore[attr-defined]


@pytest.mark.parametrize("mistake", ["request", "yield", "none"])
def test_close_has_steps_of_its_own_only(world: str, gate: Gate, at: str, mistake: str) -> None:
    class Wrong(GateAuth):
        def auth_flow(self, request: Any) -> Steps:
            self.request = request
            yield request

        def close(self) -> Steps:
            if mistake == "yield":
                yield self.fetch("DELETE", at)
            yield self.request if mistake == "request" else None

    texts = {"request": "a Request", "yield": "fetch(…); write `yield from`", "none": "None"}
    with pytest.raises(PluginError) as caught:
        use(world, Drivers(auth=Wrong), **table(at))
    assert f"close yielded {texts[mistake]}" in str(caught.value)
    assert "test_closing_flows.py, line" in str(caught.value)


def test_a_registry_driver_is_closed_by_a_flow_with_credentials(
    world: str, gate: Gate, at: str
) -> None:
    class Leaving(DistributionDriver):
        def close(self) -> Flow[None]:
            yield from call("POST", "leave")

    use(world, Drivers(auth=GateAuth, registry=Leaving), **table(at))
    assert gate.seen[1:] == [
        "GET /v2/ Gate session-1",
        "POST /v2/leave Gate session-1",
        "DELETE /sessions/session-1",
    ]


def test_nobody_else_can_send_while_a_client_is_closed(world: str, gate: Gate, at: str) -> None:
    """The flow of `close` may use the client's connections; an operation may not."""
    errors: list[str] = []
    clients: list[Any] = []

    def ping() -> None:
        try:
            found = clients[0].ping()
            if world == "async":
                asyncio.run(found)
        except DockhandError as error:
            errors.append(str(error))

    def ping_elsewhere() -> None:
        thread = threading.Thread(target=ping)
        thread.start()
        thread.join()

    class Leaving(DistributionDriver):
        def close(self) -> Flow[None]:
            yield from blocking(ping_elsewhere)
            yield from call("GET", "leave")

    def operation(client: Any) -> Any:
        clients.append(client)
        return client.ping()

    use(world, Drivers(auth=GateAuth, registry=Leaving), operation, **table(at))
    assert errors == ["this client is closed"]
    assert [line.split()[1] for line in gate.seen[1:]] == [
        "/v2/",
        "/v2/leave",
        "/sessions/session-1",
    ]
