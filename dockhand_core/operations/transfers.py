"""The download of a blob that is verified and resumed, block by block."""

from __future__ import annotations

from collections.abc import Callable

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ConnectionFailed, DigestMismatch
from dockhand_core.flow import Flow, drain
from dockhand_core.models import Descriptor, check_hash

__all__ = ["CONCURRENCY", "fetch_blob"]

CONCURRENCY = 8  # blobs at a time


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
