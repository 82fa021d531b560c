"""What a caller holds in the hand: the blob reader, the blob writer, the walk over pages.

The parts without I/O are here once; the async twins are in `ahandles`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from functools import cached_property
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from dockhand_core.driver import CHUNK, RegistryDriver
from dockhand_core.errors import ConnectionFailed, DigestMismatch, DockhandError, ResponseInvalid
from dockhand_core.flow import BLOCK, Flow, Reply
from dockhand_core.http.runners import AsyncRunner, SyncRunner
from dockhand_core.models import Digest, Page, PushResult, Upload, check_repository
from dockhand_core.models.digest import Hasher, new_hasher

__all__ = ["BlobReader", "BlobWriter", "PageWalk"]

T = TypeVar("T")
R = TypeVar("R", SyncRunner, AsyncRunner)

EMPTY_PAGES = 10  # in a row, before a registry's pages are taken to have no end


class PageWalk(Generic[T]):
    """Walks from page to page, and notices when they lead in a circle.

    Args:
        fetch: the flow for the page after a position; None is the first.
    """

    def __init__(self, fetch: Callable[[str | None], Flow[Page[T]]]) -> None:
        self._fetch = fetch
        self._after: str | None = None
        self._last: tuple[T, ...] = ()
        self._empty = 0
        self.more = True

    def page(self) -> Flow[tuple[T, ...]]:
        """The items of the next page."""
        page = yield from self._fetch(self._after)
        self._empty = 0 if page.items else self._empty + 1
        same = bool(page.items) and page.items == self._last
        if page.next is not None and (
            page.next == self._after or same or self._empty > EMPTY_PAGES
        ):
            raise ResponseInvalid(
                "the registry's pages lead in a circle: the page after "
                f"{self._after!r} has nothing new and says that there is more"
            )
        self._after, self._last, self.more = page.next, page.items, page.next is not None
        return page.items


class ReaderState:
    """How far a blob was read, its hash so far, and how to take a broken connection up again."""

    def __init__(
        self, driver: RegistryDriver, repository: str, digest: str, offset: int, verify: bool
    ) -> None:
        self._driver, self._repository = driver, check_repository(repository)
        self.digest = Digest(digest)
        if offset and verify:
            raise DockhandError("open_blob: offset needs verify=False: a part has no digest")
        if offset < 0:
            raise DockhandError(f"open_blob: offset is {offset}; it is 0 or more bytes")
        self._hasher: Hasher | None = self.digest.hasher() if verify else None
        self.position = offset
        self.size: int | None = None
        self._breaks = 0

    def connect(self) -> Flow[Reply]:
        """Ask for the blob from the present position on."""
        reply = yield from self._driver.open_blob(
            self._repository, self.digest, offset=self.position
        )
        if reply.stream.length is not None:
            self.size = self.position + reply.stream.length
        return reply

    def took(self, block: bytes) -> None:
        """A block was read."""
        self.position += len(block)
        self._breaks = 0  # what moves on may break again
        if self._hasher is not None:
            self._hasher.update(block)

    def broke(self, error: ConnectionFailed, limit: int) -> None:
        """The connection broke; raise if that happened too often without a byte in between."""
        self._breaks += 1
        if self._breaks > limit:
            raise error

    def ended(self) -> None:
        """The end was reached: check the digest."""
        if self._hasher is None:
            return
        actual = f"{self.digest.algorithm}:{self._hasher.hexdigest()}"
        if actual != self.digest:
            raise DigestMismatch(
                f"repository {self._repository}: blob {self.digest} has the digest {actual}",
                expected=self.digest,
                actual=actual,
            )


class Window:
    """Blocks of any size in, `read(n)` out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def put(self, block: bytes) -> None:
        self._data += block

    def get(self, count: int) -> bytes:
        found = bytes(self._data[:count])
        del self._data[:count]
        return found


class Reader(Generic[R]):
    """What both readers are, apart from reading."""

    def __init__(
        self,
        runner: R,
        driver: RegistryDriver,
        repository: str,
        digest: str,
        offset: int,
        verify: bool,
    ) -> None:
        self._runner: R = runner
        self._state = ReaderState(driver, repository, digest, offset, verify)
        self._window = Window()
        self._reply: Reply | None = None
        self._open = True

    @property
    def digest(self) -> Digest:
        """The blob's digest."""
        return self._state.digest

    @property
    def size(self) -> int | None:
        """Bytes in all, or None where that is not known (yet)."""
        return self._state.size

    @property
    def position(self) -> int:
        """Bytes that came from the registry so far."""
        return self._state.position

    def _check_open(self) -> None:
        if not self._open:
            raise DockhandError("the blob reader is closed")


class BlobReader(Reader[SyncRunner]):
    """A blob as it arrives: `read(n)`, or a loop over it. Use it in a `with` statement.

    Attributes:
        digest: the blob's.
        size: bytes in all, or None where the registry did not say; known once it is open.
        position: bytes read from the registry so far.
    """

    @cached_property
    def _blocks(self) -> Generator[bytes, None, None]:
        return self._iterate()

    def _iterate(self) -> Generator[bytes, None, None]:
        state = self._state
        while True:
            if self._reply is None:
                self._reply = self._runner.run(state.connect())
            try:
                with closing(self._reply.stream.iterate()) as blocks:
                    for block in blocks:
                        state.took(block)
                        yield block
                state.ended()
                return
            except ConnectionFailed as error:
                state.broke(error, self._runner.endpoint.retry.retries)
                self._reply = None

    def __iter__(self) -> Iterator[bytes]:
        """The rest of the blob, block by block."""
        self._check_open()
        if self._window:
            yield self._window.get(len(self._window))
        yield from self._blocks

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, fewer only at the end; all that is left for -1."""
        self._check_open()
        while size < 0 or len(self._window) < size:
            block = next(self._blocks, None)
            if block is None:
                break
            self._window.put(block)
        return self._window.get(len(self._window) if size < 0 else size)

    def close(self) -> None:
        """Stop reading, and give the connection back."""
        self._open = False
        self._blocks.close()
        if self._reply is not None:
            self._reply.stream.close()

    def __enter__(self) -> Self:
        self._reply = self._runner.run(self._state.connect())
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class WriterState:
    """What was written and not yet sent, the hash of all of it, and the upload."""

    def __init__(self, driver: RegistryDriver, repository: str, algorithm: str = "sha256") -> None:
        self.driver, self.repository = driver, check_repository(repository)
        self.upload: Upload | None = None
        self.result: PushResult | None = None
        self._algorithm = algorithm
        self._hasher = new_hasher(algorithm)
        self._pending = bytearray()
        self.size = 0

    @property
    def digest(self) -> Digest:
        """The digest of what was written."""
        if self.result is None:
            raise DockhandError("the blob writer has a digest when its block has ended")
        return self.result.digest

    def put(self, data: bytes) -> bool:
        """Take bytes; True when there is a chunk to send."""
        self._hasher.update(data)
        self._pending += data
        self.size += len(data)
        return len(self._pending) >= self._chunk

    @property
    def _chunk(self) -> int:
        return max(CHUNK, self.upload.min_chunk if self.upload else 0)

    def begin(self) -> Flow[None]:
        """Begin the upload."""
        self.upload = yield from self.driver.start_upload(self.repository)

    def send(self) -> Flow[None]:
        """Send whole chunks of what is pending."""
        assert self.upload is not None
        while len(self._pending) >= self._chunk:
            chunk = bytes(self._pending[: self._chunk])
            self.upload = yield from self.driver.upload_chunk(self.upload, chunk)
            del self._pending[: len(chunk)]

    def finish(self, expected: Digest | None = None) -> Flow[None]:
        """Send the rest and end the upload, unless it is not what was expected."""
        assert self.upload is not None
        digest = Digest(f"{self._algorithm}:{self._hasher.hexdigest()}")
        if expected is not None and digest != expected:
            raise DigestMismatch(
                f"repository {self.repository}: the data has the digest {digest}, not {expected}",
                expected=expected,
                actual=digest,
            )
        if self._pending:
            self.upload = yield from self.driver.upload_chunk(self.upload, bytes(self._pending))
            self._pending.clear()
        self.result = yield from self.driver.finish_upload(self.upload, digest)

    def finish_or_cancel(self, expected: Digest | None = None) -> Flow[None]:
        """End the upload; where that fails, give it up."""
        try:
            yield from self.finish(expected)
        except GeneratorExit:
            raise
        except BaseException:
            yield from self.cancel()
            raise
        self.upload = None

    def check_open(self) -> None:
        """Raise unless an upload is under way."""
        if self.upload is None:
            raise DockhandError("the blob writer is used in a with statement, and open only there")

    def cancel(self) -> Flow[None]:
        """Give the upload up; that it cannot be cancelled must not hide why it was."""
        upload, self.upload = self.upload, None
        self._pending.clear()
        if upload is None:
            return
        with suppress(DockhandError):
            yield from self.driver.cancel_upload(upload)


class Writer(Generic[R]):
    """What both writers are, apart from writing."""

    def __init__(self, runner: R, driver: RegistryDriver, repository: str) -> None:
        self._runner: R = runner
        self._state = WriterState(driver, repository)

    @property
    def digest(self) -> Digest:
        """The blob's digest, when the block has ended."""
        return self._state.digest

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._state.size

    @property
    def result(self) -> PushResult | None:
        """What was pushed, when the block has ended."""
        return self._state.result


class BlobWriter(Writer[SyncRunner]):
    """A blob as it is made: `write(data)` in a `with` statement; `digest` after it.

    Attributes:
        size: bytes written.
        result: the `PushResult`, when the block has ended.
    """

    def write(self, data: bytes) -> int:
        """Add bytes; how many there were."""
        self._state.check_open()
        for block in slices(data):
            if self._state.put(block):
                self._runner.run(self._state.send())
        return len(data)

    def __enter__(self) -> Self:
        self._runner.run(self._state.begin())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._runner.run(self._state.cancel())
        else:
            self._runner.run(self._state.finish_or_cancel())


def slices(data: Any) -> Iterator[bytes]:
    """Bytes-like data in pieces, so that a large write is not held twice."""
    view = memoryview(data).cast("B")
    for start in range(0, len(view), BLOCK):
        yield bytes(view[start : start + BLOCK])
