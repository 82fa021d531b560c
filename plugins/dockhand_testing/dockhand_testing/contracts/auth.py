"""The contract of auth drivers."""

from __future__ import annotations

import asyncio
import inspect
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dockhand_core import Dockhand, DockhandError
from dockhand_testing.builders import BuiltImage
from dockhand_testing.contracts.credentials import (
    REPOSITORY,
    CredentialsContract,
    to_registry,
    whole_text,
)
from dockhand_testing.contracts.plugin_contract import (
    OpenClient,
    hidden_in,
)
from dockhand_testing.pytest_plugin import register
from dockhand_testing.rules import rule
from dockhand_testing.scripted_registry import ScriptedRegistry

__all__ = ["AuthDriverContract"]

_MOST_REQUESTS = 12  # of one operation, with those of the driver itself


class AuthDriverContract(CredentialsContract):
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
        renews: whether the driver gets new credentials after a refusal, such as a 401.
        caches: whether the driver keeps credentials that it got by requests of its own, and does
            not ask for them again at every request.
        other_secrets: the secrets that the driver gets elsewhere, such as `{"s3cret"}` from a
            program, a file or a reply. The tests know only those in the settings and those in the
            headers of requests to the registry, and look for these in logs and errors, too.
    """

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
        assert any(map(self.accepted, to_registry(guarded))), "accepts() let nothing in"

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
        assert hidden_in(whole_text(caught.value), secrets), "the error quotes a secret"

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
            asyncio.run(self._gather(config, 16))
        done = [request for request in to_registry(guarded) if "/manifests/" in request.path]
        assert sum(map(self.accepted, done)) >= 16

    @rule(
        "close() raises no exception, used or unused, and the next driver of the connection works.",
        why="reset() and disconnect() close a driver, and the next request makes a new one",
        where="AuthDriver.close, RegistryClient.reset, Dockhand.disconnect",
    )
    def test_close(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        driver_class: Any,
        guarded: ScriptedRegistry,
    ) -> None:
        assert not inspect.isasyncgenfunction(driver_class.close), "close is an async generator"
        open_client(mode, **connection).close()
        client = open_client(mode, **connection)
        client.ping()
        client.reset()
        client.manifest(REPOSITORY, "v1")
        client.close()
        client.close()
        assert any(map(self.accepted, to_registry(guarded))), "accepts() let nothing in"
