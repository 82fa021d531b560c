"""The contract of auth drivers."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from dockhand_core import AsyncDockhand, Dockhand, DockhandError
from dockhand_testing.builders import BuiltImage, build_image
from dockhand_testing.contracts.plugin_contract import (
    DriverContract,
    OpenClient,
    finish,
    hidden_in,
    secrets_in,
    valid_settings,
)
from dockhand_testing.http_server import CUT, HANG, ReceivedRequest, Step, reply
from dockhand_testing.pytest_plugin import register
from dockhand_testing.rules import rule
from dockhand_testing.scripted_registry import ScriptedRegistry

__all__ = ["AuthDriverContract"]

REPOSITORY = "library/app"
_MOST_REQUESTS = 12  # of one operation, with those of the driver itself
_BROKEN: dict[str, bytes | list[Step]] = {
    "cut": [CUT],
    "stall": [HANG],
    "503": reply(503, b"try again"),
    "nonsense": reply(200, b"<html>no JSON", Content_Type="text/html"),
    "empty": reply(200, b"{}", Content_Type="application/json"),
}


class AuthDriverContract(DriverContract):
    """The contract of auth drivers: subclass it in the tests of a driver::

        class TestVault(AuthDriverContract):
            driver = "vault"
            settings = {"role": "ci", "token": "s3cret", "url": "{url}/vault"}

            def accepts(self, request):
                return request.headers.get("Authorization") == "Bearer from-the-vault"

            def answer(self, request):
                if request.path == "/vault":
                    return reply(200, b'{"token": "from-the-vault"}')

    The tests run against a registry on a socket, which lets in what `accepts` says.

    Attributes:
        driver: name of the driver.
        settings: the connection's `auth` table without `driver`. `{url}` in a text is replaced by
            the URL of the registry on the socket.
        plugin: see `PluginContract`.
        challenge: the header `WWW-Authenticate` of the registry's 401, with `{url}` as above.
        renews: whether the driver gets new credentials after a 401.
    """

    kind = "auth"
    challenge: ClassVar[str] = 'Bearer realm="{url}/token",service="scripted"'
    renews: ClassVar[bool] = False

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
        """The secrets in the settings."""
        return secrets_in(valid_settings(driver_class, own_settings))

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
        for request in _to_registry(registry):
            if self.accepted(request):
                for name in set(request.headers) - plain - _OF_BODIES:
                    found.setdefault(name, set()).add(request.headers[name])
        return found

    @rule(
        "auth_flow is a generator function, and the only flow that a driver implements.",
        why="one implementation serves blocking clients and asyncio",
        where="AuthDriver",
    )
    def test_one_flow_for_sync_and_async(self, driver_class: Any) -> None:
        assert inspect.isgeneratorfunction(driver_class.auth_flow), "auth_flow is no generator"
        for name in ("sync_auth_flow", "async_auth_flow"):
            own = [kind for kind in driver_class.__mro__ if name in vars(kind)]
            assert own[0].__module__.startswith("httpx"), f"{name} is never called"

    @rule(
        "Every request that needs credentials gets them: reading, listing and pushing.",
        why="a registry refuses a request without them",
        where="AuthDriver.auth_flow",
    )
    def test_requests_get_credentials(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
        image: BuiltImage,
    ) -> None:
        client = open_client(mode, **connection)
        client.ping()
        assert list(client.tags(REPOSITORY)) == ["v1"]
        assert client.manifest(REPOSITORY, "v1").digest == image.digest
        pushed = client.upload_blob(REPOSITORY, b"some bytes")
        assert client.read_blob(REPOSITORY, pushed.digest) == b"some bytes"
        assert any(map(self.accepted, _to_registry(guarded))), "accepts() let nothing in"

    @rule(
        "A refusal is a DockhandError after a few requests, and does not quote the credentials.",
        why="a wrong password must not lock the account, nor end up in a bug report",
        where="AuthDriver: it may send a request again up to five times",
    )
    def test_refused_credentials(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
        secrets: set[str],
    ) -> None:
        guarded.accepts = lambda _: False
        client = open_client(mode, **connection)
        with pytest.raises(DockhandError) as caught:
            client.read_blob(REPOSITORY, "sha256:" + "0" * 64)
        assert len(guarded.requests) <= _MOST_REQUESTS, f"{len(guarded.requests)} requests"
        assert hidden_in(_whole_text(caught.value), secrets), "the error quotes a secret"

    @rule(
        "Credentials go to the connection's origin only, and not along with a redirect.",
        why="the server that a registry redirects to, often a public one, could use them",
        where="AuthDriver: a redirect to another origin is followed without credentials",
    )
    def test_redirects_get_no_credentials(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
        image: BuiltImage,
        secrets: set[str],
    ) -> None:
        layer = image.manifest.layers[0].digest
        client = open_client(mode, **connection)
        client.ping()
        guarded.then("redirect", method="GET", path="/blobs/")
        assert client.read_blob(REPOSITORY, layer) == image.blobs[layer]
        (sent,) = guarded.elsewhere.requests
        credentials = self.credentials(guarded)
        assert not credentials.keys() & sent.headers.keys(), "a header of the driver was sent"
        values = {value.split(" ")[-1] for held in credentials.values() for value in held}
        assert hidden_in(f"{sent.target} {list(sent.headers.values())}", values | secrets)

    @rule(
        "Secrets and credentials never reach a log or the standard output, at any level.",
        why="logs are kept for years, and read by many",
        where="dockhand_core.logs; AuthDriver",
    )
    def test_secrets_stay_out_of_logs(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
        secrets: set[str],
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level(logging.DEBUG)
        client = open_client(mode, **{**connection, "logging": {"level": "debug"}})
        client.ping()
        values = {
            value.split(" ")[-1] for held in self.credentials(guarded).values() for value in held
        }
        guarded.accepts = lambda _: False
        with pytest.raises(DockhandError):
            client.manifest(REPOSITORY, "v1")
        assert any(record.name.startswith("dockhand") for record in caplog.records)
        written = caplog.text + "".join(capfd.readouterr())
        written += " ".join(repr(vars(record)) for record in caplog.records)
        assert hidden_in(written, values | secrets), "a secret or a credential was written"

    @rule(
        "Sync and async clients send the same requests with the same credentials' headers.",
        why="a program that moves to asyncio must not need another login",
        where="AuthDriver: auth_flow serves both",
    )
    def test_sync_and_async_are_alike(
        self, open_client: OpenClient, connection: dict[str, Any], guarded: ScriptedRegistry
    ) -> None:
        seen = []
        for mode in ("sync", "async"):
            guarded.requests.clear()
            client = open_client(mode, **connection)
            client.ping()
            list(client.tags(REPOSITORY))
            client.manifest(REPOSITORY, "v1")
            sent = [(request.method, request.path) for request in guarded.requests]
            seen.append((sent, set(self.credentials(guarded))))
        assert seen[0] == seen[1]

    @rule(
        "The driver works in several threads or tasks at the same time.",
        why="one object serves a connection, which programs share",
        where="AuthDriver: auth_flow may run in several threads or tasks",
    )
    def test_concurrent_requests(
        self, mode: str, connection: dict[str, Any], guarded: ScriptedRegistry
    ) -> None:
        config = {"connections": {"default": {"logging": {"driver": "null"}, **connection}}}
        if mode == "sync":
            with Dockhand(config) as manager, ThreadPoolExecutor(8) as threads:
                register(manager, self.plugin)
                client = manager.connection()
                list(threads.map(lambda _: client.manifest(REPOSITORY, "v1"), range(16)))
        else:
            asyncio.run(self._gather(config))
        done = [request for request in _to_registry(guarded) if "/manifests/" in request.path]
        assert sum(map(self.accepted, done)) >= 16

    async def _gather(self, config: dict[str, Any]) -> None:
        async with AsyncDockhand(config) as manager:
            register(manager, self.plugin)
            client = manager.connection()
            await asyncio.gather(*(client.manifest(REPOSITORY, "v1") for _ in range(16)))

    @rule(
        "close() may be called again, and the next connection works.",
        why="disconnect() closes a driver, and its connection is made anew when it is used",
        where="AuthDriver.close, Dockhand.disconnect",
    )
    def test_close(self, dockhand: Dockhand, driver_class: Any, own_settings: Any) -> None:
        dockhand.connection().ping()
        dockhand.disconnect()
        dockhand.connection().ping()
        made = driver_class(valid_settings(driver_class, own_settings))
        for _ in range(2):
            finish(made.close())

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
        assert type(caught.value).__name__ != "PluginError", str(caught.value)
        assert hidden_in(_whole_text(caught.value), secrets), "the error quotes a secret"

    @rule(
        "After a 401 the driver gets new credentials, and the operation succeeds.",
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
            pytest.skip("the driver's credentials are fixed: `renews` is false")
        client = open_client(mode, **connection)
        client.manifest(REPOSITORY, "v1")
        guarded.then("expired token", path="/v2/")
        client.manifest(REPOSITORY, "v1")
        assert not guarded.unused


_OF_BODIES = {"content-length", "content-type", "content-range", "range", "transfer-encoding"}


def _to_registry(registry: ScriptedRegistry) -> list[ReceivedRequest]:
    return [request for request in registry.requests if request.path.startswith("/v2/")]


def _with_url(value: Any, url: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_url(each, url) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_url(each, url) for each in value)
    return value.replace("{url}", url) if isinstance(value, str) else value


def _whole_text(error: BaseException) -> str:
    """The text of an error, of its attributes and of its causes."""
    parts = []
    found: BaseException | None = error
    while found is not None:
        parts.append(f"{found!r} {found} {vars(found)}")
        found = found.__cause__ or found.__context__
    return " ".join(parts)
