"""Auth drivers: the base class, and the driver `null`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from httpx import Request, Response
from pydantic import BaseModel, ConfigDict

from dockhand_core.errors import PluginError
from dockhand_core.flow import Blocking
from dockhand_core.flow.checks import caller, check_blocking, needs_yield_from
from dockhand_core.http.addresses import ADDRESSES, AddressRule
from dockhand_core.http.urls import redacted_url
from dockhand_core.scope import Scope
from dockhand_core.tokens import Obtain, TokenCache

if TYPE_CHECKING:
    from dockhand_core.http.secrets import Secrets

__all__ = ["AuthDriver", "NullAuth", "Request", "Response"]

T = TypeVar("T")
SCOPES = "dockhand.scopes"
FETCH = "dockhand.fetch"
_CACHE_ATTRIBUTE = "_tokens_"  # the start of the attribute's name; the process id follows

# The secrets of the connection whose auth driver is being made.
_known: ContextVar[Secrets | None] = ContextVar("_known", default=None)


@contextmanager
def knowing(secrets: Secrets) -> Iterator[None]:
    """Let the auth drivers that are made in the `with` block add to a connection's secrets."""
    before = _known.set(secrets)
    try:
        yield
    finally:
        _known.reset(before)


class AuthDriver(httpx.Auth):
    """The base class of auth drivers, which add credentials to requests.

    One object serves one connection, sync or async. The connection's `auth` table is checked
    against the class's `Settings` and passed to the constructor. A subclass implements `auth_flow`,
    the generator method of `httpx.Auth`, once for both the sync and the async client::

        class VaultAuth(AuthDriver):
            class Settings(AuthDriver.Settings):
                role: str
                token: SecretStr

            def __init__(self, settings: Settings) -> None:
                self.settings = settings

            def auth_flow(self, request):
                reply = yield from self.fetch("POST", URL, json={"role": self.settings.role})
                request.headers["Authorization"] = f"Bearer {reply.json()['token']}"
                response = yield request        # the response's body has not been read

    If a step (`fetch`, `blocking`, `cached_token`) fails, the exception is raised at its
    `yield from`: a `ConnectionFailed`, `Timeout` or `ResponseTooLarge` of `fetch`, or the exception
    of the function.

    A driver raises subclasses of `DockhandError`, which reach the caller unchanged: `Unauthorized`
    or `Denied` if the credentials are refused, `ConfigError` if a setting is wrong, or a class of
    its own. Its `Settings` refuse a value with `ValueError`.

    `auth_flow` is a generator, also in a driver for async clients, and `fetch`, `blocking` and
    `cached_token` stand after `yield from`. It may send a request again up to five times. If it
    breaks one of these rules, or raises an exception that is not a `DockhandError`, the operation
    raises `PluginError`.

    The constructor keeps the settings as `self.settings`, and does nothing else. A subclass without
    a constructor has them there, and one with its own need not call `super().__init__`.

    `auth_flow` may run in several threads or tasks at the same time. It is called only for requests
    to the connection's own origin: a redirect, an upload `Location` or a `Link` that leads to
    another origin is followed without credentials. If `auth_flow` yields several requests to the
    registry, all responses except the last are closed unread.
    """

    class Settings(BaseModel):
        """The keys of the connection's `auth` table, except `driver`.

        A subclass declares the keys of its driver.
        """

        model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    _secrets: Secrets | None = None

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Note the connection's secrets, before the constructor of a subclass runs."""
        made = super().__new__(cls)
        made._secrets = _known.get()
        return made

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
        """Add credentials to a request, and yield it, which sends it.

        A driver may yield the request again, for example with a new token after a 401.
        """
        yield request

    def close(self) -> Generator[Any, Any, None] | Awaitable[None] | None:
        """Release the driver's resources; called when the client is closed or reset.

        By default it drops the cached tokens. The driver is not used afterwards: the next request
        of the connection gets a new one, so a method that overrides it need not drop them.

        It may be a generator function, as `auth_flow` is, with `yield from self.fetch(…)` and
        `yield from self.blocking(…)`. So it can end a session at the server, in sync and async
        clients. It runs before the connection's sockets are closed, with the connection's
        `verify`, `proxy` and `timeout`; a request is sent once, also after a 429::

            def close(self):
                if self.session is not None:
                    yield from self.fetch("DELETE", f"{URL}/sessions/{self.session}")

        It may also be a plain function, which an async client calls in a thread, or a coroutine
        function, which a sync client refuses with `PluginError`. A driver cannot know the kind of
        its client, and need not: a generator function and a plain function serve both.

        An exception reaches the caller of the client's `close` or `reset` as a `PluginError`, after
        everything else was closed.
        """
        for name in [name for name in vars(self) if name.startswith(_CACHE_ATTRIBUTE)]:
            delattr(self, name)
        return None

    def hide_secret(self, secret: str) -> str:
        """Remove a secret from the connection's errors and log lines from now on, and return it.

        Call it for each secret that a driver gets elsewhere, such as from a program, a file or a
        library. The last 128 are kept. No call is needed for

        - `SecretStr` and `SecretBytes` in the settings,
        - tokens of `cached_token`,
        - values of headers and query that the driver adds to a request of the registry,
        - values of the headers of a request of `fetch`, except `Accept`, `Accept-Encoding`,
          `Content-Length`, `Content-Type`, `Host` and `User-Agent`,
        - texts in the query, the form and the JSON object that `fetch` sends, and in the JSON
          object that it receives, whose field has the name of a secret.

        The name of a secret contains `pass`, `secret`, `token`, `assertion`, `credential`,
        `signature`, `apikey` (or `api_key`, `api-key`) or `jwt`, or it is `session`, `session_id`
        (or `sessionId`, `session-id`), `sid` or `cookie`; in upper or lower case. Names that
        contain `token_type`, `token_uri` or `token_url`, and those that end in `type` or have
        `expires` in them, are none. Objects in a JSON object are searched, too; lists are not, nor
        are documents of more than 256 KiB. So call it for a reply that is not JSON, for the value
        of a field with another name, such as `key`, `code` or `pin`, and for a header of a reply,
        such as `Set-Cookie`.
        """
        if self._secrets is not None:
            self._secrets.keep(secret)
        return secret

    def scopes(self, request: Request) -> tuple[Scope, ...]:
        """Return the scopes that a token needs for the request, as the registry defines them.

        The tuple is empty if the request needs no permission, as that of `ping`. It has two scopes
        for a request that mounts a blob of another repository. `str(scope)` is `type:name:actions`,
        with the actions in the order `pull`, `push`, `delete`, others by name, `*`, so that equal
        scopes have equal texts. A token endpoint usually gets several scopes joined by spaces.
        """
        found: tuple[Scope, ...] = request.extensions.get(SCOPES, ())
        return found

    @needs_yield_from
    def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | list[tuple[str, str]] | None = None,
        data: Mapping[str, str] | None = None,
        json: Any = None,
        addresses: AddressRule | None = None,
    ) -> Generator[Any, Any, Response]:
        """Send a request of the auth driver itself, such as one to a token endpoint.

        The connection's `verify`, `client_cert`, `proxy` and `timeout` apply; its `headers` are not
        sent, and `retries` does not hold. Redirects are not followed: a 3xx is returned as it is.
        A 429 is repeated once after the pause that `Retry-After` asks for, and again as long as the
        server accepts other requests of the connection in between, within `rate_limit_timeout`;
        in `close` it is not repeated. No other status is: a 503 is returned at once.

        A failure that `auth_flow` does not catch ends the operation's attempt, and is retried as
        one of the registry would be, with `auth_flow` from its start: see `ConnectionFailed`.

        The log has a line of the level `debug` for each request: `auth` (the driver's name),
        `method`, `host`, `path`, `status` or `error`, and `milliseconds`.

        Args:
            method: HTTP method.
            url: absolute URL.
            headers: headers to send; no credentials are added to them.
            params: parameters to add to the URL's query.
            data: fields of a form to send as the body.
            json: value to send as a JSON body.
            addresses: rule for the IP addresses that the request may be sent to; None for any. Give
                one if the URL comes from the registry. If a proxy carries the request, the rule
                applies only to a URL with an IP address in place of a host name.

        Returns:
            The response, of any status, with its body read.

        Raises:
            ConnectionFailed: no complete response arrived; `Timeout` if none arrived in time.
            ResponseTooLarge: the response's body exceeds 8 MiB.
            DockhandError: the error of the rule, if it refuses an address.
        """
        if params:  # not httpx's `params=`, which would replace the query that the URL has
            query = httpx.QueryParams(params)  # type: ignore[arg-type]  # its list is invariant
            url = url.partition("#")[0]
            url += f"{'&' if '?' in url else '?'}{query}"
        request = Request(
            method,
            url,
            headers={"Accept-Encoding": "identity", **(headers or {})},
            data=data,
            json=json,
            extensions={FETCH: True, ADDRESSES: addresses},
        )
        if request.url.scheme not in ("http", "https") or not request.url.host:
            raise PluginError(
                f"{caller()}: fetch(…) needs an absolute http:// or https:// URL, not "
                f"{redacted_url(str(request.url))!r}"
            )
        response: Response = yield request
        return response

    @needs_yield_from
    def blocking(self, function: Callable[..., T], *args: Any) -> Generator[Any, Any, T]:
        """Call a function that blocks; the async client calls it in a thread.

        There is no time limit, so the function needs its own: the connection's timeout in seconds
        is `request.extensions["timeout"]["connect"]`. A thread cannot be stopped: if the task is
        cancelled meanwhile, the cancellation waits until the function returns.
        """
        check_blocking(function)
        result: T = yield Blocking(lambda: function(*args))
        return result

    @needs_yield_from
    def cached_token(
        self, key: Hashable, obtain: Obtain, *, refused: str | None = None
    ) -> Generator[Any, Any, str]:
        """Return a cached token, or obtain a new one.

        A token is cached until 30 seconds before it expires; if its lifetime is less than 120
        seconds, until a quarter of it is left. The lifetime counts from the call of `obtain`. A
        token whose lifetime is 0 or less is returned, but not used for a later request; one with
        the lifetime `math.inf` stays until it is refused. Of more than 1024 tokens, those that were
        not used for the longest time are dropped.

        For each cache key, only one caller at a time obtains a token, and the other callers wait
        for that token, whatever its lifetime is. `obtain` may call `cached_token` with another key,
        such as for a session that several tokens are obtained with. With its own key it would wait
        for itself, for ever.

        Args:
            key: cache key that identifies the token, such as a tuple of the token endpoint's URL,
                service, scopes and identity.
            obtain: function that returns a generator. The generator yields steps as `auth_flow`
                does, and returns the token and its lifetime in seconds. If it raises an exception,
                all callers that wait for the token get this exception.
            refused: token that the registry has refused; it is not returned from the cache again.
        """
        # One cache per process: a forked child has a copy of the parent's cache, but not the
        # threads that would finish the refreshes in it.
        name = f"{_CACHE_ATTRIBUTE}{os.getpid()}"
        cache: TokenCache = self.__dict__.get(name) or self.__dict__.setdefault(name, TokenCache())
        token = yield from cache.get(key, obtain, refused=refused)
        if self._secrets is not None:
            self._secrets.remember(token)
        return token


class NullAuth(AuthDriver):
    """The auth driver `null`, which adds no credentials."""
