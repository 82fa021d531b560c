"""A limit on the number of asynchronous requests in progress.

The connection pools of httpcore and aiohttp have such a limit too, but theirs are not used: if a
request is cancelled while it waits for a connection, httpcore 1.0 loses that connection's place in
the pool permanently; and aiohttp has no timeout for the wait.
"""

from __future__ import annotations

import asyncio

import httpx

__all__ = ["Slots"]


class Slots:
    """Slots for requests: taken before a request is sent, released when its reply is closed.

    Args:
        count: the number of slots.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    async def take(self, timeout: float | None) -> None:
        """Wait for a free slot.

        Args:
            timeout: maximum time to wait in seconds; None for no limit.

        Raises:
            httpx.PoolTimeout: no slot became free in time.
        """
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(timeout):
                await self._free.acquire()
        except TimeoutError as error:
            raise httpx.PoolTimeout("every connection is in use") from error

    def release(self) -> None:
        """Release one slot."""
        self._free.release()
