"""Wrong auth drivers: a `PluginError` names the method and the broken rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from wrong_drivers import Drivers, refused, use

from dockhand_core import (
    AuthDriver,
    ConnectionFailed,
)
from dockhand_core.flow import call

pytestmark = [
    pytest.mark.usefixtures("clean"),
    pytest.mark.filterwarnings("error"),  # such as a coroutine that was never awaited
    pytest.mark.parametrize("world", ["sync", "async"]),
]

Steps = Generator[Any, Any, None]
Serve = Callable[[Callable[..., Any]], str]


def auth_driver(auth_flow: Any) -> Drivers:
    return Drivers(auth=type("VaultAuth", (AuthDriver,), {"auth_flow": auth_flow}))


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
        (yields_none, "yields_none (test_wrong_auth_drivers.py, line"),
        (yields_none, "auth_flow yielded None. It may yield the request"),
        (yields_deep_inside, "yields_none (test_wrong_auth_drivers.py, line"),
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
        (sends_a_line_break, "printed by a program, and refuse such a token of a server as malf"),
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
