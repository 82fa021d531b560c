"""The base of the transports of sync clients: connections that threads use one request at a time.

Each request has a connection to itself until its reply is closed, see the module `slots`.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar, cast

import h11
import httpcore
import httpx

from dockhand_core.http.addresses import AddressRule, parse_address, refusals
from dockhand_core.http.transports.routes import Route, Routes
from dockhand_core.http.transports.slots import Holder, KeptConnections, OpenReply, Slots

__all__ = ["Backend", "PooledTransport", "as_httpx_errors", "checked_addresses"]


class Connection(Protocol):
    """A connection for one request at a time; it may open its socket again for the next one."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with the body unread."""

    def close(self) -> None:
        """Close the socket, even if another thread uses it."""


C = TypeVar("C", bound=Connection)


class as_httpx_errors:
    """Converts errors of h11 and ssl, which httpx 0.28 does not convert, to httpx errors.

    A context manager; as a class it takes a fraction of the time of a generator function.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            return
        if isinstance(error, h11.LocalProtocolError):
            raise httpx.LocalProtocolError(str(error)) from error
        if isinstance(error, h11.RemoteProtocolError):
            raise httpx.RemoteProtocolError(str(error)) from error
        if isinstance(error, ssl.SSLError):
            raise httpx.ReadError(str(error)) from error


class Backend(httpcore.SyncBackend):
    """Connects to the addresses that the rule allows; without a rule, to all."""

    def __init__(self, rule: AddressRule | None) -> None:
        self._rule = rule

    def connect_tcp(
        self, host: str, port: int, *args: Any, **options: Any
    ) -> httpcore.NetworkStream:
        try:
            if self._rule is None:
                return super().connect_tcp(host, port, *args, **options)
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that is too long
            raise httpcore.ConnectError(str(error)) from error
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in checked_addresses(self._rule, host, found):
            try:
                return super().connect_tcp(address, port, *args, **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


def checked_addresses(rule: AddressRule, host: str, found: Iterable[Any]) -> list[str]:
    """The addresses in the result of `getaddrinfo`, all of which the rule allows."""
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    rule.check(host, [parse_address(each) for each in addresses])
    return addresses


class PooledTransport(httpx.BaseTransport, Generic[C]):
    """A transport for threads; every failure raises an `httpx.TransportError`.

    Args:
        routes: chooses the route of each request.
        limit: maximum number of requests in progress, and of connections that are open.
        connect: makes a connection, which opens its socket for its first request.
    """

    def __init__(self, routes: Routes, limit: int, connect: Callable[[Route], C]) -> None:
        self._routes, self._connect = routes, connect
        self._slots = Slots(limit)
        self._kept: KeptConnections[C] = KeptConnections(limit)
        self._lock = threading.Lock()
        # The releases of replies that were collected without having been closed.
        self._abandoned: deque[Callable[[], None]] = deque()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with the body unread."""
        route = self._routes.choose(request)
        while self._abandoned:
            with suppress(IndexError):  # another thread was faster
                self._abandoned.popleft()()
        holder = self._slots.take(request.extensions.get("timeout", {}).get("pool"))
        connection: C | None = None
        try:
            connection = self._take(route)
            with self._slots.working(), as_httpx_errors(), refusals(route.rule):
                response = connection.handle_request(request)
        except BaseException:
            self._drop(connection, holder)
            raise
        stream = cast("httpx.SyncByteStream", response.stream)
        response.stream = _ReplyBody(
            stream,
            self._slots,
            lambda: self._give_back(connection, route, holder),
            lambda: self._abandoned.append(lambda: self._drop(connection, holder)),
        )
        return response

    def _drop(self, connection: C | None, holder: Holder) -> None:
        try:
            if connection is not None:
                with self._lock:
                    self._kept.drop(connection)
                _close(connection)
        finally:
            self._slots.release(holder)

    def _take(self, route: Route) -> C:
        with self._lock:
            connection, closing = self._kept.take(route)
            if connection is None:
                connection = self._connect(route)
                self._kept.use(connection)
        for each in closing:
            _close(each)
        return connection

    def _give_back(self, connection: C, route: Route, holder: Holder) -> None:
        try:
            with self._lock:
                kept = self._kept.keep(connection, route)
            if not kept:  # the transport was closed meanwhile
                _close(connection)
        finally:
            self._slots.release(holder)

    def close(self) -> None:
        """Close all connections, those in use too."""
        with self._lock:
            closing = self._kept.drop_all()
        for each in closing:
            _close(each)


def _close(connection: Connection) -> None:
    with suppress(OSError, ssl.SSLError, httpcore.NetworkError):  # closed already, or broken
        connection.close()


class _ReplyBody(OpenReply, httpx.SyncByteStream):
    """A reply's body that gives its connection back when it is closed for the first time."""

    def __init__(
        self,
        stream: httpx.SyncByteStream,
        slots: Slots,
        give_back: Callable[[], None],
        abandon: Callable[[], None],
    ) -> None:
        super().__init__(abandon)
        self._stream, self._slots, self._give_back = stream, slots, give_back

    def __iter__(self) -> Iterator[bytes]:
        with as_httpx_errors():
            blocks = iter(self._stream)
            while True:
                with self._slots.working():
                    block = next(blocks, None)
                if block is None:
                    return
                yield block

    def close(self) -> None:
        if self._close_first():
            try:
                with as_httpx_errors():
                    self._stream.close()
            finally:
                self._give_back()
