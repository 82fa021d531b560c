"""The authentication of one request: runs an auth driver's `auth_flow`, and checks its steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from typing import Any

import httpx

from dockhand_core.auth import FETCH, AuthDriver
from dockhand_core.errors import DockhandError, PluginError
from dockhand_core.flow import Blocking, Discard, Until
from dockhand_core.flow.checks import (
    described,
    dispose,
    is_flow,
    position_of,
    yield_from_hint,
)
from dockhand_core.http.bodies import ReplyStream
from dockhand_core.http.urls import Origin, origin_of, redacted_url
from dockhand_core.plugin_failures import reason_of

__all__ = ["MAX_RESENDS", "authenticate", "close_steps"]

MAX_RESENDS = 5  # times that `auth_flow` may send one request again, so that it ends

# Parts of the texts of Python's exceptions, and the mistakes behind them
_HINTS = {
    # the class of a result that is used without `yield from`, as in "must be str, not YieldFrom"
    "YieldFrom": "write `yield from` before self.fetch(…) and self.blocking(…)",
    "object has no attribute 'encode'": "the value of a header has to be a str (of a SecretStr, "
    "get_secret_value())",
    "object has no attribute 'send'": "write `yield request`, not `yield from`",
    "generator raised StopIteration": "it has to end with `return`",
}
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_ATTRIBUTES: dict[str, type | tuple[type, ...]] = {
    "headers": httpx.Headers,
    "extensions": Mapping,
    "stream": (httpx.SyncByteStream, httpx.AsyncByteStream),
}

Steps = Generator[Any, Any, httpx.Response]


def authenticate(
    auth: AuthDriver,
    request: httpx.Request,
    *,
    origin: Origin,
    refusal_expected: bool,
    send: Callable[[httpx.Request], Steps],
    fetch: Callable[[httpx.Request], Steps],
) -> Steps:
    """Send a request with the credentials that an auth driver adds, and return the last response.

    The steps of `auth_flow` are the request itself, requests made with `fetch`, blocking calls,
    and waits.

    Args:
        auth: the auth driver.
        request: the request.
        origin: the only origin that `auth_flow` may send the request to.
        refusal_expected: whether a response with status 401 is a success for the caller; it is
            then returned if the driver cannot obtain credentials after it.
        send: sends a request to the registry.
        fetch: sends a request of the driver's own, and reads the response's body.

    Raises:
        PluginError: `auth_flow` raised an exception that is not a `DockhandError`, or breaks one of
            the rules for auth drivers; the message names the rule.
    """
    name = f"{type(auth).__qualname__}.auth_flow"
    flow = _start(name, auth, request)
    target = request.url
    response: httpx.Response | None = None
    resends = 0
    try:
        step = _resume(name, flow.send, None)
        while True:
            if not isinstance(step, httpx.Request | Blocking | Until):
                raise _wrong_step(flow, step)
            if isinstance(step, httpx.Request):
                _check_request(name, step)
            if not isinstance(step, httpx.Request) or step.extensions.get(FETCH):
                try:
                    if isinstance(step, httpx.Request):
                        answer = yield from fetch(step)
                    else:
                        answer = yield step
                except Exception as error:
                    step = _resume(name, flow.throw, error)
                    continue
            else:
                if step.url is not target and origin_of(str(step.url)) != origin:
                    raise PluginError(
                        f"{name} sent the request to another origin, "
                        f"{redacted_url(str(step.url))}: use fetch"
                    )
                if response is not None:
                    resends += 1
                    if resends > MAX_RESENDS:
                        raise PluginError(
                            f"{name} sent the request again more than {MAX_RESENDS} times; it has "
                            "to end, for example if a new token is refused too"
                        )
                    yield Discard(ReplyStream(response))
                step.extensions = {**request.extensions, **step.extensions}
                answer = response = yield from send(step)
            step = _resume(name, flow.send, answer)
    except StopIteration:
        if response is None:
            raise PluginError(
                f"{name} did not send the request; it has to `yield request` once"
            ) from None
        if response.is_stream_consumed:
            raise PluginError(
                f"{name} read the body of the registry's response, which the caller needs; a "
                "driver may use its status and headers only"
            ) from None
        return response
    except BaseException as error:
        no_credentials = isinstance(error, DockhandError) and not isinstance(error, PluginError)
        refused = response is not None and response.status_code == 401
        if response is not None and refused and refusal_expected and no_credentials:
            return response
        try:
            if response is not None:
                yield Discard(ReplyStream(response))
        finally:
            _close(name, flow, error)
        raise


def close_steps(
    name: str, steps: Generator[Any, Any, Any], fetch: Callable[[httpx.Request], Steps]
) -> Generator[Any, Any, None]:
    """Run the steps of an auth driver's `close`: requests made with `fetch`, and blocking calls.

    Args:
        name: name of the method, for messages.
        steps: the generator that the method returned.
        fetch: sends a request of the driver's own, and reads the response's body.

    Raises:
        PluginError: the method yielded another value, such as a request that `fetch` did not make.
        Exception: the method raised it.
    """
    try:
        step = steps.send(None)
        while True:
            own = isinstance(step, httpx.Request) and step.extensions.get(FETCH)
            if not own and not isinstance(step, Blocking | Until):
                where = position_of(steps)
                dispose(step)
                raise PluginError(
                    f"{where}: close yielded {described(step)}{yield_from_hint(step)}. It may use "
                    "`yield from self.fetch(…)` and `yield from self.blocking(…)` only"
                )
            try:
                if isinstance(step, httpx.Request):
                    _check_request(name, step)
                    answer = yield from fetch(step)
                else:
                    answer = yield step
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration:
        return
    finally:
        steps.close()


def _start(name: str, auth: AuthDriver, request: httpx.Request) -> Generator[Any, Any, Any]:
    _check_request("call(…)", request)  # a mistake of the registry driver is not the auth driver's
    try:
        flow: Any = auth.auth_flow(request)
    except DockhandError:
        raise
    except Exception as error:
        raise _failure(name, error) from error
    if not is_flow(flow):
        dispose(flow)
        raise PluginError(
            f"{name} returned {described(flow)}; it has to be a generator function, for sync and "
            "async clients: a plain `def` with `yield request`"
        )
    return flow  # type: ignore[no-any-return]  # `is_flow` was true


def _resume(name: str, resume: Callable[[Any], Any], answer: Any) -> Any:
    """Resume the auth driver and return its next step; convert exceptions to `PluginError`."""
    try:
        return resume(answer)
    except (StopIteration, DockhandError):
        raise
    except Exception as error:
        raise _failure(name, error) from error


def _failure(name: str, error: Exception) -> PluginError:
    text = f"{name.removesuffix('.auth_flow')}: {reason_of(error)} (in auth_flow)"
    for sign, hint in _HINTS.items():
        if sign in text:
            return PluginError(f"{text}; {hint}")
    return PluginError(text)


def _wrong_step(flow: Generator[Any, Any, Any], step: object) -> PluginError:
    where = position_of(flow)
    dispose(step)
    return PluginError(
        f"{where}: auth_flow yielded {described(step)}{yield_from_hint(step)}. It may yield the "
        "request; self.fetch(…), self.blocking(…) and self.cached_token(…) need `yield from`"
    )


def _check_request(name: str, request: httpx.Request) -> None:
    """Refuse a request that HTTP libraries would refuse, with the value, a secret, in the error."""
    method, url = getattr(request, "method", None), getattr(request, "url", None)
    if not isinstance(method, str) or not isinstance(url, httpx.URL | str):
        raise PluginError(f"{name} changed the request's method or URL to None, or to no string")
    if not _TOKEN.fullmatch(method.encode("utf-8", "replace")):
        raise PluginError(f"{name} gave the request a method that HTTP does not allow")
    for attribute, kinds in _ATTRIBUTES.items():
        value = getattr(request, attribute, None)
        if not isinstance(value, kinds):
            raise PluginError(
                f"{name} changed request.{attribute} to {described(value)}; it may change "
                "the values of request.headers only"
            )
    for key, value in request.headers.raw:
        if not _TOKEN.fullmatch(key):
            raise PluginError(
                f"{name} set a header whose name HTTP does not allow, {key.decode('latin-1')!a}"
            )
        if b"\n" in value or b"\r" in value or b"\0" in value:
            raise PluginError(
                f"{name} set the header {key.decode('ascii', 'replace')} to a value with a line "
                "break or NUL; strip the end of a secret that was read from a file or printed by a "
                "program, and refuse such a token of a server as malformed (ResponseInvalid)"
            )


def _close(name: str, flow: Generator[Any, Any, Any], error: BaseException) -> None:
    """Close a flow that did not end, because of an error."""
    try:
        flow.close()
    except Exception as failure:
        # A cancellation must stay one, and an error that names another mistake comes first.
        if isinstance(error, Exception) and not isinstance(error, PluginError):
            raise PluginError(
                f"{name} cannot be closed: {reason_of(failure)}; "
                "it must not yield or fail while it handles GeneratorExit"
            ) from error
