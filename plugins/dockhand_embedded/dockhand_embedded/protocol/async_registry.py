"""Handling of requests in an event loop; work that may block runs in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from dockhand_embedded.protocol.messages import (
    PIECE_SIZE,
    RegistryReply,
    RegistryRequest,
    ReplyGenerator,
)
from dockhand_embedded.protocol.registry import Registry

T = TypeVar("T")


class _PendingReply:
    """A reply generator, and its reply after the generator has returned.

    The reply is kept here because `StopIteration`, which contains it, cannot be raised from a
    thread into a coroutine.
    """

    def __init__(self, generator: ReplyGenerator) -> None:
        self._generator = generator
        self.reply: RegistryReply | None = None

    def advance(self, piece: bytes | None) -> None:
        """Send a piece of the body: None to begin, `b""` at the end of the body."""
        try:
            if piece is None:
                next(self._generator)
            else:
                self._generator.send(piece)
        except StopIteration as done:
            self.reply = done.value


async def run_blocking(function: Callable[[T], Any], argument: T, *, inline: bool) -> Any:
    """Call a function: directly if `inline` is true, otherwise in a thread.

    If the calling task is cancelled, this function still waits until the thread is done.
    """
    if inline:
        return function(argument)
    work = asyncio.ensure_future(asyncio.to_thread(function, argument))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        # A thread cannot be stopped, and the files that it uses must not be closed before it ends.
        await asyncio.wait([work])
        raise


async def handle_async(
    registry: Registry,
    request: RegistryRequest,
    pieces: AsyncGenerator[bytes, None],
    *,
    inline: bool,
    prefetch: bool = False,
) -> RegistryReply:
    """Answer a request whose body arrives in pieces.

    The reply may be complete before the end of the body. No thread is occupied while the next piece
    is awaited, so any number of uploads can be in progress, including uploads whose bodies are read
    from this registry. An exception raised by `pieces` propagates unchanged; the bytes before the
    exception stay in the upload, which can be continued.

    Args:
        registry: the registry.
        request: the request, without its body.
        pieces: the body; the generator is closed at the end.
        inline: use no threads, because the storage never blocks. Hashing still takes time, so
            threads handle the pieces after the first MiB of the body.
        prefetch: receive the next piece while a piece is being stored. Each piece is then received
            in a separate task, which not every generator supports.
    """
    generator = registry.reply_generator(request)
    pending = _PendingReply(generator)
    received = 0
    try:
        await run_blocking(pending.advance, None, inline=inline)
        if pending.reply is None:
            async with aclosing(_prefetch(pieces) if prefetch else pieces) as body:
                async for piece in body:
                    received += len(piece)
                    await run_blocking(
                        pending.advance, piece, inline=inline and received <= PIECE_SIZE
                    )
                    if pending.reply is not None:
                        break
        if pending.reply is None:
            await run_blocking(pending.advance, b"", inline=inline and received <= PIECE_SIZE)
    except BaseException:
        if pending.reply is not None:
            pending.reply.close()
        raise
    finally:
        generator.close()
    if pending.reply is None:
        raise RuntimeError("the reply generator expects more pieces after the end of the body")
    return pending.reply


async def _prefetch(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a body, and receive the next piece while the caller works on one."""
    upcoming = asyncio.ensure_future(anext(pieces, None))
    try:
        while (piece := await upcoming) is not None:
            upcoming = asyncio.ensure_future(anext(pieces, None))
            yield piece
    finally:
        upcoming.cancel()
        # Retrieve an exception that nothing has awaited, so that asyncio does not log it.
        await asyncio.wait([upcoming])
        if not upcoming.cancelled():
            upcoming.exception()
        await pieces.aclose()
