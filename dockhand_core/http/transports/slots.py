"""How many asynchronous requests may be under way at once, whatever carries them.

The libraries' own pools are not asked to count: httpcore 1.0 loses a place for good when a request
is cancelled while it waits for one, and aiohttp gives that wait no timeout of its own.
"""

from __future__ import annotations

import asyncio

import httpx

__all__ = ["Slots"]


class Slots:
    """Places for requests; each is taken before a request and given back when its reply is closed.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    async def take(self, timeout: float | None) -> None:
        """Wait for a place.

        Raises:
            httpx.PoolTimeout: none came free in that many seconds; None waits for ever.
        """
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(timeout):
                await self._free.acquire()
        except TimeoutError as error:
            raise httpx.PoolTimeout("every connection is in use") from error

    def give_back(self) -> None:
        """Let somebody else have the place."""
        self._free.release()
