"""Transfers of blobs: the progress of several, and a download that is verified and resumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeAlias

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ConnectionFailed, DigestMismatch
from dockhand_core.flow import Flow, Progress, drain
from dockhand_core.models import BlobProgress, BlobState, Descriptor, check_hash

__all__ = ["CONCURRENCY", "BlobFunction", "TransferProgress", "fetch_blob"]

CONCURRENCY = 8  # blobs at a time

BlobFunction: TypeAlias = Callable[[BlobProgress], object]


class TransferProgress:
    """The progress of transfers: the bytes of all distinct blobs in total, and of each blob.

    The functions are called one at a time. The total number of bytes that are done never falls.

    Args:
        function: called with the number of bytes that are done, and with the total, which is None
            until all images are planned; or None.
        each: called with the progress of single blobs; or None. After it has raised an exception,
            which ends the operation, it is not called again.

    Attributes:
        unplanned: number of images whose blobs are not known.
    """

    def __init__(self, function: Progress | None, each: BlobFunction | None = None) -> None:
        self._function, self._each = function, each
        self._sizes: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        self._done = self._total = 0
        self.unplanned = 1
        self._lock = threading.RLock()

    def begin(self) -> None:
        """Report the beginning."""
        if self._function is not None:
            self._function(0, None)

    def plan(self, blobs: Iterable[Descriptor]) -> None:
        """Add the blobs of one image to the total."""
        with self._lock:
            self.unplanned -= 1
            for blob in blobs:
                if blob.digest not in self._sizes:
                    self._sizes[blob.digest] = blob.size
                    self._total += blob.size
        self.report()

    def report(self) -> None:
        """Report what is done."""
        if self._function is not None:
            with self._lock:
                self._function(self._done, None if self.unplanned else self._total)

    def transfer(
        self, blob: Descriptor, work: Callable[[Callable[[int], None]], Flow[BlobState]]
    ) -> Flow[None]:
        """Run the transfer of a blob, and report its progress and its outcome.

        Args:
            blob: the blob's descriptor.
            work: makes the flow that transfers the blob and returns the outcome. Its argument is a
                function to call with the number of bytes so far, which falls if the transfer begins
                again.
        """
        done = 0

        def sent(count: int) -> None:
            nonlocal done
            done = min(count, blob.size)
            self._report_blob(blob, done, "moving")

        try:
            outcome = yield from work(sent)
        except GeneratorExit:
            raise
        except BaseException:
            self._report_blob(blob, done, "failed")
            raise
        self._report_blob(blob, blob.size, outcome)

    def _report_blob(self, blob: Descriptor, done: int, state: BlobState) -> None:
        with self._lock:
            if self._each is not None:
                each, self._each = self._each, None
                each(BlobProgress(blob, done, state))
                self._each = each
            counted = self._sent.get(blob.digest, 0)
            more = min(done, self._sizes[blob.digest]) - counted
            if more > 0:
                self._sent[blob.digest] = counted + more
                self._done += more
                self.report()


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
        sink: called with each block; the blocks are verified only when this flow has ended.
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
