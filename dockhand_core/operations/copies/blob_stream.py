"""Blobs of one connection as request bodies for another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from typing import NoReturn, Self

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ConnectionFailed, DockhandError
from dockhand_core.flow import Flow, Peer, Reply, discard
from dockhand_core.models import Descriptor

__all__ = ["BlobStream", "blob_stream"]


class BlobStream:
    """A blob that is received while it is sent; a `Source`.

    Nothing is buffered: a block is requested from the source when the target has taken the one
    before. If the connection to the source breaks, the blob is requested from that byte on. The
    bytes are not verified here, see `flow.verified`.

    Args:
        peer: the connection to the source.
        driver: its driver.
        repository: the repository that has the blob.
        blob: the blob's descriptor.
        stopped: returns whether to give up; called before each block.
    """

    def __init__(
        self,
        peer: Peer,
        driver: RegistryDriver,
        repository: str,
        blob: Descriptor,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._peer, self._driver = peer, driver
        self._repository, self._blob = repository, blob
        self._stopped = stopped
        self._start = 0
        self._replies: list[Reply] = []  # at most one, shared by the views that `skip` returns

    @property
    def size(self) -> int:
        """Size of the body in bytes."""
        return self._blob.size - self._start

    def skip(self, count: int) -> Self:
        """The same body without its first `count` bytes."""
        view = type(self)(self._peer, self._driver, self._repository, self._blob, self._stopped)
        view._start = self._start + count
        view._replies = self._replies
        return view

    def release(self) -> Flow[None]:
        """Close the connection, if it is still open; the runner of any connection can do it."""
        while self._replies:
            yield from discard(self._replies.pop().stream)

    def _connect(self, position: int) -> Flow[Reply]:
        """Request the blob from a position on."""
        yield from self.release()
        reply = yield from self._driver.open_blob(self._repository, self._blob, offset=position)
        self._replies.append(reply)
        return reply

    def _check(self) -> None:
        if self._stopped():
            raise DockhandError(f"repository {self._repository}: the copy was stopped")

    def _is_at_end(self, position: int) -> bool:
        return position >= self._blob.size

    def _cut(self, position: int) -> ConnectionFailed:
        return ConnectionFailed(
            f"the source's repository {self._repository}: the blob {self._blob.digest} ended at "
            f"byte {position} of {self._blob.size}"
        )


class SyncBlobStream(BlobStream):
    """A `BlobStream` of sync clients."""

    def open(self) -> Generator[bytes, None, None]:
        """Iterate over the blocks as they arrive."""
        attempts = self._driver.retry.attempts()
        position = self._start
        while True:
            try:
                reply: Reply = self._peer.run(self._connect(position))
                with closing(reply.stream.iterate()) as blocks:
                    for block in blocks:
                        self._check()
                        position += len(block)
                        attempts.progressed()
                        yield block
                if self._is_at_end(position):
                    return
                failure = self._cut(position)
            except ConnectionFailed as error:
                if self._is_at_end(position) and position:
                    return
                failure = error
            self._peer.run(attempts.wait_after(failure))

    def __iter__(self) -> Generator[bytes, None, None]:
        return self.open()


class AsyncBlobStream(BlobStream):
    """A `BlobStream` of async clients."""

    def open(self) -> NoReturn:
        """Refuse: an async connection cannot be read by blocking code."""
        raise TypeError("the blob of an async client is read with aopen()")

    async def aopen(self) -> AsyncGenerator[bytes, None]:
        """Iterate over the blocks as they arrive."""
        attempts = self._driver.retry.attempts()
        position = self._start
        while True:
            try:
                reply: Reply = await self._peer.run(self._connect(position))
                async with aclosing(reply.stream.aiterate()) as blocks:
                    async for block in blocks:
                        self._check()
                        position += len(block)
                        attempts.progressed()
                        yield block
                if self._is_at_end(position):
                    return
                failure = self._cut(position)
            except ConnectionFailed as error:
                if self._is_at_end(position) and position:
                    return
                failure = error
            await self._peer.run(attempts.wait_after(failure))

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self.aopen()


def blob_stream(
    peer: Peer,
    driver: RegistryDriver,
    repository: str,
    blob: Descriptor,
    stopped: Callable[[], bool] = lambda: False,
) -> SyncBlobStream | AsyncBlobStream:
    """Make a source of a blob of another connection; see `BlobStream`."""
    kind = AsyncBlobStream if peer.asynchronous else SyncBlobStream
    return kind(peer, driver, repository, blob, stopped)
