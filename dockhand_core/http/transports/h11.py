"""A transport for sync clients that parses replies with h11 over the network streams of httpcore.

h11 parses heads and chunked bodies; other bodies are received in large blocks without it. httpx
uses h11, too, so both transports accept the same messages.
"""

from __future__ import annotations

import base64
import errno
import functools
import io
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import NoReturn

import h11
import httpcore
import httpx

from dockhand_core.http.bodies import UploadBody
from dockhand_core.http.transports.heads import (
    MAX_HEADER_BYTES,
    Head,
    Headers,
    asks_to_close,
    serialized,
)
from dockhand_core.http.transports.pooled import Backend, PooledTransport
from dockhand_core.http.transports.routes import Route, Routes
from dockhand_core.http.urls import PORTS

__all__ = ["H11Transport"]

_BLOCK = 256 * 1024  # bytes; the most that is received at a time
_SHORTEST_JOINED = 8 * 1024  # bytes; a smaller block is from a slow connection
_HEAD_BLOCK = 64 * 1024
_JOINED = 64 * 1024  # bytes; a body in memory up to this size is sent together with the head

_FAILURES = (httpcore.NetworkError, httpcore.TimeoutException)


class H11Transport(PooledTransport["_Connection"]):
    """A transport for threads; it behaves as `dockhand_core.http.transports` describes.

    Args:
        routes: chooses the route of each request.
        limit: maximum number of requests in progress, and of connections that are open.
    """

    def __init__(self, routes: Routes, limit: int) -> None:
        super().__init__(routes, limit, lambda route: _Connection(route, routes.plain))


class _Connection:
    """A connection with one socket at a time, for one request at a time."""

    def __init__(self, route: Route, plain: ssl.SSLContext) -> None:
        self._route, self._plain = route, plain
        self._stream: httpcore.NetworkStream | None = None
        # The socket, which is used without httpcore's layer; None for TLS in TLS.
        self._socket: socket.socket | None = None
        self._read_timeout: float | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with the body unread."""
        timeouts = request.extensions.get("timeout", {})
        self._read_timeout = timeouts.get("read")
        head = self._head(request)
        if self._stream is not None and _has_input(self._stream):
            self.close()
        try:
            if self._stream is None:
                self._use(self._connect(timeouts.get("connect")))
            with suppress(httpcore.WriteError):  # the server may have replied before it closed
                self._send(head, request, timeouts.get("write"))
            reply = self._receive_head(request.method)
        except _FAILURES as error:
            _raise_as_httpx(error)
        keep = reply.version == b"1.1" and not asks_to_close(request.headers.raw, reply.headers)
        return httpx.Response(
            reply.status,
            headers=reply.headers,
            stream=_Body(self, request.method, reply, keep),
            extensions={
                "http_version": b"HTTP/" + reply.version,
                "reason_phrase": reply.reason,
            },
        )

    def close(self) -> None:
        """Close the socket, even if another thread uses it."""
        stream, self._stream, self._socket = self._stream, None, None
        if stream is not None:
            sock = stream.get_extra_info("socket")
            with suppress(OSError):
                # wakes a thread that reads; not the method of SSLSocket, which would break it
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            stream.close()

    # --- requests ----------------------------------------------------------------------------

    def _connect(self, timeout: float | None) -> httpcore.NetworkStream:
        scheme, host, port = self._route.origin
        if scheme not in PORTS:
            raise httpx.UnsupportedProtocol(f"the URL has the scheme {scheme!r}, not http or https")
        name, number = host.decode("ascii"), port or PORTS[scheme]
        backend = Backend(self._route.rule)
        proxy = self._route.proxy
        if proxy is None:
            stream = backend.connect_tcp(name, number, timeout=timeout)
        else:
            url = proxy.url
            where = url.raw_host.decode("ascii")
            stream = backend.connect_tcp(where, url.port or PORTS[url.scheme], timeout=timeout)
            if url.scheme == "https":
                stream = _start_tls(stream, self._plain, where, timeout)
            if scheme == "https":
                try:
                    self._open_tunnel(stream, b"%b:%d" % (_bracketed(host), number), timeout)
                except BaseException:
                    stream.close()
                    raise
        if scheme == "https":
            stream = _start_tls(stream, self._route.context, name, timeout)
        return stream

    def _use(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        in_tls = isinstance(stream.get_extra_info("ssl_object"), ssl.SSLObject)
        self._socket = None if in_tls else stream.get_extra_info("socket")

    def _open_tunnel(
        self, stream: httpcore.NetworkStream, target: bytes, timeout: float | None
    ) -> None:
        assert self._route.proxy is not None
        headers = [(b"Host", target), (b"Accept", b"*/*"), *_proxy_headers(self._route.proxy)]
        self._use(stream)
        try:
            self._write(serialized(b"CONNECT", target, headers), timeout)
            reply = self._receive_head("CONNECT")
        finally:
            self._stream = self._socket = None
        if not 200 <= reply.status <= 299:
            reason = reply.reason.decode("ascii", "ignore")
            raise httpx.ProxyError(f"{reply.status} {reason}".rstrip())

    def _head(self, request: httpx.Request) -> bytes:
        url, headers = request.url, request.headers.raw
        target = url.raw_path
        proxy = self._route.proxy
        if proxy is not None and url.scheme == "http":
            target = b"http://%b%b" % (url.netloc, target)
            headers = _proxy_headers(proxy) + headers
        if b"content-length" in (names := {name.lower() for name, _ in headers}):
            headers = [each for each in headers if each[0].lower() != b"transfer-encoding"]
        if b"host" not in names:
            raise httpx.LocalProtocolError("Missing mandatory Host: header")
        return serialized(request.method.encode("ascii", "replace"), target, headers)

    def _send(self, head: bytes, request: httpx.Request, timeout: float | None) -> None:
        body = request.stream
        assert isinstance(body, httpx.SyncByteStream)
        length = request.headers.get("Content-Length")
        if isinstance(body, httpx.ByteStream):  # bytes in memory
            data = b"".join(body)
            if len(data) <= _JOINED and len(data) == int(length or 0):
                self._write(head + data, timeout)
                return
            body = httpx.ByteStream(data)
        self._write(head, timeout)
        if length is None and "Transfer-Encoding" in request.headers:
            for block in body:
                if block:
                    self._write(b"%x\r\n%b\r\n" % (len(block), block), timeout)
            self._write(b"0\r\n\r\n", timeout)
            return
        left = int(length or 0)
        sock = self._socket
        if isinstance(body, UploadBody) and body.is_file and type(sock) is socket.socket:
            for file, offset, count in body.file_parts():  # not encrypted
                _send_file(sock, file, offset, count, timeout)
            return
        for block in body:
            left -= len(block)
            if left < 0:
                raise httpx.LocalProtocolError("Too much data for declared Content-Length")
            self._write(block, timeout)
        if left:
            raise httpx.LocalProtocolError("Too little data for declared Content-Length")

    def _write(self, data: bytes, timeout: float | None) -> None:
        stream, sock = self._stream, self._socket
        if stream is None:
            raise httpcore.WriteError("the connection was closed")
        if sock is None:
            stream.write(data, timeout)
            return
        rest = memoryview(data)
        try:
            sock.settimeout(timeout)
            while rest:
                rest = rest[sock.send(rest) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    # --- replies -----------------------------------------------------------------------------

    def _receive_head(self, method: str) -> Head:
        data = self.receive(_HEAD_BLOCK)
        if (head := Head.usual(data)) is not None:
            return head
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
        parser.send(_asked(method))
        parser.send(h11.EndOfMessage())
        while True:
            if not data and parser.their_state is h11.SEND_RESPONSE:
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
            parser.receive_data(data)
            while (event := parser.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    return Head(
                        event.http_version,
                        event.status_code,
                        event.reason,
                        event.headers.raw_items(),
                        dict(event.headers),  # with names in lower case
                        parser.trailing_data[0],
                        parser,
                    )
            data = self.receive(_HEAD_BLOCK)

    def receive(self, count: int) -> bytes:
        """Receive up to `count` bytes; empty at the end of the connection."""
        stream, sock = self._stream, self._socket
        if stream is None:
            raise httpcore.ReadError("the connection was closed")
        if sock is None:
            return stream.read(count, self._read_timeout)
        try:
            sock.settimeout(self._read_timeout)
            return sock.recv(count)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    def receive_block(self, count: int) -> bytes:
        """Receive like `receive`; of TLS, which arrives in small records, as many as are there."""
        block = self.receive(count)
        if not isinstance(self._socket, ssl.SSLSocket) or len(block) < _SHORTEST_JOINED:
            return block
        parts, size = [block], len(block)
        while size < count and (stream := self._stream) and stream.get_extra_info("is_readable"):
            try:
                block = self.receive(count - size)
            except _FAILURES:
                break  # the next call raises it
            if not block:
                break
            parts.append(block)
            size += len(block)
        return b"".join(parts)


class _Body(httpx.SyncByteStream):
    """The body of a reply; its connection is used again if the body was read to its end.

    Its length follows RFC 9112, section 6.3, "Message Body Length".

    Args:
        connection: the connection.
        method: the method of the request.
        head: the head of the reply.
        keep: whether the connection may be used again.
    """

    def __init__(self, connection: _Connection, method: str, head: Head, keep: bool) -> None:
        self._connection, self._keep = connection, keep
        self._first = head.rest
        self._left: int | None = 0  # bytes; None up to the end of the connection
        self._parser: h11.Connection | None = None  # of a chunked body
        self._complete = False
        if method == "HEAD" or head.status in (204, 304):
            pass
        elif b"transfer-encoding" in head.fields:
            self._parser, self._left = head.parser, None
        elif (length := head.fields.get(b"content-length")) is not None:
            self._left = int(length)
        else:
            self._left, self._keep = None, False
        if self._left is not None and len(head.rest) >= self._left:
            self._keep = self._keep and len(head.rest) == self._left
            self._first, self._complete = head.rest[: self._left], not self._left

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._sized() if self._parser is None else self._chunked(self._parser)
        except _FAILURES as error:
            _raise_as_httpx(error)

    def _sized(self) -> Iterator[bytes]:
        received, left = 0, self._left
        block, self._first = self._first, b""
        while not self._complete:
            if not block:
                wanted = _BLOCK if left is None else min(_BLOCK, left)
                block = self._connection.receive_block(wanted)
                if not block and left is not None:
                    raise httpx.RemoteProtocolError(
                        "peer closed connection without sending complete message body "
                        f"(received {received} bytes, expected {received + left})"
                    )
                self._complete = not block
            if left is not None:
                left -= len(block)
                self._complete = not left
            received += len(block)
            if block:
                yield block
            block = b""

    def _chunked(self, parser: h11.Connection) -> Iterator[bytes]:
        while not self._complete:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(self._connection.receive(_BLOCK))
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                self._complete = True
                self._keep = self._keep and not parser.trailing_data[0]

    def close(self) -> None:
        if not (self._complete and self._keep):
            self._connection.close()


def _has_input(stream: httpcore.NetworkStream) -> bool:
    """Whether an unused connection has input: the end, or bytes that belong to no reply.

    The socket does not show the bytes of a TLS record that was received in part.
    """
    tls = stream.get_extra_info("ssl_object")
    return bool((tls is not None and tls.pending()) or stream.get_extra_info("is_readable"))


def _start_tls(
    stream: httpcore.NetworkStream, context: ssl.SSLContext, host: str, timeout: float | None
) -> httpcore.NetworkStream:
    context.set_alpn_protocols(["http/1.1"])
    try:
        return stream.start_tls(context, host, timeout)
    except BaseException:
        stream.close()
        raise


def _send_file(
    sock: socket.socket, file: io.FileIO, offset: int, count: int, timeout: float | None
) -> None:
    """Send a part of a file; where it can, the system copies the bytes itself.

    Raises:
        httpcore.WriteError, httpcore.WriteTimeout: the part cannot be sent.
        OSError: the file cannot be read, or became shorter.
    """
    sock.settimeout(timeout)
    try:
        sent = sock.sendfile(file, offset, count)
    except TimeoutError as error:
        raise httpcore.WriteTimeout(str(error)) from error
    except OSError as error:
        if error.errno == errno.EIO:
            raise
        raise httpcore.WriteError(str(error)) from error
    if sent < count:
        raise OSError(f"{file.name} became shorter while it was read")


@functools.lru_cache(maxsize=16)
def _asked(method: str) -> h11.Request:
    """A request that tells h11 the method, which decides whether the reply has a body.

    The request that is sent is made by `serialized`, which is several times faster.
    """
    return h11.Request(method=method, target="/", headers=[("Host", "-")])


def _proxy_headers(proxy: httpx.Proxy) -> Headers:
    headers = list(proxy.headers.raw)
    if proxy.raw_auth is not None:
        secret = base64.b64encode(b":".join(proxy.raw_auth))
        headers.append((b"Proxy-Authorization", b"Basic " + secret))
    return headers


def _bracketed(host: bytes) -> bytes:
    return b"[%b]" % host if b":" in host else host


def _raise_as_httpx(error: Exception) -> NoReturn:
    """Raise the httpx exception that has the same name as an exception of httpcore."""
    raise getattr(httpx, type(error).__name__)(str(error)) from error
