"""httpx's own transports: errors of the libraries below it mapped, the async one safe to cancel."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import h11
import httpx

from dockhand_core.http.transports.slots import Slots

__all__ = ["AsyncHttpxTransport", "HttpxTransport"]


@contextmanager
def _as_httpx_errors() -> Iterator[None]:
    """Map the errors of h11 and ssl that httpx 0.28 lets through to httpx's own."""
    try:
        yield
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error
    except ssl.SSLError as error:
        raise httpx.ReadError(str(error)) from error


class HttpxTransport(httpx.HTTPTransport):
    """httpx's blocking transport; every failure is an `httpx.TransportError`."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        with _as_httpx_errors():
            return super().handle_request(request)


class AsyncHttpxTransport(httpx.AsyncHTTPTransport):
    """httpx's asynchronous transport, with a slot for each request until its reply is closed.

    Args:
        limit: requests in progress at one time; see `Slots` for the reason.
        options: httpx's own arguments.
    """

    def __init__(self, limit: int, **options: Any) -> None:
        super().__init__(**options)
        self._slots = Slots(limit)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        await self._slots.take(request.extensions.get("timeout", {}).get("pool"))
        try:
            with _as_httpx_errors():
                response = await super().handle_async_request(request)
        except BaseException:
            self._slots.release()
            raise
        stream = cast("httpx.AsyncByteStream", response.stream)
        response.stream = _ReplyBody(stream, self._slots.release)
        return response


class _ReplyBody(httpx.AsyncByteStream):
    """A reply's body that releases its slot when it is closed, once."""

    def __init__(self, stream: httpx.AsyncByteStream, release: Callable[[], None]) -> None:
        self._stream, self._release = stream, release
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for block in self._stream:
            yield block

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                await self._stream.aclose()
            finally:
                self._release()
