"""Transports that send requests with httpx.

Each request uses a transport of httpx by itself until its reply is closed, see the module `slots`.
Errors of h11 and ssl become httpx errors.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import httpcore
import httpx

from dockhand_core.http.addresses import AddressRule, refusals
from dockhand_core.http.transports.options import KEEPALIVE_SECONDS
from dockhand_core.http.transports.pooled import (
    Backend,
    PooledTransport,
    as_httpx_errors,
    checked_addresses,
)
from dockhand_core.http.transports.routes import Route, Routes
from dockhand_core.http.transports.slots import (
    AsyncSlots,
    Holder,
    KeptConnections,
    OpenReply,
)
from dockhand_core.lazy import asyncio

__all__ = ["AsyncHttpxTransport", "HttpxTransport"]


def _pool_options(route: Route, plain: ssl.SSLContext) -> dict[str, Any]:
    """The arguments of a pool that one request at a time uses, so it needs no limit."""
    options: dict[str, Any] = {
        "ssl_context": route.context,
        "max_connections": None,
        "max_keepalive_connections": 1,
        "keepalive_expiry": KEEPALIVE_SECONDS,
    }
    if route.proxy is not None:
        url = route.proxy.url
        options["proxy"] = httpcore.Proxy(
            httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            auth=route.proxy.raw_auth,
            headers=route.proxy.headers.raw,
            ssl_context=plain if url.scheme == "https" else None,
        )
    return options


# --- sync ----------------------------------------------------------------------------------------


class _Connection(httpx.HTTPTransport):
    """A transport of httpx with one connection, for one request at a time.

    httpx has no argument for the network backend, so its pool is replaced. The tools that record
    and replay requests, such as vcrpy, know the classes of httpx.
    """

    def __init__(self, route: Route, plain: ssl.SSLContext) -> None:
        super().__init__(verify=route.context)
        self._pool = httpcore.ConnectionPool(
            network_backend=Backend(route.rule), **_pool_options(route, plain)
        )


class HttpxTransport(PooledTransport[_Connection]):
    """A transport for threads; every failure raises an `httpx.TransportError`.

    Args:
        routes: chooses the route of each request.
        limit: maximum number of requests in progress, and of connections that are open.
    """

    def __init__(self, routes: Routes, limit: int) -> None:
        super().__init__(routes, limit, lambda route: _Connection(route, routes.plain))


# --- async ---------------------------------------------------------------------------------------


class _AsyncBackend(httpcore.AnyIOBackend):
    """Connects to the addresses that the rule allows; without a rule, to all."""

    def __init__(self, rule: AddressRule | None) -> None:
        self._rule = rule

    async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        try:
            if self._rule is None:
                return await super().connect_tcp(host, port, *args, **options)
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that is too long
            raise httpcore.ConnectError(str(error)) from error
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in checked_addresses(self._rule, host, found):
            try:
                return await super().connect_tcp(address, port, *args, **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


class _AsyncConnection(httpx.AsyncHTTPTransport):
    """A transport of httpx with one connection; see `_Connection`."""

    def __init__(self, route: Route, plain: ssl.SSLContext) -> None:
        super().__init__(verify=route.context)
        self._pool = httpcore.AsyncConnectionPool(
            network_backend=_AsyncBackend(route.rule), **_pool_options(route, plain)
        )


class AsyncHttpxTransport(httpx.AsyncBaseTransport):
    """A transport for tasks; see `HttpxTransport`."""

    def __init__(self, routes: Routes, limit: int) -> None:
        self._routes = routes
        self._slots = AsyncSlots(limit)
        self._kept: KeptConnections[_AsyncConnection] = KeptConnections(limit)
        self._abandoned: deque[Callable[[], Awaitable[None]]] = deque()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with the body unread."""
        route = self._routes.choose(request)
        while self._abandoned:
            await self._abandoned.popleft()()
        holder = await self._slots.take(request.extensions.get("timeout", {}).get("pool"))
        connection: _AsyncConnection | None = None
        try:
            connection, closing = self._kept.take(route)
            if connection is None:
                connection = _AsyncConnection(route, self._routes.plain)
                self._kept.use(connection)
            for each in closing:
                await _aclose(each)
            with self._slots.working(), as_httpx_errors(), refusals(route.rule):
                response = await connection.handle_async_request(request)
        except BaseException:
            await self._drop(connection, holder)
            raise
        stream = cast("httpx.AsyncByteStream", response.stream)
        response.stream = _AsyncReplyBody(
            stream,
            self._slots,
            lambda: self._give_back(connection, route, holder),
            lambda: self._abandoned.append(lambda: self._drop(connection, holder)),
        )
        return response

    async def _drop(self, connection: _AsyncConnection | None, holder: Holder) -> None:
        try:
            if connection is not None:
                self._kept.drop(connection)
                await _aclose(connection)
        finally:
            self._slots.release(holder)

    async def _give_back(self, connection: _AsyncConnection, route: Route, holder: Holder) -> None:
        try:
            if not self._kept.keep(connection, route):  # the transport was closed meanwhile
                await _aclose(connection)
        finally:
            self._slots.release(holder)

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        for each in self._kept.drop_all():
            await _aclose(each)


async def _aclose(connection: _AsyncConnection) -> None:
    with suppress(OSError, ssl.SSLError, httpcore.NetworkError):  # closed already, or broken
        await connection.aclose()


class _AsyncReplyBody(OpenReply, httpx.AsyncByteStream):
    """A reply's body that gives its connection back when it is closed for the first time."""

    def __init__(
        self,
        stream: httpx.AsyncByteStream,
        slots: AsyncSlots,
        give_back: Callable[[], Any],
        abandon: Callable[[], None],
    ) -> None:
        super().__init__(abandon)
        self._stream, self._slots, self._give_back = stream, slots, give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with as_httpx_errors():
            blocks = aiter(cast("AsyncIterable[bytes]", self._stream))
            while True:
                with self._slots.working():
                    block = await anext(blocks, None)
                if block is None:
                    return
                yield block

    async def aclose(self) -> None:
        if self._close_first():
            try:
                with as_httpx_errors():
                    await self._stream.aclose()
            finally:
                await self._give_back()
