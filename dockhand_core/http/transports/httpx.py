"""httpx's own asynchronous transport, made safe to cancel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx

from dockhand_core.http.transports.options import no_leaks
from dockhand_core.http.transports.slots import Slots

__all__ = ["AsyncHttpx"]


class AsyncHttpx(httpx.AsyncHTTPTransport):
    """Takes a slot for each request, until its reply is closed; see `Slots` for why.

    Args:
        limit: requests under way at once.
        options: httpx's own.
    """

    def __init__(self, limit: int, **options: Any) -> None:
        super().__init__(**options)
        self._slots = Slots(limit)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        await self._slots.take(request.extensions.get("timeout", {}).get("pool"))
        try:
            with no_leaks():
                response = await super().handle_async_request(request)
        except BaseException:
            self._slots.give_back()
            raise
        stream = cast("httpx.AsyncByteStream", response.stream)
        response.stream = _Reply(stream, self._slots.give_back)
        return response


class _Reply(httpx.AsyncByteStream):
    """A body that gives its slot back, once."""

    def __init__(self, stream: httpx.AsyncByteStream, done: Callable[[], None]) -> None:
        self._stream, self._done = stream, done
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
                self._done()
