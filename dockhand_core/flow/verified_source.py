"""Request bodies that are verified against a digest while they are sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing, suppress

from dockhand_core.errors import DigestMismatch
from dockhand_core.flow.background import Background
from dockhand_core.flow.one_ahead import OneAhead
from dockhand_core.flow.sources import AsyncSource, Source
from dockhand_core.models import Digest, check_hash

__all__ = ["AsyncVerifiedSource", "VerifiedSource", "verified"]


class _Hash:
    """The hash of a body, which may be read in several parts, or from the start again.

    Bytes that are read a second time are not hashed again.
    """

    def __init__(self, digest: Digest, size: int, subject: str) -> None:
        self.digest, self.size, self.subject = digest, size, subject
        self._hasher = digest.hasher()
        self._hashed = 0
        self.failure: Exception | None = None

    def add(self, position: int, block: bytes) -> None:
        """Hash a block that stands at a position of the body."""
        end = position + len(block)
        if position == 0:
            self._hasher, self._hashed = self.digest.hasher(), 0
        if position <= self._hashed < end:
            self._hasher.update(memoryview(block)[self._hashed - position :])
            self._hashed = end

    def check(self, position: int) -> None:
        """Check a body whose end was reached at a position.

        A body of which a part was not read is judged by its size alone.

        Raises:
            DigestMismatch: the size or the digest is wrong.
        """
        if position != self.size:
            raise DigestMismatch(
                f"{self.subject} has {'more' if position > self.size else 'fewer'} than "
                f"{self.size} bytes, so it does not have the digest {self.digest}",
                expected=self.digest,
            )
        if self._hashed == self.size:
            check_hash(self.digest, self._hasher, self.subject)


class _Reading:
    """One reading of a body, in which the newest block is held back."""

    def __init__(self, hashed: _Hash, start: int) -> None:
        self._hash, self._position = hashed, start
        self._held = b""

    def add(self, block: bytes, background: Background) -> bytes:
        """Hash a block in the background, and return the block before it, or nothing."""
        background.call(len(block), self._hash.add, self._position, block)
        return self._next(block)

    async def add_ahead(self, block: bytes, ahead: OneAhead) -> bytes:
        """Hash a block in a thread, and return the block before it, or nothing."""
        await ahead.hash(len(block), self._hash.add, self._position, block)
        return self._next(block)

    def _next(self, block: bytes) -> bytes:
        self._position += len(block)
        if self._position > self._hash.size:
            self._hash.check(self._position)
        held, self._held = self._held, block
        return held

    def end(self) -> bytes:
        """Check the digest, and return the last block."""
        self._hash.check(self._position)
        return self._held


class VerifiedSource:
    """A source that passes its last block on only if all blocks have the right digest.

    A registry that receives too few bytes never completes the blob.

    Args:
        source: the source.
        digest: the digest of the whole body.
        subject: the start of error messages.
        hashed, start: the state that the views which `skip` returns share.

    Raises:
        DigestMismatch: (raised by the iteration) the body has another digest or size.
    """

    def __init__(
        self,
        source: Source,
        digest: Digest,
        subject: str,
        *,
        hashed: _Hash | None = None,
        start: int = 0,
    ) -> None:
        self._source, self._digest, self._subject = source, digest, subject
        self._hash = hashed or _Hash(digest, source.size, subject)
        self._start = start

    @property
    def size(self) -> int:
        """Size of the body in bytes."""
        return self._source.size

    @property
    def digest(self) -> Digest:
        """The digest of the whole body."""
        return self._digest

    @property
    def failure(self) -> Exception | None:
        """The error that ended the last failed reading; it is not the receiver's."""
        return self._hash.failure

    def skip(self, count: int) -> VerifiedSource:
        """The same body without its first `count` bytes."""
        return type(self)(
            self._source.skip(count),
            self._digest,
            self._subject,
            hashed=self._hash,
            start=self._start + count,
        )

    def open(self) -> Iterator[bytes]:
        """Iterate over the blocks; the last one comes after the check."""
        reading, background = _Reading(self._hash, self._start), Background()
        blocks = self._source.open()
        try:
            for block in blocks:
                if held := reading.add(block, background):
                    yield held
            background.settle()
            if last := reading.end():
                yield last
        except Exception as error:
            self._hash.failure = error
            raise
        finally:
            with suppress(Exception):  # of a block that is not needed any more
                background.settle()
            if isinstance(blocks, Generator):
                blocks.close()

    def __iter__(self) -> Iterator[bytes]:
        return self.open()


class AsyncVerifiedSource(VerifiedSource):
    """A `VerifiedSource` of an async source."""

    async def aopen(self) -> AsyncGenerator[bytes, None]:
        """Iterate over the blocks; the last one comes after the check."""
        assert isinstance(self._source, AsyncSource)
        reading, ahead = _Reading(self._hash, self._start), OneAhead()
        try:
            async with aclosing(self._source.aopen()) as blocks:
                async for block in blocks:
                    if held := await reading.add_ahead(block, ahead):
                        yield held
            await ahead.settle()
            if last := reading.end():
                yield last
        except Exception as error:
            self._hash.failure = error
            raise
        finally:
            await ahead.settle()

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self.aopen()


def verified(source: Source, digest: Digest, subject: str) -> VerifiedSource:
    """Make a source that is verified while it is sent; `source` itself if it is one already.

    Args:
        source: the source, sync or async.
        digest: the digest of its bytes.
        subject: the start of error messages, such as `repository a/b: the data`.
    """
    if isinstance(source, VerifiedSource) and source.digest == digest:
        return source
    kind = AsyncVerifiedSource if isinstance(source, AsyncSource) else VerifiedSource
    return kind(source, digest, subject)
