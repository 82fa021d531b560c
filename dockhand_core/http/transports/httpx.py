"""Transports that send requests with httpcore, the library below httpx.

Each request uses a connection of its own until its reply is closed, see the module `slots`. Errors
of httpcore, h11 and ssl become httpx errors.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import h11
import httpcore
import httpx

from dockhand_core.http.addresses import AddressRule, parse_address, refusals
from dockhand_core.http.transports.options import KEEPALIVE_SECONDS
from dockhand_core.http.transports.routes import Route, Routes
from dockhand_core.http.transports.slots import AsyncSlots, Kept, Slots

__all__ = ["AsyncHttpxTransport", "HttpxTransport"]


@contextmanager
def _as_httpx_errors() -> Iterator[None]:
    """Convert errors of httpcore, and those of h11 and ssl that it lets through, to httpx errors.

    Most exceptions of httpcore have the name of the httpx exception that they become.
    """
    try:
        yield
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error
    except ssl.SSLError as error:
        raise httpx.ReadError(str(error)) from error
    except Exception as error:
        for kind in type(error).__mro__:
            mapped = getattr(httpx, kind.__name__, None)
            if kind.__module__.startswith("httpcore") and mapped is not None:
                raise mapped(str(error) or type(error).__name__) from error
        raise


def _as_httpcore(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        request.method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=cast("Any", request.stream),
        extensions=request.extensions,
    )


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


class _Backend(httpcore.SyncBackend):
    """Connects to the addresses that the rule allows; without a rule, to all."""

    def __init__(self, rule: AddressRule | None) -> None:
        self._rule = rule

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        try:
            if self._rule is None:
                return super().connect_tcp(host, port, *args, **options)
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that is too long
            raise httpcore.ConnectError(str(error)) from error
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in _checked(self._rule, host, found):
            try:
                return super().connect_tcp(address, port, *args, **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


def _checked(rule: AddressRule, host: str, found: Iterable[Any]) -> list[str]:
    """The addresses in the result of `getaddrinfo`, all of which the rule allows."""
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    rule.check(host, [parse_address(each) for each in addresses])
    return addresses


class HttpxTransport(httpx.BaseTransport):
    """A transport for threads; every failure raises an `httpx.TransportError`.

    Args:
        routes: chooses the route of each request.
        limit: maximum number of requests in progress, and of connections that are open.
    """

    def __init__(self, routes: Routes, limit: int) -> None:
        self._routes = routes
        self._slots = Slots(limit)
        self._kept: Kept[httpcore.ConnectionPool] = Kept(limit)
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with the body unread."""
        route = self._routes.choose(request)
        self._slots.take(request.extensions.get("timeout", {}).get("pool"))
        pool: httpcore.ConnectionPool | None = None
        try:
            pool = self._take(route)
            with self._slots.working(), _as_httpx_errors(), refusals(route.rule):
                response = pool.handle_request(_as_httpcore(request))
        except BaseException:
            try:
                if pool is not None:
                    with self._lock:
                        self._kept.drop(pool)
                    _close_pool(pool)
            finally:
                self._slots.release()
            raise
        stream = cast("httpx.SyncByteStream", response.stream)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_ReplyBody(stream, self._slots, lambda: self._give_back(pool, route)),
            extensions=response.extensions,
        )

    def _take(self, route: Route) -> httpcore.ConnectionPool:
        with self._lock:
            pool, closing = self._kept.take(route)
            if pool is None:
                pool = httpcore.ConnectionPool(
                    network_backend=_Backend(route.rule),
                    **_pool_options(route, self._routes.plain),
                )
                self._kept.use(pool)
        for each in closing:
            _close_pool(each)
        return pool

    def _give_back(self, pool: httpcore.ConnectionPool, route: Route) -> None:
        with self._lock:
            kept = self._kept.keep(pool, route)
        if not kept:  # the transport was closed meanwhile
            _close_pool(pool)
        self._slots.release()

    def close(self) -> None:
        """Close all connections, those in use too."""
        with self._lock:
            closing = self._kept.drop_all()
        for each in closing:
            _close_pool(each)


def _close_pool(pool: httpcore.ConnectionPool) -> None:
    with suppress(OSError, ssl.SSLError, httpcore.NetworkError):  # closed already, or broken
        pool.close()


class _ReplyBody(httpx.SyncByteStream):
    """A reply's body that gives its connection back when it is closed for the first time."""

    def __init__(
        self, stream: httpx.SyncByteStream, slots: Slots, give_back: Callable[[], None]
    ) -> None:
        self._stream, self._slots, self._give_back = stream, slots, give_back
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx_errors():
            blocks = iter(self._stream)
            while True:
                with self._slots.working():
                    block = next(blocks, None)
                if block is None:
                    return
                yield block

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                with _as_httpx_errors():
                    self._stream.close()
            finally:
                self._give_back()


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
        for address in _checked(self._rule, host, found):
            try:
                return await super().connect_tcp(address, port, *args, **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


class AsyncHttpxTransport(httpx.AsyncBaseTransport):
    """A transport for tasks; see `HttpxTransport`."""

    def __init__(self, routes: Routes, limit: int) -> None:
        self._routes = routes
        self._slots = AsyncSlots(limit)
        self._kept: Kept[httpcore.AsyncConnectionPool] = Kept(limit)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with the body unread."""
        route = self._routes.choose(request)
        await self._slots.take(request.extensions.get("timeout", {}).get("pool"))
        pool: httpcore.AsyncConnectionPool | None = None
        try:
            pool, closing = self._kept.take(route)
            if pool is None:
                pool = httpcore.AsyncConnectionPool(
                    network_backend=_AsyncBackend(route.rule),
                    **_pool_options(route, self._routes.plain),
                )
                self._kept.use(pool)
            for each in closing:
                await _aclose_pool(each)
            with self._slots.working(), _as_httpx_errors(), refusals(route.rule):
                response = await pool.handle_async_request(_as_httpcore(request))
        except BaseException:
            try:
                if pool is not None:
                    self._kept.drop(pool)
                    await _aclose_pool(pool)
            finally:
                self._slots.release()
            raise
        stream = cast("httpx.AsyncByteStream", response.stream)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_AsyncReplyBody(stream, self._slots, lambda: self._give_back(pool, route)),
            extensions=response.extensions,
        )

    async def _give_back(self, pool: httpcore.AsyncConnectionPool, route: Route) -> None:
        try:
            if not self._kept.keep(pool, route):  # the transport was closed meanwhile
                await _aclose_pool(pool)
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        for each in self._kept.drop_all():
            await _aclose_pool(each)


async def _aclose_pool(pool: httpcore.AsyncConnectionPool) -> None:
    with suppress(OSError, ssl.SSLError, httpcore.NetworkError):  # closed already, or broken
        await pool.aclose()


class _AsyncReplyBody(httpx.AsyncByteStream):
    """A reply's body that gives its connection back when it is closed for the first time."""

    def __init__(
        self, stream: httpx.AsyncByteStream, slots: AsyncSlots, give_back: Callable[[], Any]
    ) -> None:
        self._stream, self._slots, self._give_back = stream, slots, give_back
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_errors():
            blocks = aiter(cast("AsyncIterable[bytes]", self._stream))
            while True:
                with self._slots.working():
                    block = await anext(blocks, None)
                if block is None:
                    return
                yield block

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                with _as_httpx_errors():
                    await self._stream.aclose()
            finally:
                await self._give_back()
