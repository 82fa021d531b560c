"""A transport for sync clients that parses replies with h11 over the network streams of httpcore.

h11 reads heads and chunked bodies; the bytes of other bodies pass it by, in large blocks. So the
messages that are accepted are the same as with httpx, which uses h11 too.
"""

from __future__ import annotations

import base64
import errno
import functools
import io
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import h11
import httpcore
import httpx

from dockhand_core.http.bodies import UploadBody
from dockhand_core.http.transports.pooled import Backend, PooledTransport
from dockhand_core.http.transports.routes import Route, Routes
from dockhand_core.http.urls import PORTS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["H11Transport"]

_BLOCK = 256 * 1024  # bytes; the most that is received at a time
_HEAD_BLOCK = 64 * 1024
_MAX_HEADER_BYTES = 100 * 1024  # the same limit as in httpx
_MAX_LENGTH_DIGITS = 20
_JOINED = 64 * 1024  # bytes; a body in memory up to this size is sent together with the head

# RFC 9110, section 5.6.2 and 5.5; and of the request line, the target (RFC 9112, section 3.2)
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINES = re.compile(rb"(?:" + _TOKEN + rb": [^\0\r\n]*\r\n)*")
_REQUEST_LINE = re.compile(_TOKEN + rb" [!-~]+")
# The head of a usual reply, which is read without h11; any other head is left to h11.
_VALUE = rb"[!-~](?:[ -~]*[!-~])?"
_USUAL = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([ -~]*)\r\n"
    rb"((?:" + _TOKEN + rb": " + _VALUE + rb"\r\n)*+)\r\n"
)
_FIELD = re.compile(rb"(" + _TOKEN + rb"): (" + _VALUE + rb")\r\n")

_Headers = list[tuple[bytes, bytes]]
_FAILURES = (httpcore.NetworkError, httpcore.TimeoutException)


@dataclass(frozen=True, slots=True)
class _Head:
    """The head of a reply.

    Attributes:
        fields: the headers by lower-case name, to read the length of the body.
        rest: the bytes after the head that were received with it.
        parser: the parser that goes on with a chunked body; None if the body is not chunked.
    """

    version: bytes
    status: int
    reason: bytes
    headers: _Headers
    fields: dict[bytes, bytes]
    rest: bytes
    parser: h11.Connection | None = None

    @classmethod
    def usual(cls, data: bytes) -> _Head | None:
        """Read the head of a usual reply; None if h11 has to read it, or to refuse it."""
        found = _USUAL.match(data)
        if found is None or found.end() > _MAX_HEADER_BYTES:
            return None
        headers = _FIELD.findall(found[3])
        fields = {name.lower(): value for name, value in headers}
        if b"transfer-encoding" in fields:
            return None
        length = fields.get(b"content-length")
        if length is not None:
            several = sum(name.lower() == b"content-length" for name, _ in headers) > 1
            if several or not length.isdigit() or len(length) >= _MAX_LENGTH_DIGITS:
                return None
        return cls(b"1.1", int(found[1]), found[2], headers, fields, data[found.end() :])


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
        self._read_timeout: float | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with the body unread."""
        timeouts = request.extensions.get("timeout", {})
        self._read_timeout = timeouts.get("read")
        head = self._head(request)
        # A server may have closed a connection that was not used for a while.
        if self._stream is not None and self._stream.get_extra_info("is_readable"):
            self.close()
        try:
            if self._stream is None:
                self._stream = self._connect(timeouts.get("connect"))
            with suppress(httpcore.WriteError):  # the server may have replied before it closed
                self._send(self._stream, head, request, timeouts.get("write"))
            reply = self._receive_head(request.method)
        except _FAILURES as error:
            _raise_as_httpx(error)
        keep = reply.version == b"1.1" and not _closes(request.headers.raw, reply.headers)
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
        stream, self._stream = self._stream, None
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

    def _open_tunnel(
        self, stream: httpcore.NetworkStream, target: bytes, timeout: float | None
    ) -> None:
        assert self._route.proxy is not None
        headers = [(b"Host", target), (b"Accept", b"*/*"), *_proxy_headers(self._route.proxy)]
        stream.write(_serialized(b"CONNECT", target, headers), timeout)
        self._stream = stream
        try:
            reply = self._receive_head("CONNECT")
        finally:
            self._stream = None
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
        return _serialized(request.method.encode("ascii", "replace"), target, headers)

    def _send(
        self,
        stream: httpcore.NetworkStream,
        head: bytes,
        request: httpx.Request,
        timeout: float | None,
    ) -> None:
        body = request.stream
        assert isinstance(body, httpx.SyncByteStream)
        length = request.headers.get("Content-Length")
        if isinstance(body, httpx.ByteStream):  # bytes in memory
            data = b"".join(body)
            if len(data) <= _JOINED and len(data) == int(length or 0):
                stream.write(head + data, timeout)
                return
            body = httpx.ByteStream(data)
        stream.write(head, timeout)
        if length is None and "Transfer-Encoding" in request.headers:
            for block in body:
                if block:
                    stream.write(b"%x\r\n%b\r\n" % (len(block), block), timeout)
            stream.write(b"0\r\n\r\n", timeout)
            return
        left = int(length or 0)
        sock = stream.get_extra_info("socket")
        if isinstance(body, UploadBody) and body.is_file and type(sock) is socket.socket:
            for file, offset, count in body.file_parts():  # not encrypted
                _send_file(sock, file, offset, count, timeout)
            return
        for block in body:
            left -= len(block)
            if left < 0:
                raise httpx.LocalProtocolError("Too much data for declared Content-Length")
            # not the block itself: what a partial write leaves would be copied each time
            stream.write(memoryview(block), timeout)  # type: ignore[arg-type]
        if left:
            raise httpx.LocalProtocolError("Too little data for declared Content-Length")

    # --- replies -----------------------------------------------------------------------------

    def _receive_head(self, method: str) -> _Head:
        data = self.receive(_HEAD_BLOCK)
        if (head := _Head.usual(data)) is not None:
            return head
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEADER_BYTES)
        parser.send(_asked(method))
        parser.send(h11.EndOfMessage())
        while True:
            if not data and parser.their_state is h11.SEND_RESPONSE:
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
            parser.receive_data(data)
            while (event := parser.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    return _Head(
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
        stream = self._stream
        if stream is None:
            raise httpcore.ReadError("the connection was closed")
        return stream.read(count, self._read_timeout)


class _Body(httpx.SyncByteStream):
    """The body of a reply; its connection is used again if the body was read to its end.

    Its length follows RFC 9112, section 6.3, "Message Body Length".

    Args:
        connection: the connection.
        method: the method of the request.
        head: the head of the reply.
        keep: whether the connection may be used again.
    """

    def __init__(self, connection: _Connection, method: str, head: _Head, keep: bool) -> None:
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
                block = self._connection.receive(wanted)
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


def _serialized(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head of a request.

    Raises:
        httpx.LocalProtocolError: HTTP does not allow a character in it. The message does not show
            the value, which may be a secret.
    """
    line = b"%b %b" % (method, target)
    lines = b"".join([b"%b: %b\r\n" % each for each in headers])
    if not _REQUEST_LINE.fullmatch(line):
        raise httpx.LocalProtocolError("Illegal method or target of a request")
    if not _LINES.fullmatch(lines):
        raise httpx.LocalProtocolError("Illegal header name or value of a request")
    return b"%b HTTP/1.1\r\n%b\r\n" % (line, lines)


@functools.lru_cache(maxsize=16)
def _asked(method: str) -> h11.Request:
    """A request that tells h11 the method, which decides whether the reply has a body.

    The request that is sent is made by `_serialized`, which is several times faster.
    """
    return h11.Request(method=method, target="/", headers=[("Host", "-")])


def _proxy_headers(proxy: httpx.Proxy) -> _Headers:
    headers = list(proxy.headers.raw)
    if proxy.raw_auth is not None:
        secret = base64.b64encode(b":".join(proxy.raw_auth))
        headers.append((b"Proxy-Authorization", b"Basic " + secret))
    return headers


def _bracketed(host: bytes) -> bytes:
    return b"[%b]" % host if b":" in host else host


def _closes(*headers: _Headers) -> bool:
    """Whether the headers of a request or of its reply ask to close the connection."""
    return any(
        len(name) == 10 and name.lower() == b"connection" and b"close" in value.lower()
        for each in headers
        for name, value in each
    )


def _raise_as_httpx(error: Exception) -> NoReturn:
    """Raise the httpx exception that has the same name as an exception of httpcore."""
    raise getattr(httpx, type(error).__name__)(str(error)) from error
