"""The async counterparts of the blob reader and the blob writer in `blob_io`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import cached_property
from types import TracebackType
from typing import Self

from dockhand_core.blob_io import Reader, Writer, slices
from dockhand_core.errors import ConnectionFailed
from dockhand_core.flow.one_ahead import OneAhead
from dockhand_core.http.async_runner import AsyncRunner

__all__ = ["AsyncBlobReader", "AsyncBlobWriter"]


class AsyncBlobReader(Reader[AsyncRunner]):
    """A reader that streams a blob; the async counterpart of `BlobReader`.

    Call `await read(n)` or iterate with `async for`, in an `async with` statement.
    """

    @cached_property
    def _blocks(self) -> AsyncGenerator[bytes, None]:
        return self._iterate()

    async def _iterate(self) -> AsyncGenerator[bytes, None]:
        state, ahead = self._state, OneAhead()
        if self._reply is None:
            self._reply = await self._runner.run(state.connect())
        while True:
            try:
                async with aclosing(self._reply.stream.aiterate()) as blocks:
                    async for block in blocks:
                        state.count(block)
                        await ahead.hash(len(block), state.hash, block)
                        yield block
                await ahead.settle()
                state.check_end()
                return
            except ConnectionFailed as error:
                self._reply = await self._runner.run(state.reconnect(error))
            finally:
                await ahead.settle()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the rest of the blob, block by block."""
        self._check_open()
        if self._buffer:
            yield self._buffer.take(len(self._buffer))
        async for block in self._blocks:
            yield block
        self._check_complete()

    async def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, or fewer at the end of the blob; -1 reads all remaining bytes."""
        self._check_open()
        while size < 0 or len(self._buffer) < size:
            block = await anext(self._blocks, None)
            if block is None:
                self._check_complete()
                break
            self._buffer.add(block)
        return self._buffer.take(len(self._buffer) if size < 0 else size)

    async def close(self) -> None:
        """Stop reading and release the connection."""
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
    """A writer that uploads a blob; the async counterpart of `BlobWriter`.

    Call `await write(data)` in an `async with` statement.
    """

    async def write(self, data: bytes) -> int:
        """Add bytes to the blob, and return their number."""
        self._check_open()
        for block in slices(data):
            if self._upload.add(block):
                await self._runner.run(self._upload.send_chunks())
        return len(data)

    async def __aenter__(self) -> Self:
        await self._runner.run(self._upload.begin())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            await self._runner.run(self._upload.cancel())
        else:
            await self._runner.run(self._upload.finish())
