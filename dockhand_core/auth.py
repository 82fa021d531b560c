"""Auth drivers: the base class, and the driver `null`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Hashable, Mapping
from typing import Any, TypeVar

import httpx
from httpx import Request, Response
from pydantic import BaseModel, ConfigDict

from dockhand_core.flow import Blocking
from dockhand_core.scope import Scope
from dockhand_core.tokens import Obtain, TokenCache

__all__ = ["AuthDriver", "NullAuth", "Request", "Response"]

T = TypeVar("T")
SCOPES = "dockhand.scopes"
FETCH = "dockhand.fetch"


class AuthDriver(httpx.Auth):
    """The base class of auth drivers, which add credentials to requests.

    One object serves one connection, sync or async. The connection's `auth` table is checked
    against the driver's `Settings` and passed to its constructor. A subclass writes `auth_flow`,
    as for httpx, once for both sync and async::

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

    If a step (`fetch`, `blocking`, `cached_token`) fails, its exception is raised at that
    `yield from`.

    `auth_flow` is called from several threads or tasks at once. It sees only requests to the
    connection's own origin: a redirect, an upload `Location` or a `Link` that leads to another
    origin is followed without credentials. Each response except the last is closed unread.
    """

    class Settings(BaseModel):
        """The keys of the connection's `auth` table, except `driver`; subclasses add theirs."""

        model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
        """Add credentials to the request and yield it; yield it again to send it again."""
        yield request

    def close(self) -> Awaitable[None] | None:
        """Release resources of the driver's own; called when the client is closed or reset.

        For the async client it may be a coroutine function.
        """
        return None

    def scopes(self, request: Request) -> tuple[Scope, ...]:
        """The scopes that the request needs, in the registry's terms."""
        found: tuple[Scope, ...] = request.extensions.get(SCOPES, ())
        return found

    def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | list[tuple[str, str]] | None = None,
        data: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> Generator[Any, Any, Response]:
        """Send a request of the driver's own, such as one to a token endpoint.

        The response's body is read, at most 8 MiB, within the connection's timeout. Redirects are
        not followed. The connection's own headers are not sent.

        Args:
            method: HTTP method.
            url: absolute URL.
            headers: headers to send; the caller adds credentials itself.
            params: query of the URL.
            data: form to send.
            json: JSON body to send.

        Returns:
            The response, of any status, with its body read.

        Raises:
            ConnectionFailed: no complete response arrived.
            ResponseTooLarge: the response's body exceeds 8 MiB.
        """
        request = Request(
            method,
            url,
            headers={"Accept-Encoding": "identity", **(headers or {})},
            params=params,  # type: ignore[arg-type]  # httpx names its invariant list type only
            data=data,
            json=json,
            extensions={FETCH: True},
        )
        response: Response = yield request
        return response

    def blocking(self, function: Callable[..., T], *args: Any) -> Generator[Any, Any, T]:
        """Call a function that blocks; the async client runs it in a thread."""
        result: T = yield Blocking(lambda: function(*args))
        return result

    def cached_token(
        self, key: Hashable, obtain: Obtain, *, refused: str | None = None
    ) -> Generator[Any, Any, str]:
        """The cached token for a key, or a new one.

        A token is cached until shortly before it expires. For each key, only one caller at a time
        obtains a token; the others wait for it.

        Args:
            key: identifies the token: issuer or realm, service, scopes, identity.
            obtain: makes a generator of steps like those of `auth_flow`, which returns the token
                and its lifetime in seconds from now. An exception from it is raised for all
                callers that wait for the token.
            refused: a token that the registry refused; it is not returned again.
        """
        # A cache per process: after a fork, the threads that would finish a refresh are missing.
        name = f"_tokens_{os.getpid()}"
        cache: TokenCache = self.__dict__.get(name) or self.__dict__.setdefault(name, TokenCache())
        return (yield from cache.get(key, obtain, refused=refused))


class NullAuth(AuthDriver):
    """The driver `null`, which adds no credentials."""
