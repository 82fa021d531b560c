"""Wrong registry drivers: a `PluginError` names the method and the broken rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, SecretStr, field_validator
from wrong_drivers import Drivers, refused, use

from dockhand_core import (
    AsyncRegistryClient,
    AuthDriver,
    ConfigError,
    PluginError,
    RegistryClient,
    RegistryDriver,
)
from dockhand_core.flow import Flow, blocking, call, parallel, pause
from dockhand_core.models import Page

pytestmark = [
    pytest.mark.usefixtures("clean"),
    pytest.mark.filterwarnings("error"),  # such as a coroutine that was never awaited
    pytest.mark.parametrize("world", ["sync", "async"]),
]

Serve = Callable[[Callable[..., Any]], str]


# -- operations of registry drivers -------------------------------------------------------------


class Client(RegistryClient):
    driver: Any

    def robots(self) -> Any:
        return self.run(self.driver.robots())

    def walk_robots(self) -> Any:
        return self.walk(self.driver.robots)


class AsyncClient(AsyncRegistryClient):
    driver: Any

    async def robots(self) -> Any:
        return await self.run(self.driver.robots())

    def walk_robots(self) -> Any:
        return self.walk(self.driver.robots)


class Quay(RegistryDriver):
    client = Client
    async_client = AsyncClient


def quay(**methods: Any) -> Drivers:
    return Drivers(registry=type("QuayDriver", (Quay,), methods))


def returning(value: Any) -> Callable[..., Any]:
    def operation(self: RegistryDriver, *_: Any, **options: Any) -> Any:
        return value

    return operation


def flow_of(value: Any) -> Callable[..., Any]:
    def operation(self: RegistryDriver, *_: Any, **options: Any) -> Flow[Any]:
        yield from pause(0)
        return value

    return operation


def flow_that_yields(make: Callable[[], Any]) -> Callable[..., Any]:
    def operation(self: RegistryDriver, *_: Any, **options: Any) -> Flow[Any]:
        try:
            yield make()
        except PluginError:  # the flow cannot take its mistake for a failed request
            return None

    return operation


async def coroutine(self: RegistryDriver, *_: Any, **options: Any) -> Any:
    return None


def fails(self: Any, *_: Any) -> None:
    raise LookupError("no keyring")


def get_manifest(client: Any) -> Any:
    return client.manifest("a/b", "v1")


@pytest.mark.parametrize(
    ("methods", "operation", "message"),
    [
        ({"manifest": returning(None)}, get_manifest, "QuayDriver.manifest returned None, not a"),
        ({"manifest": returning({})}, get_manifest, "QuayDriver.manifest returned a dict, not a"),
        ({"manifest": coroutine}, get_manifest, "manifest returned a coroutine (`async def`), not"),
        ({"manifest": flow_of({})}, get_manifest, "manifest returned a dict; it has to return an"),
        ({"manifest": flow_of(None)}, get_manifest, "returned None (is a `return` missing?)"),
        (
            {"manifest_head": returning(None)},
            lambda client: client.manifest_exists("a/b", "v1"),
            "QuayDriver.manifest_head returned None, not a flow",
        ),
        (
            {"manifest": returning(None)},
            lambda client: client.image("a/b", "v1"),
            "QuayDriver.manifest returned None, not a flow",
        ),
        (
            {"blob_size": flow_of("5")},
            lambda client: client.blob_size("a/b", "sha256:" + "0" * 64),
            "QuayDriver.blob_size returned a str; it has to return an int",
        ),
        (
            {"blob_exists": flow_of("yes")},
            lambda client: client.blob_exists("a/b", "sha256:" + "0" * 64),
            "QuayDriver.blob_exists returned a str; it has to return a bool",
        ),
        ({"ping": returning(True)}, lambda client: client.ping(), "QuayDriver.ping returned True"),
        (
            {"tag_page": flow_of(["v1"])},
            lambda client: client.tags("a/b"),
            "QuayDriver.tag_page returned a list; it has to return a Page",
        ),
        (
            {"tag_page": flow_of(["v1"])},
            lambda client: client.tag_page("a/b"),
            "QuayDriver.tag_page returned a list; it has to return a Page",
        ),
        (
            {"repository_page": returning(["a"])},
            lambda client: client.repositories(),
            "QuayDriver.repository_page returned a list, not a flow",
        ),
        (
            {"repository_page": flow_of(Page(items=("a", 5)))},
            lambda client: client.repositories(),
            "QuayDriver.repository_page returned a Page with an int among its items",
        ),
        (
            {"ping": lambda self: (yield Page[str](items=(5,)))},
            lambda client: client.ping(),
            "ValidationError: Page[str]: items.0: Input should be a valid string",
        ),
        (
            {"robots": returning(["r2d2"])},
            lambda client: client.robots(),
            "Client.robots: a flow is due, not a list",
        ),
        ({"robots": coroutine}, lambda c: c.robots(), "a flow is due, not a coroutine"),
        ({"robots": returning([])}, lambda c: c.walk_robots(), "operation returned a list, not a"),
        ({"robots": flow_of([])}, lambda c: c.walk_robots(), "operation returned a list, not a Pa"),
        (
            {"robots": flow_that_yields(lambda: None)},
            lambda client: client.robots(),
            "operation (test_wrong_registry_drivers.py, line",
        ),
        ({"robots": flow_that_yields(lambda: None)}, lambda c: c.robots(), "the flow yielded None"),
        (
            {"robots": flow_that_yields(lambda: call("GET", "x"))},
            lambda client: client.robots(),
            "yielded call(…), which is no effect; write `yield from` instead of `yield`",
        ),
        (
            {"robots": flow_that_yields(lambda: asyncio.sleep(0))},
            lambda client: client.robots(),
            "yielded a coroutine (`async def`), which is no effect",
        ),
        (
            {"robots": lambda self: (yield from parallel([None]))},  # type: ignore[arg-type]
            lambda client: client.robots(),
            "a flow is due, not None",
        ),
        (
            {"robots": lambda self: (yield from blocking(5))},  # type: ignore[arg-type]
            lambda client: client.robots(),
            "blocking(…) was given an int",
        ),
        (
            {"ping": lambda self: (yield from call("GET", str(call("GET", "x"))))},
            lambda client: client.ping(),
            "call(…) is used without `yield from` before it",
        ),
        ({"ping": None}, lambda client: client.ping(), "QuayDriver.ping is None; it has to be a"),
        ({"ping": property(fails)}, lambda c: c.ping(), "QuayDriver.ping: LookupError: no keyr"),
        (
            {"manifest": lambda self: (yield from pause(0))},
            get_manifest,
            "QuayDriver.manifest has to accept the arguments of RegistryDriver.manifest: ",
        ),
        (
            {"tag_page": flow_that_yields(lambda: Page(items=("v1",)))},
            lambda client: client.tags("a/b"),
            "flow_that_yields.<locals>.operation (test_wrong_registry_drivers.py, line",
        ),
        (
            {"ping": lambda self: (yield from pause("x"))},  # type: ignore[arg-type]
            lambda client: client.ping(),
            "pause(…) needs a number, not a str",
        ),
        (
            {"ping": lambda self: (yield from call("GET", "x", headers={"X y": "z"}))},
            lambda client: client.ping(),
            "call(…) set a header whose name HTTP does not allow",
        ),
        (
            {"ping": lambda self: (yield from call("GET", None))},  # type: ignore[arg-type]
            lambda client: client.ping(),
            "call(…) has a wrong path, None",
        ),
        (
            {"ping": lambda self: (yield from call("GET", "x", headers={"X-Number": 5}))},  # type: ignore[dict-item]
            lambda client: client.ping(),
            "call(…) has a wrong argument",
        ),
    ],
)
def test_a_wrong_operation_names_its_mistake(
    url: str, world: str, methods: dict[str, Any], operation: Callable[[Any], Any], message: str
) -> None:
    assert message in refused(world, quay(**methods), operation, base_uri=url)


def test_a_flow_that_blocks_on_an_exhausted_iterator(url: str, world: str) -> None:
    """asyncio would wait for ever for a thread that raised StopIteration."""

    def ping(self: RegistryDriver) -> Flow[None]:
        yield from blocking(next, iter([]))

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        use(world, quay(ping=ping), base_uri=url)


def test_the_secrets_of_a_connection_are_left_out_of_exceptions(url: str, world: str) -> None:
    class VaultAuth(AuthDriver):
        class Settings(AuthDriver.Settings):
            token: SecretStr

        settings: Settings

        def auth_flow(self, request: httpx.Request) -> Generator[Any, Any, None]:
            raise LookupError(f"no role for {self.settings.token.get_secret_value()}")
            yield request

    auth = {"driver": "wrong", "token": "hunter2-s3cret"}
    text = refused(world, Drivers(auth=VaultAuth), base_uri=url, auth=auth)
    assert "VaultAuth: LookupError: no role for ... (in auth_flow)" in text
    assert "hunter2" not in text


def test_an_exception_of_a_flow_passes(url: str, world: str) -> None:
    """A flow may have files to open, or arguments to refuse, so its own exceptions pass."""

    def ping(self: RegistryDriver) -> Flow[None]:
        yield from blocking(open, "/not/there")

    with pytest.raises(FileNotFoundError):
        use(world, quay(ping=ping), base_uri=url)


def test_a_blob_that_was_not_streamed(url: str, world: str) -> None:
    def open_blob(self: RegistryDriver, *_: Any, offset: int) -> Flow[Any]:
        return (yield from call("GET", "a/b/blobs/x"))

    digest = "sha256:" + "0" * 64

    def read(client: Any) -> Any:
        if world == "sync":
            with client.open_blob("a/b", digest) as blob:
                return blob.read()

        async def read_blob() -> Any:
            async with client.open_blob("a/b", digest) as blob:
                return await blob.read()

        return read_blob()

    text = refused(world, quay(open_blob=open_blob), read, base_uri=url)
    assert "QuayDriver.open_blob returned a Reply whose body was read" in text


# -- classes and their other methods -----------------------------------------------------------


class NoModel:
    base_uri = "x"


class Fails(BaseModel):
    base_uri: str
    key: SecretStr = SecretStr("")

    @field_validator("key")
    @classmethod
    def check(cls, value: SecretStr) -> SecretStr:
        raise LookupError(value.get_secret_value())


def needs_two(self: RegistryDriver, settings: Any, other: Any) -> None: ...


def needs_none(self: RegistryDriver) -> None: ...


async def async_transport(settings: Any) -> None: ...


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"Settings": NoModel}, "QuayDriver.Settings has to be a subclass of pydantic.BaseModel"),
        ({"Settings": None}, "QuayDriver.Settings has to be a subclass of pydantic.BaseModel"),
        ({"__init__": needs_two}, "has to accept the settings"),
        ({"__init__": needs_none}, "has to accept the settings"),
        ({"__init__": fails}, "registry driver 'wrong': LookupError: no keyring"),
        ({"client": None, "async_client": None}, "client is missing; set it to"),
        ({"client": "Client", "async_client": 5}, "client is a"),
        ({"client": AsyncClient, "async_client": Client}, "or a subclass of it"),
        ({"base_uri": classmethod(lambda *_: None)}, "QuayDriver.base_uri returned None, not a"),
        ({"base_uri": lambda self, settings: "http://r"}, "QuayDriver.base_uri: TypeError: "),
        ({"base_uri": classmethod(fails)}, "QuayDriver.base_uri: LookupError: no keyring"),
        ({"transport": classmethod(fails)}, "QuayDriver.transport: LookupError: no keyring"),
        ({"transport": staticmethod(lambda _: "x")}, "QuayDriver.transport returned a str; it ha"),
        ({"transport": staticmethod(lambda _: httpx.Client)}, "transport returned the class Clien"),
        ({"transport": staticmethod(lambda _: 0)}, "QuayDriver.transport returned an int; it ha"),
        ({"transport": staticmethod(async_transport)}, "transport returned a coroutine (`async"),
    ],
)
def test_a_wrong_registry_driver_names_its_mistake(
    world: str, members: dict[str, Any], message: str
) -> None:
    text = refused(world, quay(**members))
    assert message in text
    assert "QuayDriver" in text or "'wrong'" in text


def test_a_driver_that_is_no_registry_driver(world: str) -> None:
    assert "is not a subclass of RegistryDriver" in refused(world, Drivers(registry=AuthDriver))
    assert "is not a subclass of AuthDriver" in refused(world, Drivers(auth=httpx.BasicAuth))


def test_a_transport_for_the_other_world(world: str) -> None:
    class Sync(httpx.BaseTransport):
        pass

    class Async(httpx.AsyncBaseTransport):
        pass

    other = Async if world == "sync" else Sync
    text = refused(world, quay(transport=staticmethod(lambda _: other())))
    base = "BaseTransport" if world == "sync" else "AsyncBaseTransport"
    assert f"it has to return an httpx.{base} for this client" in text


def test_a_transport_that_returns_no_response(world: str) -> None:
    class Transport(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def handle_request(self, request: httpx.Request) -> Any:
            return None

        async def handle_async_request(self, request: httpx.Request) -> Any:
            return {}

    def ping(self: RegistryDriver) -> Flow[None]:
        yield from call("GET", "")

    text = refused(world, quay(ping=ping, transport=staticmethod(lambda _: Transport())))
    assert "the transport returned" in text
    assert "not an httpx.Response" in text


def test_a_client_with_another_constructor(world: str) -> None:
    class Other(Client):
        def __init__(self) -> None: ...

    class AsyncOther(AsyncClient):
        def __init__(self) -> None: ...

    text = refused(world, quay(client=Other, async_client=AsyncOther))
    assert "Other.__init__ has to accept driver, runner and name" in text


def test_a_validator_that_raises_shows_no_value(world: str) -> None:
    text = refused(world, quay(Settings=Fails), key="hunter2")
    assert "QuayDriver.Settings raised LookupError" in text
    assert "hunter2" not in text


def test_a_validator_that_raises_value_error_is_a_config_error(world: str) -> None:
    class Settings(BaseModel):
        base_uri: str
        key: str

        @field_validator("key")
        @classmethod
        def check(cls, value: str) -> str:
            raise ValueError("too short")

    with pytest.raises(ConfigError, match="connection 'main': key: too short"):
        use(world, quay(Settings=Settings), key="x")
