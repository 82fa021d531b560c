"""Auth, registry and log drivers of a plugin, used by sync and async clients with a server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from pydantic import BaseModel, ConfigDict, SecretStr

from dockhand_core import (
    AsyncDockhand,
    AsyncRegistryClient,
    AuthDriver,
    ConfigError,
    Dockhand,
    DriverMismatch,
    PluginError,
    RegistryClient,
    RegistryDriver,
    Scope,
    Unauthorized,
    Unsupported,
    hookimpl,
)
from dockhand_core.flow import Flow, call
from dockhand_core.logs import LogSettings

pytestmark = pytest.mark.usefixtures("clean")

Serve = Callable[[Callable[..., Any]], str]
logged: list[tuple[str, str]] = []


class VaultAuth(AuthDriver):
    class Settings(BaseModel):
        role: str
        token: SecretStr
        url: str

    def __init__(self, settings: Settings) -> None:
        self.role, self.token, self.url = settings.role, settings.token, settings.url
        self.asked: list[tuple[Scope, ...]] = []
        self.threads: list[str] = []

    def ask_the_keyring(self, what: str) -> str:
        self.threads.append(threading.current_thread().name)
        return f"{what} of {self.role}"

    def auth_flow(self, request: httpx.Request) -> Generator[Any, Any, None]:
        self.asked.append(self.scopes(request))
        secret = yield from self.blocking(self.ask_the_keyring, "secret")
        reply = yield from self.fetch(
            "POST",
            self.url,
            json={"role": self.role, "secret": secret},
            headers={"X-Vault": self.token.get_secret_value()},
        )
        request.headers["Authorization"] = f"Bearer {reply.json()['token']}"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = "Bearer second"
            yield request


class QuayDriver(RegistryDriver):
    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")

        base_uri: str
        organisation: str
        mirror: Path | None = None

    def robots(self) -> Flow[list[str]]:
        scopes = (Scope.read(f"{self.settings.organisation}/x"), Scope.catalog())
        path = f"{self.settings.organisation}/robots"
        reply = yield from call("GET", path, scopes=scopes)
        found: list[str] = json.loads(reply.body)
        return found


class QuayClient(RegistryClient):
    driver: QuayDriver

    def robots(self) -> list[str]:
        """List the robots."""
        return self.run(self.driver.robots())


class AsyncQuayClient(AsyncRegistryClient):
    driver: QuayDriver

    async def robots(self) -> list[str]:
        """List the robots."""
        return await self.run(self.driver.robots())


QuayDriver.client = QuayClient
QuayDriver.async_client = AsyncQuayClient


def make_memory_logger(settings: LogSettings, connection: str) -> Any:
    def keep(_: Any, __: str, event: Any) -> str:
        logged.append((settings.options["prefix"] + connection, event["event"]))
        return ""

    return structlog.wrap_logger(structlog.ReturnLogger(), processors=[keep])


class ExamplePlugin:
    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"vault": VaultAuth}

    @hookimpl
    def dockhand_registry_drivers(self) -> dict[str, Any]:
        return {"quay": QuayDriver}

    @hookimpl
    def dockhand_log_drivers(self) -> dict[str, Any]:
        return {"memory": make_memory_logger}


class Server:
    """A server that is both a vault and a registry, and keeps the requests that it receives."""

    def __init__(self, serve: Serve, refuse: str = "") -> None:
        self.requests: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.refuse = refuse
        self.url = serve(self)
        self.vault = serve(self) + "/vault"

    def __call__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        self.requests.append((method, path, headers, body))
        if path == "/vault":
            return 200, {}, b'{"token": "first"}'
        if headers.get("authorization") == self.refuse:
            return 401, {}, b"no"
        return 200, {}, b'["a robot"]'

    def config(self, **settings: Any) -> dict[str, Any]:
        auth = {"driver": "vault", "role": "ci", "token": "t0ken", "url": self.vault}
        table = {
            "driver": "quay",
            "base_uri": self.url,
            "organisation": "acme",
            "headers": {"X-Own": "yes"},
            "auth": auth,
            "logging": {"driver": "memory", "prefix": "log-"},
        }
        return {"connections": {"main": {**table, **settings}}}


def ask(config: dict[str, Any], world: str) -> tuple[list[str], VaultAuth]:
    """List the robots with a sync or async client; return them and the connection's auth driver."""
    if world == "sync":
        with Dockhand(config) as dockhand:
            dockhand.plugins.register(ExamplePlugin())
            client = dockhand.connection("main", QuayClient)
            auth = client._runner.endpoint.auth
            found = client.robots()
    else:

        async def main() -> tuple[list[str], AuthDriver]:
            async with AsyncDockhand(config) as dockhand:
                dockhand.plugins.register(ExamplePlugin())
                client = dockhand.connection("main", AsyncQuayClient)
                return await client.robots(), client._runner.endpoint.auth

        found, auth = asyncio.run(main())
    assert isinstance(auth, VaultAuth)
    return found, auth


@pytest.mark.parametrize("world", ["sync", "async"])
def test_registry_auth_and_log_driver_work_together(serve: Serve, world: str) -> None:
    logged.clear()
    server = Server(serve)
    found, auth = ask(server.config(), world)
    assert found == ["a robot"]
    vault, registry = server.requests
    assert vault[:2] == ("POST", "/vault")
    assert json.loads(vault[3]) == {"role": "ci", "secret": "secret of ci"}
    assert vault[2]["x-vault"] == "t0ken"
    assert "x-own" not in vault[2]  # the connection's headers go to its registry only
    assert registry[:2] == ("GET", "/v2/acme/robots")
    assert registry[2]["authorization"] == "Bearer first"
    assert registry[2]["x-own"] == "yes"
    assert auth.asked == [(Scope.read("acme/x"), Scope.catalog())]
    here = threading.current_thread().name
    assert [name == here for name in auth.threads] == [world == "sync"]
    assert logged == [("log-main", "request")]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_auth_driver_may_send_the_request_again(serve: Serve, world: str) -> None:
    server = Server(serve, refuse="Bearer first")
    assert ask(server.config(), world)[0] == ["a robot"]
    sent = [headers.get("authorization") for _, path, headers, _ in server.requests]
    assert sent == [None, "Bearer first", "Bearer second"]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_a_final_401_is_unauthorized(serve: Serve, world: str) -> None:
    server = Server(serve)
    server.refuse = "Bearer first"
    config = server.config(auth={"driver": "bearer", "token": "first"})
    with pytest.raises(Unauthorized):
        ask(config, world)


@pytest.mark.parametrize("world", ["sync", "async"])
def test_auth_classes_of_httpx_can_be_wrapped(serve: Serve, world: str) -> None:
    """httpx's digest auth sends the request, receives a challenge, and sends it again."""
    asked: list[str | None] = []

    def registry(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        asked.append(headers.get("authorization"))
        if asked[-1] is None:
            return 401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}, b"no"
        return 200, {}, b"{}"

    class Wrapped(AuthDriver):
        def __init__(self, settings: Any) -> None:
            self.inner = httpx.DigestAuth("alice", "hunter2")

        def auth_flow(self, request: httpx.Request) -> Generator[Any, Any, None]:
            yield from self.inner.auth_flow(request)

    class Hooks:
        @hookimpl
        def dockhand_auth_drivers(self) -> dict[str, Any]:
            return {"digest": Wrapped}

    table = {"base_uri": serve(registry), "auth": {"driver": "digest"}}
    config = {"connections": {"main": table}}

    async def main() -> None:
        async with AsyncDockhand(config) as dockhand:
            dockhand.plugins.register(Hooks())
            await dockhand.connection().ping()

    if world == "async":
        asyncio.run(main())
    else:
        with Dockhand(config) as dockhand:
            dockhand.plugins.register(Hooks())
            dockhand.connection().ping()
    assert asked[0] is None
    assert (asked[1] or "").startswith('Digest username="alice"')


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"organisatoin": "x"}, "connection 'main': unknown key 'organisatoin'; did you mean 'or"),
        ({"organisation": 5}, "connection 'main': organisation: "),
        ({"auth": {"driver": "vault", "rol": "x"}}, "'main': auth: unknown key 'rol'; did you m"),
        ({"auth": {"driver": "vault", "token": "x"}}, "connection 'main': auth: role: is required"),
    ],
)
def test_settings_of_plugins_are_validated(
    serve: Serve, settings: dict[str, Any], message: str
) -> None:
    with Dockhand(Server(serve).config(**settings)) as dockhand:
        dockhand.plugins.register(ExamplePlugin())
        with pytest.raises(ConfigError) as caught:
            dockhand.connection()
    assert message in str(caught.value)


def test_paths_and_secrets_of_plugins_are_resolved(serve: Serve, clean: Path) -> None:
    (clean / "vault-token").write_text("from-file\n")
    server = Server(serve)
    config = server.config(mirror="mirror")
    auth = config["connections"]["main"]["auth"]
    del auth["token"]
    auth["token_file"] = "vault-token"
    with Dockhand(config) as dockhand:
        dockhand.plugins.register(ExamplePlugin())
        client = dockhand.connection("main", QuayClient)
        assert client.driver.settings.mirror == clean / "mirror"
        client.robots()
    assert server.requests[0][2]["x-vault"] == "from-file"


def test_operations_that_a_driver_lacks_are_unsupported(serve: Serve) -> None:
    with Dockhand(Server(serve).config()) as dockhand:
        dockhand.plugins.register(ExamplePlugin())
        client = dockhand.connection()
        assert client.driver.name == "quay"
        with pytest.raises(Unsupported, match="driver 'quay' cannot read manifests"):
            client.manifest("a", "b")
        with pytest.raises(Unsupported, match="driver 'quay' cannot list tags"):
            list(client.tags("a"))


def test_another_client_class_is_a_driver_mismatch() -> None:
    with Dockhand({"connections": {"main": {"base_uri": "http://r"}}}) as dockhand:
        with pytest.raises(DriverMismatch) as caught:
            dockhand.connection("main", QuayClient)
        message = "connection 'main' has driver 'distribution', whose client is DistributionClient"
        assert str(caught.value) == f"{message}, not QuayClient"
        assert isinstance(dockhand.connection("main", RegistryClient), RegistryClient)


@pytest.mark.parametrize("part", ["auth", "registry", "log"])
def test_a_driver_that_raises_is_reported_by_name(part: str) -> None:
    def fail(*_: Any) -> Any:
        raise LookupError("no keyring")

    class Hooks:
        @hookimpl
        def dockhand_auth_drivers(self) -> dict[str, Any]:
            return {"odd": type("Odd", (AuthDriver,), {"__init__": fail})}

        @hookimpl
        def dockhand_registry_drivers(self) -> dict[str, Any]:
            return {"odd": type("Odd", (RegistryDriver,), {"__init__": fail})}

        @hookimpl
        def dockhand_log_drivers(self) -> dict[str, Any]:
            return {"odd": fail}

    table: dict[str, Any] = {"base_uri": "http://r"}
    more: dict[str, dict[str, Any]] = {
        "auth": {"auth": {"driver": "odd"}},
        "registry": {"driver": "odd"},
        "log": {"logging": {"driver": "odd"}},
    }
    with Dockhand({"connections": {"main": table | more[part]}}) as dockhand:
        dockhand.plugins.register(Hooks())
        message = f"connection 'main': {part} driver 'odd': LookupError: no keyring"
        with pytest.raises(PluginError, match=message):
            dockhand.connection()


class PlainDriver(RegistryDriver):
    """A driver that names no clients."""

    def ping(self) -> Flow[None]:
        yield from call("GET", "/v2/")


class PlainPlugin:
    @hookimpl
    def dockhand_registry_drivers(self) -> dict[str, Any]:
        return {"plain": PlainDriver}


def test_a_driver_has_the_clients_of_the_core_by_default(url: str) -> None:
    assert PlainDriver.client is RegistryClient
    assert PlainDriver.async_client is AsyncRegistryClient
    table = {"driver": "plain", "base_uri": url}
    with Dockhand({"connections": {"main": table}}) as dockhand:
        dockhand.plugins.register(PlainPlugin())
        client = dockhand.connection()
        assert type(client) is RegistryClient
        client.ping()
        assert type(client.driver) is PlainDriver
        assert client.driver.client is RegistryClient

    async def main() -> None:
        async with AsyncDockhand({"connections": {"main": table}}) as dockhand:
            dockhand.plugins.register(PlainPlugin())
            client = dockhand.connection()
            assert type(client) is AsyncRegistryClient
            await client.ping()

    asyncio.run(main())
