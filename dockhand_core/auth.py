"""How a connection proves who it is: the base of auth drivers."""

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
    """Puts credentials on requests. One object serves one connection, sync or async.

    A driver is a package's class; the connection's `auth` table is checked against its
    `Settings` and handed to it. It writes `auth_flow`, as for httpx, once for both worlds::

        class VaultAuth(AuthDriver):
            class Settings(AuthDriver.Settings):
                role: str
                token: SecretStr

            def __init__(self, settings: Settings) -> None:
                self.settings = settings

            def auth_flow(self, request):
                reply = yield from self.fetch("POST", URL, json={"role": self.settings.role})
                request.headers["Authorization"] = f"Bearer {reply.json()['token']}"
                response = yield request        # its body has not been read

    What a step fails with (`fetch`, `blocking`, `cached_token`) is raised where it was asked for.

    It is called from several threads or tasks at once. It sees only requests to the
    connection's own origin: a redirect, an upload `Location` or a `Link` that leads elsewhere is
    followed without it. A response that is not the last is closed unread.
    """

    class Settings(BaseModel):
        """What stands in the connection's `auth` table, beside `driver`."""

        model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
        """Add what the request needs, and yield it; yield again to send it again."""
        yield request

    def close(self) -> Awaitable[None] | None:
        """Release resources of the driver's own; called when the client is closed or reset.

        For the async client it may be a coroutine function.
        """
        return None

    def scopes(self, request: Request) -> tuple[Scope, ...]:
        """What the request is about to do, in the registry's own terms."""
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
        """Ask somebody else, such as a token endpoint.

        The answer is read, 8 MiB at most, in the connection's timeout; redirects are not
        followed. None of the connection's own headers are sent.

        Args:
            method: the HTTP method.
            url: a whole URL.
            headers: what to send; the caller adds credentials itself.
            params: the query.
            data: a form.
            json: a JSON body.

        Raises:
            ConnectionFailed: no whole answer arrived.
            ResponseTooLarge: the answer is over 8 MiB.
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
        """Call a function that blocks; the async client gives it a thread."""
        result: T = yield Blocking(lambda: function(*args))
        return result

    def cached_token(
        self, key: Hashable, obtain: Obtain, *, refused: str | None = None
    ) -> Generator[Any, Any, str]:
        """A token, kept until shortly before it expires. For each key, one at a time asks for it.

        Args:
            key: what the token is for: issuer or realm, service, scopes, identity.
            obtain: makes a generator of steps like those of `auth_flow`; it returns the token,
                and for how many seconds from now it is good. What it raises is raised for all who
                wait for that token.
            refused: a token that the registry did not take; another one is given.
        """
        name = f"_tokens_{os.getpid()}"  # in a fork, those who would end a refresh are missing
        cache: TokenCache = self.__dict__.get(name) or self.__dict__.setdefault(name, TokenCache())
        return (yield from cache.get(key, obtain, refused=refused))


class NullAuth(AuthDriver):
    """Sends nothing: driver `null`."""
