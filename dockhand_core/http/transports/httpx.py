"""httpx's transports, with two corrections.

Errors of h11 and ssl become httpx errors, and a cancelled async request does not use up the limit
on connections (see `Slots`).
"""

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
    """Convert errors of h11 and ssl, which httpx 0.28 does not convert, to httpx errors."""
    try:
        yield
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error
    except ssl.SSLError as error:
        raise httpx.ReadError(str(error)) from error


class HttpxTransport(httpx.HTTPTransport):
    """httpx's sync transport; every failure raises an `httpx.TransportError`."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with the body unread."""
        with _as_httpx_errors():
            return super().handle_request(request)


class AsyncHttpxTransport(httpx.AsyncHTTPTransport):
    """httpx's async transport; each request occupies a slot until its reply is closed.

    Args:
        limit: maximum number of requests in progress; see the module `slots` for the reason.
        options: arguments of `httpx.AsyncHTTPTransport`.
    """

    def __init__(self, limit: int, **options: Any) -> None:
        super().__init__(**options)
        self._slots = Slots(limit)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with the body unread."""
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
    """A reply's body that releases the request's slot when it is closed for the first time."""

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
