"""Slots: the limit on asynchronous requests that are in progress at one time.

The libraries' own connection pools do not enforce the limit: httpcore 1.0 loses a slot for good
when a request is cancelled while it waits for one, and aiohttp has no timeout for that wait.
"""

from __future__ import annotations

import asyncio

import httpx

__all__ = ["Slots"]


class Slots:
    """Slots for requests: one is taken before a request and released when its reply is closed.

    Args:
        count: the number of slots.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    async def take(self, timeout: float | None) -> None:
        """Wait for a free slot.

        Args:
            timeout: seconds; None waits for ever.

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
