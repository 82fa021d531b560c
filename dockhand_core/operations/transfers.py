"""Transfers of several blobs at a time: their progress, and the verified download of one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ConnectionFailed, DigestMismatch
from dockhand_core.flow import Flow, Progress, drain
from dockhand_core.models import Descriptor, check_hash

__all__ = ["CONCURRENCY", "TotalProgress", "fetch_blob"]

CONCURRENCY = 8  # blobs at a time

T = TypeVar("T")


class TotalProgress:
    """The progress of several blobs at a time; the number of bytes never falls.

    Args:
        progress: called with the bytes that are done and the total; or None.
        total: number of bytes of all blobs.
    """

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total = progress, total
        self._done: dict[str, int] = {}
        self._sum = 0
        self._lock = threading.Lock()

    def report(self, key: str, done: int) -> None:
        """Report the bytes of a blob that are done; fewer than before are ignored.

        Args:
            key: the blob.
            done: number of bytes.
        """
        if self._progress is None:
            return
        with self._lock:  # while it is called, too: otherwise the numbers might overtake each other
            more = done - self._done.get(key, 0)
            if more > 0:
                self._done[key] = done
                self._sum += more
                self._progress(self._sum, self._total)


def fetch_blob(
    driver: RegistryDriver,
    repository: str,
    blob: Descriptor,
    sink: Callable[[bytes], object],
    progress: Callable[[int], object],
) -> Flow[None]:
    """Fetch a blob block by block, and verify it; if the connection breaks, resume there.

    Args:
        driver: the registry driver.
        repository: the repository's name.
        blob: the blob's descriptor; the blob must have exactly its size.
        sink: called with each block; what it gets must not be used before this flow has ended.
        progress: called with the number of bytes so far.

    Raises:
        BlobUnknown: the blob does not exist.
        DigestMismatch: the bytes have another digest or size.
    """
    hasher = blob.digest.hasher()
    attempts = driver.retry.attempts()
    position = 0
    subject = f"repository {repository}: the blob {blob.digest}"

    def add(block: bytes) -> None:
        nonlocal position
        if position + len(block) > blob.size:
            raise DigestMismatch(
                f"{subject} has more than {blob.size} bytes, the size in its descriptor",
                expected=blob.digest,
            )
        hasher.update(block)
        sink(block)
        position += len(block)
        attempts.progressed()
        progress(position)

    while True:
        try:
            reply = yield from driver.open_blob(repository, blob, offset=position)
            yield from drain(reply.stream, add)
            if position >= blob.size:
                break
            failure = ConnectionFailed(f"{subject} ended at byte {position} of {blob.size}")
        except ConnectionFailed as error:
            if position == blob.size > 0:
                break
            failure = error
        yield from attempts.wait_after(failure)
    check_hash(blob.digest, hasher, subject)
