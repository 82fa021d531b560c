"""A client that calls a sync or async transport and blocks, and requests like the runner's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
from raw_servers import SECONDS

from dockhand_core.http.transports import (
    ASYNC_TRANSPORTS,
    SYNC_TRANSPORTS,
    TransportOptions,
    build_async_transport,
    build_transport,
)

TRANSPORTS = [("sync", name) for name in SYNC_TRANSPORTS]
TRANSPORTS += [("async", name) for name in ASYNC_TRANSPORTS]


class UploadStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """An upload's body like the runner's: a stream of blocks for sync or async iteration.

    Args:
        count: the number of blocks.
        size: the number of bytes in a block.
        error: an exception to raise after the last block.

    Attributes:
        taken: the number of bytes that the transport has read so far.
    """

    def __init__(self, count: int, size: int = 65536, error: Exception | None = None) -> None:
        self.count, self.size, self.error, self.taken = count, size, error, 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.count):
            self.taken += self.size
            yield b"x" * self.size
        if self.error:
            raise self.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self:
            yield block


class TransportClient:
    """A sync or async transport that is used with blocking calls."""

    def __init__(self, kind: str, options: TransportOptions) -> None:
        self.runner: asyncio.Runner | None = None
        if kind == "async":
            self.runner = asyncio.Runner()
            self.async_transport = build_async_transport(options)
        else:
            self.transport = build_transport(options)

    def open(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the response with its body unread."""
        if self.runner is None:
            return self.transport.handle_request(request)
        return self.runner.run(self.async_transport.handle_async_request(request))

    def read(self, response: httpx.Response) -> bytes:
        """Read a response's body and close it."""

        async def read() -> bytes:
            try:
                return b"".join([block async for block in response.aiter_raw()])
            finally:
                await response.aclose()

        if self.runner is not None:
            return self.runner.run(read())
        try:
            return b"".join(response.iter_raw())
        finally:
            response.close()

    def read_first_block(self, response: httpx.Response) -> bytes:
        """Read the first block of a response's body."""

        async def first() -> bytes:
            return await anext(aiter(response.stream))  # type: ignore[arg-type]

        if self.runner is not None:
            return self.runner.run(first())
        return next(iter(response.stream))  # type: ignore[arg-type]

    def close_response(self, response: httpx.Response) -> None:
        """Close a response whose body may be unread."""
        if self.runner is not None:
            self.runner.run(response.aclose())
        else:
            response.close()

    def send(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        """Send a request and return the response and its body."""
        response = self.open(request)
        return response, self.read(response)

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds, and run the event loop of an async transport meanwhile."""
        if self.runner is not None:
            self.runner.run(asyncio.sleep(seconds))
        else:
            time.sleep(seconds)

    def sleep_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true; fail after 30 seconds."""
        until = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < until, "the condition does not become true"
            self.sleep(0.01)

    def shut_down(self) -> None:
        """Close the transport and its event loop."""
        if self.runner is not None:
            self.runner.run(self.async_transport.aclose())
            self.runner.run(asyncio.sleep(0))
            self.runner.close()
        else:
            self.transport.close()


MakeClient = Callable[..., TransportClient]


def build_request(
    url: str,
    method: str = "GET",
    *,
    headers: Any = (),
    body: UploadStream | None = None,
    content: bytes | None = None,
    **timeouts: float,
) -> httpx.Request:
    """Build a request as the runner does: first with its headers, then with its stream.

    Args:
        url, method, content: the arguments of `httpx.Request`.
        headers: further headers, as pairs of name and value.
        body: the stream to send; the request gets its length as Content-Length.
        timeouts: timeouts in seconds, by httpx's names (`connect`, `read`, `write`, `pool`).
    """
    limits = httpx.Timeout(SECONDS).as_dict() | timeouts
    pairs = [("Accept-Encoding", "identity"), *headers]
    if body is not None:
        pairs.append(("Content-Length", str(body.count * body.size)))
    request = httpx.Request(
        method, url, headers=pairs, content=content, extensions={"timeout": limits}
    )
    if body is not None:
        request.stream = body
    return request
