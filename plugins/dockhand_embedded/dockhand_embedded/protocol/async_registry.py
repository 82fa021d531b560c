"""Advancing the registry's generator from an event loop, without holding the loop up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from dockhand_embedded.protocol.messages import CHUNK, Reply, Request, Steps
from dockhand_embedded.protocol.registry import Registry

T = TypeVar("T")


class Step:
    """One advance of the registry's generator.

    It keeps the reply, as threads cannot raise `StopIteration` into a coroutine.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.reply: Reply | None = None

    def __call__(self, piece: bytes | None) -> None:
        """Push a piece of the body; None to begin, `b""` at the body's end."""
        try:
            if piece is None:
                next(self._steps)
            else:
                self._steps.send(piece)
        except StopIteration as done:
            self.reply = done.value


async def run(step: Callable[[T], Any], argument: T, *, inline: bool) -> Any:
    """Call a step, in a thread unless it is known never to wait."""
    if inline:
        return step(argument)
    work = asyncio.ensure_future(asyncio.to_thread(step, argument))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        # A thread cannot be stopped, and what it uses must not be closed under its hands.
        await asyncio.wait([work])
        raise


async def drive(
    registry: Registry,
    request: Request,
    pieces: AsyncGenerator[bytes, None],
    *,
    inline: bool,
    ahead: bool = False,
) -> Reply:
    """Answer a request whose body arrives in pieces; the reply can come before the body's end.

    No thread is held while the next piece is awaited, so any number of uploads can be under way,
    also such as read from this very registry. What `pieces` raises comes out as it is; the bytes
    before it are kept, so that an upload can be carried on from there.

    Args:
        registry: who answers.
        request: without its body.
        pieces: the body; closed at the end.
        inline: no step waits for anything. Hashing takes its time all the same: only the first
            MiB of a body stays out of threads.
        ahead: receive a piece while the one before is being kept. Each is then taken from
            `pieces` in a task of its own, which not every generator can bear.
    """
    steps = registry.steps(request)
    step = Step(steps)
    received = 0
    try:
        await run(step, None, inline=inline)
        if step.reply is None:
            async with aclosing(_ahead(pieces) if ahead else pieces) as body:
                async for piece in body:
                    received += len(piece)
                    await run(step, piece, inline=inline and received <= CHUNK)
                    if step.reply is not None:
                        break
        if step.reply is None:
            await run(step, b"", inline=inline and received <= CHUNK)
    except BaseException:
        if step.reply is not None:
            step.reply.close()
        raise
    finally:
        steps.close()
    if step.reply is None:
        raise RuntimeError("the registry asked for more after the end of the body")
    return step.reply


async def _ahead(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same pieces, the next of which is awaited while one is in use."""
    upcoming = asyncio.ensure_future(anext(pieces, None))
    try:
        while (piece := await upcoming) is not None:
            upcoming = asyncio.ensure_future(anext(pieces, None))
            yield piece
    finally:
        upcoming.cancel()
        # It may have ended with an error that nobody came to see.
        await asyncio.wait([upcoming])
        if not upcoming.cancelled():
            upcoming.exception()
        await pieces.aclose()
