"""A transport with httpx's async interface that sends requests with aiohttp.

Imported only when an async client needs it.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from typing import Any, cast

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractStreamWriter, ResolveResult
from aiohttp.http_exceptions import HttpProcessingError

from dockhand_core.http.addresses import AddressRule, parse_address, refusals
from dockhand_core.http.transports.bulk_body import BulkBody, bulk_rest
from dockhand_core.http.transports.options import KEEPALIVE_SECONDS
from dockhand_core.http.transports.routes import Routes
from dockhand_core.http.transports.slots import AsyncSlots, OpenReply

__all__ = ["AiohttpTransport"]

_MAX_HEADER_BYTES = 100 * 1024  # the same limit as in httpx
_READ_BUFFER_BYTES = 256 * 1024


class _Resolver(aiohttp.ThreadedResolver):
    """Looks host names up, and refuses addresses that a rule does not allow."""

    def __init__(self, rule: AddressRule | None) -> None:
        super().__init__()
        self._rule = rule

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            found = await super().resolve(host, port, family)
        except UnicodeError as error:  # a label that is too long
            raise OSError(str(error)) from error
        if self._rule is not None:
            self._rule.check(host, [parse_address(each["host"]) for each in found])
        return found


class _Connector(aiohttp.TCPConnector):
    """A connector that never shows the client certificate to an https proxy.

    Args:
        plain: the TLS context for proxies.
        options: arguments of `aiohttp.TCPConnector`.
    """

    def __init__(self, plain: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._plain = plain
        self.proxies: set[yarl.URL] = set()

    def _get_ssl_context(self, req: aiohttp.ClientRequest) -> ssl.SSLContext | None:
        found = super()._get_ssl_context(req)
        return self._plain if found is not None and req.url in self.proxies else found


class AiohttpTransport(httpx.AsyncBaseTransport):
    """A transport for one event loop; it behaves as `dockhand_core.http.transports` describes.

    Args:
        routes: chooses the route of each request.
        limit: maximum number of requests in progress.
    """

    def __init__(self, routes: Routes, limit: int) -> None:
        self._routes = routes
        self._slots = AsyncSlots(limit)
        # one for each rule: connections that were made under another rule are not reused
        self._sessions: dict[AddressRule | None, aiohttp.ClientSession] = {}
        self._abandoned: deque[Callable[[], None]] = (
            deque()
        )  # `close` of replies that were not read

    def _open(self, rule: AddressRule | None) -> aiohttp.ClientSession:
        if rule in self._sessions:
            return self._sessions[rule]
        session = self._sessions[rule] = aiohttp.ClientSession(
            connector=_Connector(
                self._routes.plain,
                ssl=self._routes.plain,
                limit=0,  # unlimited here: `AsyncSlots` limits the requests
                keepalive_timeout=KEEPALIVE_SECONDS,
                resolver=_Resolver(rule),  # aiohttp's default is aiodns if it is installed
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=1024,
        )
        # Turn off aiohttp's own retries: only the retry policy decides about retries.
        session._retry_connection = False
        return session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        route = self._routes.choose(request)
        session, url, codec = self._open(route.rule), request.url, request.headers.encoding
        timeout = request.extensions.get("timeout", {})
        headers = [
            (name.decode("ascii"), value.decode(codec))
            for name, value in request.headers.raw
            if name.lower() != b"transfer-encoding"
        ]
        proxy, proxy_headers = None, {}
        if route.proxy is not None:
            proxy = yarl.URL(str(route.proxy.url), encoded=True)
            cast("_Connector", session.connector).proxies.add(proxy)
            proxy_headers = _proxy_headers(route.proxy)
            if url.scheme == "http":  # for https, aiohttp sends these headers with CONNECT
                headers += proxy_headers.items()
        # not str(url): yarl would quote it again, and aiohttp would turn userinfo into a header
        target = f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}"
        # not request.content, which does not change when `request.stream` is replaced
        empty = isinstance(request.stream, httpx.ByteStream) and not any(request.stream)
        upload = None if empty else _RequestBody(request, timeout.get("write"))
        while self._abandoned:
            self._abandoned.popleft()()
        holder = await self._slots.take(timeout.get("pool"))
        try:
            with self._slots.working(), refusals(route.rule):
                response = await session.request(
                    request.method,
                    yarl.URL(target, encoded=True),
                    headers=headers,
                    data=None if upload is None else _Payload(upload),
                    allow_redirects=False,
                    ssl=route.context,
                    proxy=proxy,
                    proxy_headers=proxy_headers,
                    timeout=aiohttp.ClientTimeout(
                        sock_connect=timeout.get("connect"), sock_read=timeout.get("read")
                    ),
                )
        except BaseException as error:
            self._slots.release(holder)
            if upload is not None:
                upload.stop()
                if upload.error is not None:
                    raise upload.error from None
            if isinstance(error, Exception):
                raise _as_httpx_error(error) from error
            raise

        def close() -> None:
            # closes the connection, unless the reply was read to its end: then it is in the pool
            response.close()
            if upload is not None:
                upload.stop()
            self._slots.release(holder)

        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_ReplyBody(
                response,
                timeout.get("read"),
                self._slots,
                close,
                lambda: self._abandoned.append(close),
            ),
            extensions={
                "http_version": b"HTTP/1.0" if response.version == (1, 0) else b"HTTP/1.1",
                "reason_phrase": (response.reason or "").encode("ascii", "replace"),
            },
        )

    async def aclose(self) -> None:
        while self._sessions:
            await self._sessions.popitem()[1].close()


def _proxy_headers(proxy: httpx.Proxy) -> dict[str, str]:
    if proxy.auth is None:
        return {}
    secret = base64.b64encode(":".join(proxy.auth).encode()).decode("ascii")
    return {"Proxy-Authorization": f"Basic {secret}"}


class _ReplyBody(OpenReply, httpx.AsyncByteStream):
    def __init__(
        self,
        response: aiohttp.ClientResponse,
        timeout: float | None,
        slots: AsyncSlots,
        close: Callable[[], None],
        abandon: Callable[[], None],
    ) -> None:
        super().__init__(abandon)
        self._response, self._timeout, self._slots = response, timeout, slots
        self._close = close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while True:
                chunk = content.read_nowait()
                if chunk:
                    yield chunk
                    continue
                if rest := bulk_rest(self._response):
                    break
                # aiohttp (3.14.5) does not report parse errors in the body to a waiting reader, and
                # its own read timeout is cancelled when the connection is lost. Without this
                # timeout the reader would then wait without end.
                with self._slots.working():
                    async with asyncio.timeout(self._timeout):
                        chunk = await content.readany()
                if not chunk:
                    return
                yield chunk
            bulk = BulkBody(self._response, rest, self._timeout)
            while True:
                with self._slots.working():
                    chunk = await bulk.read()
                if not chunk:
                    return
                yield chunk
        except Exception as error:
            raise _as_httpx_error(error) from error

    async def aclose(self) -> None:
        if self._close_first():
            self._close()


class _RequestBody:
    """A request's body, with a check of its length and a timeout for each write.

    If the body cannot be read or sent, `error` is the reason.
    """

    def __init__(self, request: httpx.Request, timeout: float | None) -> None:
        length = request.headers.get("Content-Length")
        self._stream = request.stream
        self._length = None if length is None else int(length)
        self._timeout = timeout
        self._transport: asyncio.WriteTransport | None = None
        # raised in place of aiohttp's error, which would only report a lost connection
        self.error: Exception | None = None

    async def send(self, writer: AbstractStreamWriter) -> None:
        self._transport = writer.transport
        async for piece in self._pieces():
            try:
                async with asyncio.timeout(self._timeout):
                    await writer.write(piece)
            except TimeoutError:
                self.error = httpx.WriteTimeout("the server takes no more of the request's body")
                raise
        self._transport = None

    async def _pieces(self) -> AsyncIterator[bytes]:
        sent = 0
        try:
            async for piece in cast(AsyncIterable[bytes], self._stream):
                sent += len(piece)
                if self._length is not None and sent > self._length:
                    raise httpx.LocalProtocolError("Too much data for declared Content-Length")
                yield piece
            if self._length is not None and sent < self._length:
                raise httpx.LocalProtocolError("Too little data for declared Content-Length")
        except Exception as error:
            self.error = error
            raise

    def stop(self) -> None:
        """Abort the connection if the body was not sent completely."""
        if self._transport is not None:
            with suppress(AttributeError):  # raised by asyncio if the transport is closed already
                self._transport.abort()


class _Payload(aiohttp.Payload):
    _value: _RequestBody

    async def write_with_length(self, writer: AbstractStreamWriter, _: int | None) -> None:
        await self._value.send(writer)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self._value.send(writer)

    def decode(self, *_: str) -> str:
        raise TypeError("a stream has no text")


def _as_httpx_error(error: Exception) -> Exception:
    """The httpx error for an aiohttp error; any other error is returned unchanged."""
    families: dict[type[httpx.TransportError], tuple[type[Exception], ...]] = {
        httpx.ConnectTimeout: (aiohttp.ConnectionTimeoutError,),
        httpx.ReadTimeout: (TimeoutError,),
        httpx.ProxyError: (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError),
        httpx.ConnectError: (aiohttp.ClientConnectorError,),
        httpx.UnsupportedProtocol: (aiohttp.InvalidURL,),
        httpx.RemoteProtocolError: (
            aiohttp.ServerDisconnectedError,
            aiohttp.ClientPayloadError,
            aiohttp.ClientResponseError,
            HttpProcessingError,
        ),
        httpx.ReadError: (aiohttp.ClientError, OSError),
        httpx.LocalProtocolError: (ValueError,),
    }
    for mapped, kinds in families.items():
        if isinstance(error, kinds):
            return mapped(str(error) or type(error).__name__)
    return error
