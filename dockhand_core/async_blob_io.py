"""The async twins of what a caller holds in the hand; see `handles`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import cached_property
from types import TracebackType
from typing import Self

from dockhand_core.blob_io import Reader, Writer, slices
from dockhand_core.errors import ConnectionFailed
from dockhand_core.http.runners import AsyncRunner

__all__ = ["AsyncBlobReader", "AsyncBlobWriter"]


class AsyncBlobReader(Reader[AsyncRunner]):
    """A blob as it arrives: `await read(n)`, or an `async for`. Use it in an `async with`."""

    @cached_property
    def _blocks(self) -> AsyncGenerator[bytes, None]:
        return self._iterate()

    async def _iterate(self) -> AsyncGenerator[bytes, None]:
        state = self._state
        while True:
            if self._reply is None:
                self._reply = await self._runner.run(state.connect())
            try:
                async with aclosing(self._reply.stream.aiterate()) as blocks:
                    async for block in blocks:
                        state.took(block)
                        yield block
                state.ended()
                return
            except ConnectionFailed as error:
                state.broke(error, self._runner.endpoint.retry.retries)
                self._reply = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The rest of the blob, block by block."""
        self._check_open()
        if self._window:
            yield self._window.get(len(self._window))
        async for block in self._blocks:
            yield block

    async def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, fewer only at the end; all that is left for -1."""
        self._check_open()
        while size < 0 or len(self._window) < size:
            block = await anext(self._blocks, None)
            if block is None:
                break
            self._window.put(block)
        return self._window.get(len(self._window) if size < 0 else size)

    async def close(self) -> None:
        """Stop reading, and give the connection back."""
        self._open = False
        await self._blocks.aclose()
        if self._reply is not None:
            await self._reply.stream.aclose()

    async def __aenter__(self) -> Self:
        self._reply = await self._runner.run(self._state.connect())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class AsyncBlobWriter(Writer[AsyncRunner]):
    """A blob as it is made: `await write(data)` in an `async with`; `digest` after it."""

    async def write(self, data: bytes) -> int:
        """Add bytes; how many there were."""
        self._state.check_open()
        for block in slices(data):
            if self._state.put(block):
                await self._runner.run(self._state.send())
        return len(data)

    async def __aenter__(self) -> Self:
        await self._runner.run(self._state.begin())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            await self._runner.run(self._state.cancel())
        else:
            await self._runner.run(self._state.finish_or_cancel())
