"""The part of the contract of auth drivers about the time of credentials, and requests for them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from dockhand_core import AsyncDockhand, DockhandError, RegistryClient
from dockhand_testing.builders import BuiltImage, build_image
from dockhand_testing.contracts.blocking_calls import no_blocking_calls
from dockhand_testing.contracts.plugin_contract import (
    DriverContract,
    OpenClient,
    hidden_in,
    secrets_in,
    valid_settings,
)
from dockhand_testing.http_server import CUT, HANG, ReceivedRequest, Step, reply
from dockhand_testing.pytest_plugin import register
from dockhand_testing.rules import rule
from dockhand_testing.scripted_registry import ScriptedRegistry

__all__ = ["REPOSITORY", "CredentialsContract", "to_registry", "whole_text"]

REPOSITORY = "library/app"
_BROKEN: dict[str, bytes | list[Step]] = {
    "cut": [CUT],
    "stall": [HANG],
    "503": reply(503, b"try again"),
    "nonsense": reply(200, b"<html>no JSON", Content_Type="text/html"),
    "empty": reply(200, b"{}", Content_Type="application/json"),
}


class GuardedRegistry(DriverContract):
    """The registry of the tests, which lets in what the contract accepts."""

    kind = "auth"
    challenge: ClassVar[str] = 'Bearer realm="{url}/token",service="scripted"'
    renews: ClassVar[bool] = False
    caches: ClassVar[bool] = True
    other_secrets: ClassVar[Collection[str]] = ()

    def accepts(self, request: ReceivedRequest) -> bool:
        """Whether the registry lets a request in; its headers are found in any case."""
        raise NotImplementedError(f"{type(self).__name__} needs a method accepts(self, request)")

    def accepted(self, request: ReceivedRequest) -> bool:
        """Whether `accepts` lets a request in; not if it misses a header or a part of its value."""
        try:
            return bool(self.accepts(request))
        except (LookupError, ValueError):
            return False

    def answer(self, request: ReceivedRequest) -> bytes | Sequence[Step] | None:  # noqa: ARG002
        """The reply to a request of the driver itself, such as one to a token endpoint.

        Returns:
            the bytes of `reply(…)`, or steps; None for a request to the registry.
        """
        return None

    def refusal(self, request: ReceivedRequest) -> bytes | Sequence[Step] | None:  # noqa: ARG002
        """The reply to a request with wrong credentials, or with credentials that have expired.

        In the test of renewal, `accepts` is true for the request whose credentials have expired.

        Returns:
            the bytes of `reply(…)`, or steps; None for 401 with the `challenge`.
        """
        return None

    @pytest.fixture
    def before_clients(self, guarded: ScriptedRegistry) -> None:
        """The registry, which answers until all clients are closed."""

    @pytest.fixture
    def image(self) -> BuiltImage:
        """The image in the registry, at `library/app:v1`."""
        return build_image()

    @pytest.fixture
    def guarded(self, scripted_registry: ScriptedRegistry, image: BuiltImage) -> ScriptedRegistry:
        """A registry that lets in what the contract accepts."""
        scripted_registry.accepts = self.accepted
        scripted_registry.answer = self.answer
        scripted_registry.challenge = self.challenge
        scripted_registry.refusal = self.refusal
        scripted_registry.push(image, REPOSITORY, "v1")
        return scripted_registry

    @pytest.fixture
    def own_settings(self, guarded: ScriptedRegistry) -> dict[str, Any]:
        """The settings; override it for settings that need a fixture, such as a file."""
        return {name: _with_url(value, guarded.url) for name, value in self.settings.items()}

    @pytest.fixture
    def connection(self, guarded: ScriptedRegistry, own_settings: dict[str, Any]) -> dict[str, Any]:
        """The table of a connection to the registry, with the driver."""
        return {**self.table(**own_settings), "base_uri": guarded.url}

    @pytest.fixture
    def secrets(self, driver_class: Any, own_settings: dict[str, Any]) -> set[str]:
        """The secrets in the settings, and the `other_secrets`."""
        return {*secrets_in(valid_settings(driver_class, own_settings)), *self.other_secrets}

    @pytest.fixture
    def dockhand_config(self, connection: dict[str, Any]) -> Mapping[str, Any]:
        """The configuration of the fixture `dockhand`: its connection is that of the contract."""
        return {"connections": {"default": connection}}

    def table(self, **settings: Any) -> dict[str, Any]:
        """The connection's table for these settings of the driver."""
        return {
            "base_uri": "http://127.0.0.1:1",
            "retries": 0,
            "timeout": 10.0,
            "auth": {"driver": self.driver, **settings},
        }

    def credentials(self, registry: ScriptedRegistry) -> dict[str, set[str]]:
        """The headers that the driver added to accepted requests, with their values."""
        with registry.client() as client, pytest.raises(DockhandError):
            client.ping()
        plain = set(registry.requests.pop().headers)
        found: dict[str, set[str]] = {}
        for request in to_registry(registry):
            if self.accepted(request):
                for name in set(request.headers) - plain - _OF_BODIES:
                    found.setdefault(name, set()).add(request.headers[name])
        return found

    async def _gather(self, config: dict[str, Any], reads: int) -> None:
        async with AsyncDockhand(config) as manager:
            register(manager, self.plugin)
            client = manager.connection()
            await asyncio.gather(*(client.manifest(REPOSITORY, "v1") for _ in range(reads)))

    @pytest.fixture
    def closing_requests(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
    ) -> list[ReceivedRequest]:
        """The requests that the driver sends when a connection is closed that was in use.

        This is for a test of your own, such as one that a session ends with the connection.
        """
        client = open_client(mode, **connection)
        client.ping()
        client.manifest(REPOSITORY, "v1")
        before = len(guarded.requests)
        client.close()
        return guarded.requests[before:]


class CredentialsContract(GuardedRegistry):
    """The requests of a driver for credentials, their renewal, and the event loop."""

    @rule(
        "The driver does not block the event loop of an async client.",
        why="all other tasks of the program would stand still meanwhile",
        where="AuthDriver.blocking, AuthDriver.fetch",
    )
    def test_async_clients_do_not_block(
        self, open_client: OpenClient, connection: dict[str, Any], guarded: ScriptedRegistry
    ) -> None:
        self._use(open_client("async", **connection), guarded)  # imports what is used first
        client = open_client("async", **connection)
        with no_blocking_calls() as calls:
            self._use(client, guarded)
        assert not calls, f"the driver called {', '.join(calls)} in the event loop"

    def _use(self, client: RegistryClient, registry: ScriptedRegistry) -> None:
        client.ping()
        client.manifest(REPOSITORY, "v1")
        if self.renews:
            registry.then("expired token", path="/v2/")
            client.manifest(REPOSITORY, "v1")
        client.close()

    @rule(
        "Credentials are kept, and requests at the same time wait for the same ones.",
        why="a token endpoint that is asked at every request is slow, and limits its callers",
        where="AuthDriver.cached_token",
    )
    def test_credentials_are_kept(
        self, connection: dict[str, Any], guarded: ScriptedRegistry
    ) -> None:
        asked = []
        for reads in (1, 8):
            guarded.requests.clear()
            asyncio.run(self._gather({"connections": {"default": connection}}, reads))
            sent = guarded.requests
            asked.append(sum(self.answer(request) is not None for request in sent))
        if not asked[0]:
            pytest.skip("the driver sends no requests of its own")
        if not self.caches:
            pytest.skip("`caches` is false")
        assert asked[1] <= asked[0], (
            f"for 1 manifest the driver sent {asked[0]} requests of its own, for 8 at the same "
            f"time {asked[1]}; is the key of cached_token(…) the same, and are the credentials of "
            "answer() valid for a minute or more?"
        )

    @rule(
        "If the driver's own requests fail, the operation raises a DockhandError.",
        why="programs catch DockhandError; an httpx or KeyError of a driver is a defect",
        where="AuthDriver.fetch",
    )
    @pytest.mark.parametrize("fault", _BROKEN)
    def test_failures_of_own_requests(
        self,
        mode: str,
        fault: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
        secrets: set[str],
    ) -> None:
        client = open_client(mode, **{**connection, "timeout": 0.5})
        client.ping()
        if all(self.answer(request) is None for request in guarded.requests):
            pytest.skip("the driver sends no requests of its own")
        broken = _BROKEN[fault]
        guarded.answer = lambda request: None if self.answer(request) is None else broken
        client = open_client(mode, **{**connection, "timeout": 0.5})
        with pytest.raises(DockhandError) as caught:
            client.manifest(REPOSITORY, "v1")
        guarded.answer = self.answer  # for requests of close()
        assert type(caught.value).__name__ != "PluginError", str(caught.value)
        assert hidden_in(whole_text(caught.value), secrets), "the error quotes a secret"

    @rule(
        "After a refusal the driver gets new credentials, and the operation succeeds.",
        why="tokens expire, and are revoked before they expire",
        where="AuthDriver.auth_flow: a driver may yield the request again",
    )
    def test_expired_credentials_are_renewed(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
    ) -> None:
        if not self.renews:
            pytest.skip("`renews` is false: set it if the driver gets new credentials")
        client = open_client(mode, **connection)
        client.manifest(REPOSITORY, "v1")
        guarded.then("expired token", path="/v2/")
        client.manifest(REPOSITORY, "v1")
        assert not guarded.unused


_OF_BODIES = {"content-length", "content-type", "content-range", "range", "transfer-encoding"}


def to_registry(registry: ScriptedRegistry) -> list[ReceivedRequest]:
    return [request for request in registry.requests if request.path.startswith("/v2/")]


def _with_url(value: Any, url: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_url(each, url) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_url(each, url) for each in value)
    return value.replace("{url}", url) if isinstance(value, str) else value


def whole_text(error: BaseException) -> str:
    """The text of an error, of its attributes and of its causes."""
    parts = []
    found: BaseException | None = error
    while found is not None:
        parts.append(f"{found!r} {found} {vars(found)}")
        found = found.__cause__ or found.__context__
    return " ".join(parts)
