"""Large reply bodies of aiohttp, received into one buffer instead of many small `bytes` objects.

aiohttp's parser makes an object of each piece that the socket has, which wakes the reader: for a
large body, that takes as long as hashing it. Here the rest of a body with a known length is
received by a `BufferedProtocol`, which takes the connection over from aiohttp, below its TLS and
proxies, and gives it back at the end of the body.
"""

from __future__ import annotations

import asyncio
from typing import cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

__all__ = ["BULK", "BulkBody", "bulk_rest"]

BULK = 1 << 20  # bytes; the size of the buffer, and the least that is worth a takeover
_PAUSE = 0.01  # seconds until the reader gets a part of a block


def bulk_rest(response: aiohttp.ClientResponse) -> int:
    """The number of bytes that a `BulkBody` may receive; 0 if aiohttp has to receive the body.

    All bytes that aiohttp has received so far must have been read.
    """
    if "Transfer-Encoding" in response.headers or response.content.is_eof():
        return 0
    rest = (response.content_length or 0) - response.content.total_bytes
    connection = response.connection
    if rest < BULK or connection is None or connection.protocol is None:
        return 0
    transport = connection.protocol.transport
    return 0 if transport is None or transport.is_closing() else rest


class BulkBody(asyncio.BufferedProtocol):
    """The protocol of a connection while the rest of a reply's body is received.

    Args:
        response: aiohttp's response, for which `bulk_rest` is not 0.
        rest: the number of bytes to receive.
        timeout: the time in seconds in which some byte has to arrive; None for no limit.
    """

    def __init__(self, response: aiohttp.ClientResponse, rest: int, timeout: float | None) -> None:
        assert response.connection is not None
        self._loop = asyncio.get_running_loop()
        self._response, self._timeout = response, timeout
        self._protocol = cast("ResponseHandler", response.connection.protocol)
        self._transport = cast("asyncio.Transport", self._protocol.transport)
        self._buffer = memoryview(bytearray(min(rest, BULK)))
        self._filled = 0
        self._rest = rest
        self._paused = self._lost = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # aiohttp's timer would not see the bytes that arrive here
        self._protocol.read_timeout = None
        self._protocol.start_timeout()
        self._transport.set_protocol(self)

    async def read(self) -> bytes:
        """Wait for a block, and return it; empty at the end of the body.

        Less than a full buffer is returned if the connection is slow.

        Raises:
            TimeoutError: no byte arrived in time.
            aiohttp.ClientError: the connection was lost.
        """
        if self._rest and not self._lost and self._filled < len(self._buffer):
            self._waiter = self._loop.create_future()
            self._wait_for_bytes()
            try:
                await self._waiter
            finally:
                self._waiter = None
                if self._timer is not None:
                    self._timer.cancel()
        block = bytes(self._buffer[: self._filled])
        self._filled = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if not block and self._rest:
            raise self._response.content.exception() or aiohttp.ServerDisconnectedError()
        return block

    def _wait_for_bytes(self) -> None:
        """Wake the reader soon, or if nothing arrives in time."""
        seconds = _PAUSE if self._filled else self._timeout
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self._time_is_up)

    def _time_is_up(self) -> None:
        self._wake(None if self._filled else TimeoutError())

    def _wake(self, error: Exception | None = None) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if error is None:
            self._waiter.set_result(None)
        else:
            self._waiter.set_exception(error)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        if not self._rest:
            # Proactor loops may have read bytes beyond the body: the connection is not reusable.
            self._transport.abort()
            return memoryview(bytearray(BULK))
        return self._buffer[self._filled : self._filled + self._rest]

    def buffer_updated(self, nbytes: int) -> None:
        if not self._rest:
            return
        first = not self._filled
        self._filled += nbytes
        self._rest -= nbytes
        if not self._rest:
            self._give_back()
        elif self._filled == len(self._buffer):
            self._paused = True
            self._transport.pause_reading()
        elif first and self._waiter is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._wait_for_bytes()
            return
        else:
            return
        self._wake()

    def _give_back(self) -> None:
        self._transport.set_protocol(self._protocol)
        self._response.content.feed_eof()  # aiohttp then takes the connection into its pool

    def eof_received(self) -> None:
        self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._protocol.connection_lost(exc)
        self._wake()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
