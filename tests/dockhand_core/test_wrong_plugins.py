"""Wrong auth, registry and log drivers: a `PluginError` names the method and the broken rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from typing import Any, ClassVar

import httpx
import pytest
from pydantic import BaseModel, SecretStr, field_validator

from dockhand_core import (
    AsyncDockhand,
    AsyncRegistryClient,
    AuthDriver,
    ConfigError,
    ConnectionFailed,
    Dockhand,
    PluginError,
    RegistryClient,
    RegistryDriver,
    hookimpl,
)
from dockhand_core.flow import Flow, blocking, call, parallel, pause
from dockhand_core.models import Page

pytestmark = [
    pytest.mark.usefixtures("clean"),
    pytest.mark.filterwarnings("error"),  # such as a coroutine that was never awaited
    pytest.mark.parametrize("world", ["sync", "async"]),
]

Steps = Generator[Any, Any, None]
Serve = Callable[[Callable[..., Any]], str]


class Drivers:
    """A plugin that provides drivers named `wrong`."""

    def __init__(self, *, auth: Any = None, registry: Any = None, log: Any = None) -> None:
        self.auth, self.registry, self.log = auth, registry, log

    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"wrong": self.auth} if self.auth else {}

    @hookimpl
    def dockhand_registry_drivers(self) -> dict[str, Any]:
        return {"wrong": self.registry} if self.registry else {}

    @hookimpl
    def dockhand_log_drivers(self) -> dict[str, Any]:
        return {"wrong": self.log} if self.log else {}


def use(
    world: str,
    drivers: Drivers,
    operation: Callable[[Any], Any] = lambda client: client.ping(),
    **table: Any,
) -> Any:
    """Make a connection that uses the drivers, and run an operation of its client."""
    table = {"base_uri": "http://127.0.0.1:1", "retries": 0, **table}
    if drivers.auth:
        table = {"auth": {"driver": "wrong"}, **table}
    if drivers.registry:
        table["driver"] = "wrong"
    if drivers.log:
        table["logging"] = {"driver": "wrong"}
    config = {"connections": {"main": table}}

    async def main() -> Any:
        async with AsyncDockhand(config) as dockhand:
            dockhand.plugins.register(drivers)
            found = operation(dockhand.connection())
            if hasattr(found, "__aiter__"):
                return [item async for item in found]
            return await found

    if world == "async":
        return asyncio.run(main())
    with Dockhand(config) as dockhand:
        dockhand.plugins.register(drivers)
        found = operation(dockhand.connection())
        return list(found) if hasattr(found, "__next__") else found


def refused(world: str, drivers: Drivers, *args: Any, **table: Any) -> str:
    with pytest.raises(PluginError) as caught:
        use(world, drivers, *args, **table)
    assert type(caught.value) is PluginError
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def url(serve: Serve) -> str:
    """The URL of a server that answers every request with 200."""
    return serve(lambda *_: (200, {}, b"{}"))


def auth_driver(auth_flow: Any) -> Drivers:
    return Drivers(auth=type("VaultAuth", (AuthDriver,), {"auth_flow": auth_flow}))


# -- auth drivers ------------------------------------------------------------------------------


def returns_nothing(self: AuthDriver, request: httpx.Request) -> None:
    request.headers["Authorization"] = "Vault x"


def returns_the_request(self: AuthDriver, request: httpx.Request) -> httpx.Request:
    return request


def returns_a_list(self: AuthDriver, request: httpx.Request) -> list[httpx.Request]:
    return [request]


async def is_a_coroutine(self: AuthDriver, request: httpx.Request) -> None:
    request.headers["Authorization"] = "Vault x"


async def is_an_async_generator(self: AuthDriver, request: httpx.Request) -> Any:
    yield request


def yields_none(self: AuthDriver, request: httpx.Request) -> Steps:
    yield None


def yields_a_fetch(self: AuthDriver, request: httpx.Request) -> Steps:
    yield self.fetch("GET", str(request.url))


def yields_a_blocking_call(self: AuthDriver, request: httpx.Request) -> Steps:
    yield self.blocking(str)


def yields_a_coroutine(self: AuthDriver, request: httpx.Request) -> Steps:
    yield asyncio.sleep(0)


def yields_a_call_of_a_flow(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from call("GET", "x/tags/list")


def yields_a_url(self: AuthDriver, request: httpx.Request) -> Steps:
    yield "http://vault"


def yields_deep_inside(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from yields_none(self, request)


def never_sends(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from self.blocking(str)


def sends_again_and_again(self: AuthDriver, request: httpx.Request) -> Steps:
    while True:
        yield request


def raises(self: AuthDriver, request: httpx.Request) -> Steps:
    raise LookupError("no\nkeyring")
    yield request


def raises_at_the_call(self: AuthDriver, request: httpx.Request) -> Steps:
    raise LookupError("no keyring")


def uses_a_step_in_a_header(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers["Authorization"] = self.blocking(str)  # type: ignore[assignment]
    yield request


def uses_a_step_in_an_f_string(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers["Authorization"] = f"Bearer {self.blocking(str)}"
    yield request


def uses_a_step_as_str(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers["Authorization"] = str(self.blocking(str))
    yield request


def uses_a_step_as_bytes(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers["Authorization"] = bytes(self.blocking(str)).decode()
    yield request


def adds_a_step(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers["Authorization"] = "Bearer " + self.blocking(str)  # type: ignore[operator]
    yield request


def uses_a_step_as_a_number(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers["X-Number"] = str(int(self.blocking(str)))  # type: ignore[call-overload]
    yield request


def uses_a_cached_token(self: AuthDriver, request: httpx.Request) -> Steps:
    token = self.cached_token("key", lambda: (yield from ()))  # type: ignore[arg-type, return-value]
    request.headers["Authorization"] = f"Bearer {token}"
    yield request


def uses_a_step_as_a_response(self: AuthDriver, request: httpx.Request) -> Steps:
    reply = self.fetch("GET", str(request.url))
    request.headers["Authorization"] = reply.json()["token"]  # type: ignore[attr-defined]
    yield request


def uses_a_step_in_a_form(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from self.fetch("POST", str(request.url), data={"secret": self.blocking(str)})  # type: ignore[dict-item]
    yield request


def blocks_on_a_result(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from self.blocking("".upper())  # type: ignore[arg-type]
    yield request


def blocks_on_a_coroutine(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from self.blocking(asyncio.sleep, 0)  # type: ignore[unused-coroutine]
    yield request


def sends_a_line_break(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers["Authorization"] = "Bearer hunter2\n"
    yield request


def fetches_with_a_line_break(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from self.fetch("GET", str(request.url), headers={"X-Vault": "hunter2\r\nX-Evil: 1"})
    yield request


def fetches_a_relative_url(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from self.fetch("GET", "/token?password=hunter2")
    yield request


def fetches_another_scheme(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from self.fetch("GET", "ftp://alice:hunter2@vault/token")
    yield request


def changes_the_method(self: AuthDriver, request: httpx.Request) -> Steps:
    request.method = None  # type: ignore[assignment]
    yield request


def changes_the_method_to_another(self: AuthDriver, request: httpx.Request) -> Steps:
    request.method = "GET hunter2"
    yield request


def deletes_the_headers(self: AuthDriver, request: httpx.Request) -> Steps:
    del request.headers
    yield request


def replaces_the_headers(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers = None  # type: ignore[assignment]
    yield request


def replaces_the_extensions(self: AuthDriver, request: httpx.Request) -> Steps:
    request.extensions = None  # type: ignore[assignment]
    yield request


def replaces_the_stream(self: AuthDriver, request: httpx.Request) -> Steps:
    request.stream = None  # type: ignore[assignment]
    yield request


def sets_a_header_to_none(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers["Authorization"] = None  # type: ignore[assignment]
    yield request


def sets_a_header_to_a_secret(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers["Authorization"] = SecretStr("hunter2")  # type: ignore[assignment]
    yield request


def sets_a_header_with_a_space(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers["X Vault"] = "hunter2"
    yield request


def sets_a_header_beyond_ascii(self: AuthDriver, request: httpx.Request) -> Steps:
    request.headers["X-Väult"] = "hunter2"
    yield request


def yields_from_a_list(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from [request]


def raises_stop_iteration(self: AuthDriver, request: httpx.Request) -> Steps:
    yield request
    raise StopIteration  # noqa: PLR1708


def blocks_on_an_exhausted_iterator(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from self.blocking(next, iter([]))
    yield request


def compares_a_step(self: AuthDriver, request: httpx.Request) -> Steps:
    if self.blocking(str) == "":  # type: ignore[comparison-overlap]
        request.headers["Authorization"] = "Vault x"
    yield request


def searches_a_step(self: AuthDriver, request: httpx.Request) -> Steps:
    if "x" in self.blocking(str):
        request.headers["Authorization"] = "Vault x"
    yield request


def obtains_no_generator(self: AuthDriver, request: httpx.Request) -> Steps:
    yield from self.cached_token("key", lambda: ("token", 60.0))  # type: ignore[arg-type, return-value]
    yield request


def obtains_a_token_alone(self: AuthDriver, request: httpx.Request) -> Steps:
    def obtain() -> Generator[Any, Any, Any]:
        yield from self.blocking(str)
        return "ab"

    yield from self.cached_token("key", obtain)
    yield request


def obtains_no_lifetime(self: AuthDriver, request: httpx.Request) -> Steps:
    def obtain() -> Generator[Any, Any, Any]:
        yield from self.blocking(str)
        return "token", None

    yield from self.cached_token("key", obtain)
    yield request


@pytest.mark.parametrize(
    ("auth_flow", "message"),
    [
        (returns_nothing, "VaultAuth.auth_flow returned None; it has to be a generator"),
        (returns_the_request, "VaultAuth.auth_flow returned a Request; it has to be a generator"),
        (returns_a_list, "VaultAuth.auth_flow returned a list; it has to be a generator"),
        (is_a_coroutine, "VaultAuth.auth_flow returned a coroutine (`async def`)"),
        (is_an_async_generator, "VaultAuth.auth_flow returned an async generator (`async def`)"),
        (yields_none, "yields_none (test_wrong_plugins.py, line"),
        (yields_none, "auth_flow yielded None. It may yield the request"),
        (yields_deep_inside, "yields_none (test_wrong_plugins.py, line"),
        (yields_a_fetch, "yielded fetch(…); write `yield from` instead of `yield`"),
        (yields_a_blocking_call, "yielded blocking(…); write `yield from` instead of `yield`"),
        (yields_a_coroutine, "auth_flow yielded a coroutine (`async def`)"),
        (yields_a_call_of_a_flow, "auth_flow yielded a Call"),
        (yields_a_url, "auth_flow yielded a str"),
        (never_sends, "VaultAuth.auth_flow did not send the request; it has to `yield request`"),
        (sends_again_and_again, "VaultAuth.auth_flow sent the request again more than 5 times"),
        (raises, "VaultAuth: LookupError: no keyring (in auth_flow)"),
        (raises_at_the_call, "VaultAuth: LookupError: no keyring (in auth_flow)"),
        (uses_a_step_in_a_header, "_header: blocking(…) is used without `yield from` before it"),
        (uses_a_step_as_a_number, "write `yield from` before self.fetch(…) and self.blocking(…)"),
        (uses_a_step_in_an_f_string, "_f_string: blocking(…) is used without `yield from` before"),
        (uses_a_step_as_str, "_as_str: blocking(…) is used without `yield from` before it"),
        (uses_a_step_as_bytes, "_as_bytes: blocking(…) is used without `yield from` before it"),
        (adds_a_step, "adds_a_step: blocking(…) is used without `yield from` before it"),
        (uses_a_cached_token, "cached_token(…) is used without `yield from` before it"),
        (uses_a_step_as_a_response, "fetch(…) is used without `yield from` before it"),
        (uses_a_step_in_a_form, "uses_a_step_in_a_form: blocking(…) is used without `yield from`"),
        (blocks_on_a_result, "blocks_on_a_result: blocking(…) was given a str"),
        (blocks_on_a_coroutine, "blocks_on_a_coroutine: blocking(…) was given an `async def`"),
        (
            sends_a_line_break,
            "VaultAuth.auth_flow set the header Authorization to a value with a li",
        ),
        (fetches_with_a_line_break, "VaultAuth.auth_flow set the header X-Vault to a value with a"),
        (fetches_a_relative_url, "needs an absolute http:// or https:// URL, not '/token?passwo"),
        (fetches_another_scheme, "needs an absolute http:// or https:// URL, not 'ftp://vault/to"),
        (changes_the_method, "VaultAuth.auth_flow changed the request's method or URL"),
        (changes_the_method_to_another, "gave the request a method that HTTP does not"),
        (deletes_the_headers, "VaultAuth.auth_flow changed request.headers to None; it may change"),
        (replaces_the_headers, "VaultAuth.auth_flow changed request.headers to None; it may chang"),
        (replaces_the_extensions, "VaultAuth.auth_flow changed request.extensions to None"),
        (replaces_the_stream, "VaultAuth.auth_flow changed request.stream to None"),
        (sets_a_header_to_none, "(in auth_flow); the value of a header has to be a str"),
        (sets_a_header_to_a_secret, "(in auth_flow); the value of a header has to be a str"),
        (sets_a_header_with_a_space, "set a header whose name HTTP does not allow, 'X Vault'"),
        (sets_a_header_beyond_ascii, "VaultAuth.auth_flow set a header whose name HTTP does not a"),
        (yields_from_a_list, "(in auth_flow); write `yield request`, not `yield from`"),
        (raises_stop_iteration, "(in auth_flow); it has to end with `return`"),
        (blocks_on_an_exhausted_iterator, "the function that blocking(…) called raised StopIterat"),
        (compares_a_step, "compares_a_step: blocking(…) is used without `yield from` before it"),
        (searches_a_step, "searches_a_step: blocking(…) is used without `yield from` before it"),
        (obtains_no_generator, "<lambda>, returned a tuple; it has to be a generator function"),
        (obtains_a_token_alone, "has to return a token and its lifetime in seconds, (str, float)"),
        (obtains_no_lifetime, "has to return a token and its lifetime in seconds, (str, float)"),
    ],
)
def test_a_wrong_auth_flow_names_its_mistake(
    url: str, world: str, auth_flow: Any, message: str
) -> None:
    text = refused(world, auth_driver(auth_flow), base_uri=url)
    assert message in text
    assert "hunter2" not in text


def test_the_body_of_a_response_is_for_the_caller(url: str, world: str) -> None:
    def auth_flow(self: AuthDriver, request: httpx.Request) -> Steps:
        response = yield request
        response.read()

    text = refused(world, auth_driver(auth_flow), base_uri=url)
    if world == "sync":
        assert "VaultAuth.auth_flow read the body of the registry's response" in text
    else:  # httpx itself refuses to read an async response
        assert text.startswith("VaultAuth: RuntimeError: ")


def test_a_request_may_be_sent_again_five_times(serve: Serve, world: str) -> None:
    tokens: list[str | None] = []

    def registry(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        tokens.append(headers.get("authorization"))
        return (200 if tokens[-1] == "5" else 401), {}, b"{}"

    def auth_flow(self: AuthDriver, request: httpx.Request) -> Steps:
        for number in range(6):
            request.headers["Authorization"] = str(number)
            response = yield request
            if response.status_code == 200:
                return

    use(world, auth_driver(auth_flow), base_uri=serve(registry))
    assert tokens == ["0", "1", "2", "3", "4", "5"]


def test_an_auth_flow_that_swallows_generator_exit(world: str) -> None:
    """The connection fails, so that the flow has to be closed."""

    def auth_flow(self: AuthDriver, request: httpx.Request) -> Steps:
        try:
            yield request
        except GeneratorExit:
            yield request

    text = refused(world, auth_driver(auth_flow))
    assert "VaultAuth.auth_flow cannot be closed: RuntimeError: generator ignored Generato" in text


def test_a_failure_of_the_connection_stays_one(world: str) -> None:
    def auth_flow(self: AuthDriver, request: httpx.Request) -> Steps:
        yield request

    with pytest.raises(ConnectionFailed):
        use(world, auth_driver(auth_flow))


def test_an_auth_flow_of_httpx_that_is_never_called(url: str, world: str) -> None:
    async def async_auth_flow(self: AuthDriver, request: httpx.Request) -> Any:
        yield request

    driver = type("VaultAuth", (AuthDriver,), {"async_auth_flow": async_auth_flow})
    assert "VaultAuth.async_auth_flow is never called" in refused(
        world, Drivers(auth=driver), base_uri=url
    )


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
            "operation (test_wrong_plugins.py, line",
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
            "flow_that_yields.<locals>.operation (test_wrong_plugins.py, line",
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

        def auth_flow(self, request: httpx.Request) -> Steps:
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


# -- log drivers -------------------------------------------------------------------------------


class WithoutMethods:
    def bind(self, **values: Any) -> object:
        return object()


class BindsNothing:
    def bind(self, **values: Any) -> None: ...


async def async_logger(settings: Any, connection: str) -> None: ...


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda *_: None, "it returned None, which has no method bind"),
        (lambda *_: object(), "it returned an object, which has no method bind"),
        (lambda *_: WithoutMethods(), "whose bind() gives an object, without info"),
        (lambda *_: BindsNothing(), "whose bind() gives None, without info"),
        (async_logger, "it returned a coroutine (`async def`), which has no method bind"),
        (lambda settings: None, "has to accept the settings and the connection's name"),
        (lambda *_: 1 / 0, "log driver 'wrong': ZeroDivisionError"),
    ],
)
def test_a_wrong_log_driver_names_its_mistake(
    url: str, world: str, make: Any, message: str
) -> None:
    text = refused(world, Drivers(log=make), base_uri=url)
    assert text.startswith("connection 'main': log driver 'wrong': ")
    assert message in text


class FailingLogger:
    calls: ClassVar[int] = 0

    def __init__(self, world: str) -> None:
        self._world = world

    def bind(self, **values: Any) -> FailingLogger:
        return self

    def info(self, *_: Any, **values: Any) -> None:
        FailingLogger.calls += 1
        raise OSError(f"the {self._world} disk is full")

    warning = info


def test_a_logger_that_fails_does_not_fail_the_request(
    url: str, world: str, capsys: pytest.CaptureFixture[str]
) -> None:
    FailingLogger.calls = 0
    use(world, Drivers(log=lambda *_: FailingLogger(world)), base_uri=url)
    assert FailingLogger.calls == 1
    assert f"FailingLogger: OSError: the {world} disk is full" in capsys.readouterr().err
