"""What carries a request: httpx is the interface, the library under it is chosen here.

Blocking clients stand on httpx itself, asynchronous ones on aiohttp, which moves small replies
over many connections several times faster. The choice does not depend on what is installed.

Whatever carries it, a request behaves alike: one attempt, no redirect followed, no cookie kept,
no header added beyond what HTTP/1.1 needs, the URL sent as it was given, timeouts taken from
``request.extensions["timeout"]``, and an `httpx.TransportError` where no whole reply arrives.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
import urllib.request
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import h11
import httpx

from .errors import ConfigError

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractStreamWriter

SYNC_TRANSPORTS = ("httpx",)
"""Names that `build_transport` takes; the first is the default."""

ASYNC_TRANSPORTS = ("aiohttp", "httpx")
"""Names that `build_async_transport` takes; the first is the default."""

TRANSPORTS = tuple(sorted({*SYNC_TRANSPORTS, *ASYNC_TRANSPORTS}))
"""Every name that a connection's `transport` setting may have."""

_KEEPALIVE_SECONDS = 15.0
_MAX_HEADER_BYTES = 100 * 1024  # what httpx allows
_READ_BUFFER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """How one connection reaches its registry.

    Attributes:
        name: one of `TRANSPORTS`, or None for the default of the client's kind.
        verify: True for the usual authorities, False for no check, or a file (or a folder) of
            PEM certificates that replaces them.
        client_cert: PEM certificate chain shown to the server, with the key in it or in
            `client_key`, which must not be encrypted.
        client_key: PEM key of `client_cert`.
        proxy: ``http://[user:password@]host:port``, or https. None: no proxy, whatever the
            environment says; see `environment_proxy`.
        max_connections: sockets in use at one time, and kept open for the next request.
    """

    name: str | None = None
    verify: bool | Path = True
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    max_connections: int = 32


def build_transport(options: TransportOptions) -> httpx.BaseTransport:
    """Make what carries the requests of a blocking client; threads may share it.

    Raises:
        ConfigError: no such transport, or a file or a proxy that cannot be used.
    """
    _choose(options.name, SYNC_TRANSPORTS, "blocking")
    return _Httpx(verify=_ssl_context(options), proxy=_proxy(options), limits=_limits(options))


def build_async_transport(options: TransportOptions) -> httpx.AsyncBaseTransport:
    """Make what carries the requests of an asynchronous client, within one event loop.

    Raises:
        ConfigError: no such transport, or a file or a proxy that cannot be used.
    """
    name = _choose(options.name, ASYNC_TRANSPORTS, "asynchronous")
    context, proxy = _ssl_context(options), _proxy(options)
    if name == "aiohttp":
        return _AiohttpTransport(context, proxy, options.max_connections)
    return _AsyncHttpx(verify=context, proxy=proxy, limits=_limits(options))


def environment_proxy(url: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for `url`, if any.

    Loopback hosts are always reached directly.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or _is_loopback(host):
        return None
    netloc = parts.netloc.rpartition("@")[2]
    if urllib.request.proxy_bypass(host) or urllib.request.proxy_bypass(netloc):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    return proxy or None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")


def _choose(name: str | None, offered: tuple[str, ...], kind: str) -> str:
    if name is None:
        return offered[0]
    if name not in offered:
        raise ConfigError(
            f"transport {name!r} cannot carry {kind} clients; choose from: {', '.join(offered)}"
        )
    return name


def _limits(options: TransportOptions) -> httpx.Limits:
    return httpx.Limits(
        max_connections=options.max_connections,
        max_keepalive_connections=options.max_connections,
        keepalive_expiry=_KEEPALIVE_SECONDS,
    )


def _proxy(options: TransportOptions) -> httpx.Proxy | None:
    if options.proxy is None:
        return None
    try:  # the reason is not shown: it would quote the password
        proxy = httpx.Proxy(options.proxy)
        if proxy.url.scheme in ("http", "https") and proxy.url.host:
            return proxy
    except (ValueError, httpx.InvalidURL):
        pass
    raise ConfigError("proxy: give it as http://[user:password@]host:port (or https://)") from None


def _ssl_context(options: TransportOptions) -> ssl.SSLContext:
    verify, cert, key = options.verify, options.client_cert, options.client_key
    what = "the authorities that SSL_CERT_FILE or SSL_CERT_DIR name"
    try:
        if isinstance(verify, bool):
            context = httpx.create_ssl_context(verify=verify)
        else:
            what = f"CA bundle {verify}"
            folder = verify.is_dir()
            context = ssl.create_default_context(
                cafile=None if folder else str(verify), capath=str(verify) if folder else None
            )
        if cert is not None:
            what = f"client certificate {cert}" + (f" with key {key}" if key else "")
            # without a password given, OpenSSL would ask for one on the terminal
            context.load_cert_chain(cert, key, password="")
        elif key is not None:
            raise ConfigError(f"client key {key}: there is no client certificate beside it")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what}: {error}") from error
    return context


@contextmanager
def _no_leaks() -> Iterator[None]:
    """Turn what httpx 0.28 lets through of the libraries below it into its own errors."""
    try:
        yield
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error
    except ssl.SSLError as error:
        raise httpx.ReadError(str(error)) from error


class _Httpx(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with _no_leaks():
            return super().handle_request(request)


class _AsyncHttpx(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with _no_leaks():
            return await super().handle_async_request(request)


class _AiohttpTransport(httpx.AsyncBaseTransport):
    def __init__(self, context: ssl.SSLContext, proxy: httpx.Proxy | None, limit: int) -> None:
        try:
            import aiohttp  # noqa: F401
        except ImportError:
            raise ConfigError('transport "aiohttp": run pip install aiohttp') from None
        self._context = context
        self._proxy = None if proxy is None else str(proxy.url)
        self._proxy_headers: dict[str, str] = {}
        if proxy is not None and proxy.auth is not None:
            secret = base64.b64encode(":".join(proxy.auth).encode()).decode("ascii")
            self._proxy_headers["Proxy-Authorization"] = f"Basic {secret}"
        self._slots = asyncio.Semaphore(limit)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=self._context,
                limit=0,  # the semaphore counts, so that waiting has a timeout of its own
                keepalive_timeout=_KEEPALIVE_SECONDS,
                resolver=aiohttp.ThreadedResolver(),  # not what happens to be installed
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=1024,
        )
        self._session._retry_connection = False  # repeating is the runner's
        return self._session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        import aiohttp
        import yarl

        session, url, codec = self._session or self._open(), request.url, request.headers.encoding
        timeout = request.extensions.get("timeout", {})
        headers = [
            (name.decode("ascii"), value.decode(codec))
            for name, value in request.headers.raw
            if name.lower() != b"transfer-encoding"
        ]
        if url.scheme == "http":  # over TLS they go with CONNECT
            headers += self._proxy_headers.items()
        # not str(url): yarl would quote it anew, and aiohttp make a header of userinfo
        target = f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}"
        # not request.content: it may be what the request was built with, before its stream was set
        empty = isinstance(request.stream, httpx.ByteStream) and not any(request.stream)
        upload = None if empty else _Upload(request, timeout.get("write"))
        await self._slot(timeout.get("pool"))
        try:
            response = await session.request(
                request.method,
                yarl.URL(target, encoded=True),
                headers=headers,
                data=None if upload is None else _payload_type()(upload),
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
                timeout=aiohttp.ClientTimeout(
                    sock_connect=timeout.get("connect"), sock_read=timeout.get("read")
                ),
            )
        except BaseException as error:
            self._slots.release()
            if upload is not None:
                upload.stop()
                if upload.error is not None:
                    raise upload.error from None
            if isinstance(error, Exception):
                raise _translated(error) from error
            raise

        def close() -> None:
            response.close()  # a connection whose reply was read whole is in the pool already
            if upload is not None:
                upload.stop()
            self._slots.release()

        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_Reply(response, close),
            extensions={
                "http_version": b"HTTP/1.0" if response.version == (1, 0) else b"HTTP/1.1",
                "reason_phrase": (response.reason or "").encode("ascii", "replace"),
            },
        )

    async def _slot(self, timeout: float | None) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(timeout):
                await self._slots.acquire()
        except TimeoutError as error:
            raise httpx.PoolTimeout("every connection is in use") from error

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


class _Reply(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse, close: Callable[[], None]) -> None:
        self._response, self._close = response, close
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except Exception as error:
            raise _translated(error) from error

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._close()


class _Upload:
    """A request's body: as long as announced, each piece taken in time, its own errors kept."""

    def __init__(self, request: httpx.Request, timeout: float | None) -> None:
        length = request.headers.get("Content-Length")
        self._stream = request.stream
        self._length = None if length is None else int(length)
        self._timeout = timeout
        self._transport: asyncio.WriteTransport | None = None
        self.error: Exception | None = None  # aiohttp would call it a lost connection

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
        """Drop the connection of a body that is still on its way, unsent bytes and all."""
        if self._transport is not None:
            self._transport.abort()


@cache
def _payload_type() -> type[aiohttp.Payload]:
    import aiohttp

    class Payload(aiohttp.Payload):
        _value: _Upload

        async def write_with_length(self, writer: AbstractStreamWriter, _: int | None) -> None:
            await self._value.send(writer)

        async def write(self, writer: AbstractStreamWriter) -> None:
            await self._value.send(writer)

        def decode(self, *_: str) -> str:
            raise TypeError("a stream has no text")

    return Payload


def _translated(error: Exception) -> Exception:
    """What httpx would have raised, or the error itself where that is no matter of HTTP."""
    import aiohttp
    from aiohttp.http_exceptions import HttpProcessingError

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
