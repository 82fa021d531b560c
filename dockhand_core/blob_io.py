"""Blob readers and writers.

The async readers and writers in `async_blob_io` share the classes here that do no I/O.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from functools import cached_property
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ConnectionFailed, DockhandError
from dockhand_core.flow import BLOCK, Attempts, Flow, Reply
from dockhand_core.http.async_runner import AsyncRunner
from dockhand_core.http.sync_runner import SyncRunner
from dockhand_core.models import (
    Descriptor,
    Digest,
    Hasher,
    PushResult,
    check_hash,
    check_repository,
)
from dockhand_core.operations import BufferedUpload

__all__ = ["BlobReader", "BlobWriter"]

T = TypeVar("T")
R = TypeVar("R", SyncRunner, AsyncRunner)


class ReaderState:
    """The state of a blob reader.

    It consists of the position, the hash so far, and the number of failures since the last byte.
    """

    def __init__(
        self,
        driver: RegistryDriver,
        repository: str,
        blob: str | Descriptor,
        offset: int,
        verify: bool,
        max_size: int | None,
        attempts: Attempts,
    ) -> None:
        self._driver, self._repository = driver, check_repository(repository)
        self._blob = blob
        self._options = {} if max_size is None else {"max_size": max_size}
        self.digest = Digest(blob.digest if isinstance(blob, Descriptor) else blob)
        if offset and verify:
            raise DockhandError("open_blob: offset needs verify=False: a part has no digest")
        if offset < 0:
            raise DockhandError(f"open_blob: offset is {offset}; it is 0 or more bytes")
        self._hasher: Hasher | None = self.digest.hasher() if verify else None
        self.position = offset
        self.size: int | None = None
        self._attempts = attempts
        self.ended = False

    def connect(self) -> Flow[Reply]:
        """Request the blob, starting at the current position."""
        reply = yield from self._driver.open_blob(
            self._repository, self._blob, offset=self.position, **self._options
        )
        if reply.stream.length is not None:
            self.size = self.position + reply.stream.length
        return reply

    def reconnect(self, error: ConnectionFailed) -> Flow[Reply]:
        """Wait, then request the rest of the blob.

        Raises:
            ConnectionFailed: `error` itself, after too many failures with no byte received in
                between.
        """
        yield from self._attempts.wait_after(error)
        return (yield from self.connect())

    def add(self, block: bytes) -> None:
        """Count and hash a block that was received."""
        self.count(block)
        self.hash(block)

    def count(self, block: bytes) -> None:
        """Count a block that was received."""
        self.position += len(block)
        self._attempts.progressed()

    def hash(self, block: bytes) -> None:
        """Hash a block; it may happen in another thread."""
        if self._hasher is not None:
            self._hasher.update(block)

    def check_end(self) -> None:
        """Compare the hash with the digest; called at the end of the blob.

        Raises:
            DigestMismatch: the hash and the digest differ.
        """
        self.ended = True
        if self._hasher is not None:
            check_hash(self.digest, self._hasher, f"repository {self._repository}: the blob")


class ReadBuffer:
    """A buffer that is filled with blocks of any size, and read `count` bytes at a time."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def add(self, block: bytes) -> None:
        self._data += block

    def take(self, count: int) -> bytes:
        found = bytes(self._data[:count])
        del self._data[:count]
        return found


class Reader(Generic[R]):
    """The part that `BlobReader` and `AsyncBlobReader` share; it does no I/O."""

    def __init__(
        self,
        runner: R,
        driver: RegistryDriver,
        repository: str,
        blob: str | Descriptor,
        offset: int,
        verify: bool,
        max_size: int | None,
    ) -> None:
        self._runner: R = runner
        attempts = runner.endpoint.retry.attempts()
        self._state = ReaderState(driver, repository, blob, offset, verify, max_size, attempts)
        self._buffer = ReadBuffer()
        self._reply: Reply | None = None
        self._open = True

    @property
    def digest(self) -> Digest:
        """The blob's digest."""
        return self._state.digest

    @property
    def size(self) -> int | None:
        """Size of the whole blob in bytes, or None while it is not known."""
        return self._state.size

    @property
    def position(self) -> int:
        """Offset in the blob up to which bytes were received, including those not yet returned."""
        return self._state.position

    def _check_open(self) -> None:
        if not self._open:
            raise DockhandError("the blob reader is closed")

    def _check_complete(self) -> None:
        if not self._state.ended:  # an earlier error or cancellation has ended the iteration
            raise DockhandError(
                f"the blob reader failed at byte {self._state.position}, before the end of the "
                "blob; open the blob again"
            )


class BlobReader(Reader[SyncRunner]):
    """A reader that streams a blob. Call `read(n)` or iterate over it, in a `with` statement.

    If the connection breaks, the reader waits, reconnects and resumes at the byte where it broke.

    Attributes:
        digest: the blob's digest.
        size: size of the whole blob in bytes; None if the registry did not announce it, or before
            the `with` statement is entered.
        position: offset in the blob up to which bytes were received, including received bytes that
            `read` has not returned yet.
    """

    @cached_property
    def _blocks(self) -> Generator[bytes, None, None]:
        return self._iterate()

    def _iterate(self) -> Generator[bytes, None, None]:
        state = self._state
        if self._reply is None:
            self._reply = self._runner.run(state.connect())
        while True:
            try:
                with closing(self._reply.stream.iterate()) as blocks:
                    for block in blocks:
                        state.add(block)
                        yield block
                state.check_end()
                return
            except ConnectionFailed as error:
                self._reply = self._runner.run(state.reconnect(error))

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the rest of the blob, block by block."""
        self._check_open()
        if self._buffer:
            yield self._buffer.take(len(self._buffer))
        # not `yield from`: if the caller leaves its loop, that would end the reader
        for block in self._blocks:  # noqa: UP028
            yield block
        self._check_complete()

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, or fewer at the end of the blob; -1 reads all remaining bytes."""
        self._check_open()
        while size < 0 or len(self._buffer) < size:
            block = next(self._blocks, None)
            if block is None:
                self._check_complete()
                break
            self._buffer.add(block)
        return self._buffer.take(len(self._buffer) if size < 0 else size)

    def close(self) -> None:
        """Stop reading and release the connection."""
        self._open = False
        self._blocks.close()
        if self._reply is not None:
            self._reply.stream.close()

    def __enter__(self) -> Self:
        self._reply = self._runner.run(self._state.connect())
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Writer(Generic[R]):
    """The part that `BlobWriter` and `AsyncBlobWriter` share; it does no I/O."""

    def __init__(self, runner: R, driver: RegistryDriver, repository: str) -> None:
        self._runner: R = runner
        self._upload = BufferedUpload(driver, repository)

    @property
    def digest(self) -> Digest:
        """The blob's digest; available after the `with` block."""
        return self._upload.digest

    @property
    def size(self) -> int:
        """Number of bytes written so far."""
        return self._upload.size

    def _check_open(self) -> None:
        if self._upload.upload is None:
            raise DockhandError("the blob writer is used in a with statement, and open only there")

    @property
    def result(self) -> PushResult | None:
        """The result of the push; None until the `with` block has ended without an exception."""
        return self._upload.result


class BlobWriter(Writer[SyncRunner]):
    """A writer that uploads a blob. Call `write(data)` in a `with` statement.

    The upload is finished at the end of the `with` block. An exception inside the block cancels it.

    Attributes:
        digest: the blob's digest; available after the `with` block.
        size: number of bytes written so far.
        result: the `PushResult`; None until the `with` block has ended without an exception.
    """

    def write(self, data: bytes) -> int:
        """Add bytes to the blob, and return their number."""
        self._check_open()
        for block in slices(data):
            if self._upload.add(block):
                self._runner.run(self._upload.send_chunks())
        return len(data)

    def __enter__(self) -> Self:
        self._runner.run(self._upload.begin())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._runner.run(self._upload.cancel())
        else:
            self._runner.run(self._upload.finish())


def slices(data: Any) -> Iterator[bytes]:
    """Iterate over bytes-like data in blocks, so that a large write is never copied as a whole."""
    view = memoryview(data).cast("B")
    for start in range(0, len(view), BLOCK):
        yield bytes(view[start : start + BLOCK])
