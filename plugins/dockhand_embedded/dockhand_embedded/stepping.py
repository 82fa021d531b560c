"""Advancing the registry's generator from an event loop, without holding the loop up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from dockhand_embedded.replies import Reply, Steps

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
