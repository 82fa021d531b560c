"""Upload of a blob whose bytes come one after the other: buffered in chunks and hashed."""

from __future__ import annotations

from contextlib import suppress

from dockhand_core.driver import CHUNK, RegistryDriver
from dockhand_core.errors import DockhandError
from dockhand_core.flow import Flow
from dockhand_core.models import (
    Digest,
    PushResult,
    Upload,
    check_digest,
    check_repository,
    new_hasher,
)

__all__ = ["ChunkedUpload"]


class ChunkedUpload:
    """The upload of a blob in chunks.

    Args:
        driver: the driver of the registry.
        repository: the repository's name.
        algorithm: the algorithm of the blob's digest, `sha256` or `sha512`.

    Attributes:
        upload: the upload in progress, or None before `begin` and after the end.
        result: the result of the push, once `finish` has succeeded.
        size: bytes added so far.
    """

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
        """The digest of the blob, once the upload has ended."""
        if self.result is None:
            raise DockhandError("the digest is known when the upload has ended")
        return self.result.digest

    @property
    def _chunk_size(self) -> int:
        return max(CHUNK, self.upload.min_chunk if self.upload else 0)

    def add(self, data: bytes) -> bool:
        """Buffer bytes; True when there is a chunk to send with `send_chunks`."""
        self._hasher.update(data)
        self._pending += data
        self.size += len(data)
        return len(self._pending) >= self._chunk_size

    def begin(self) -> Flow[None]:
        """Begin the upload."""
        self.upload = yield from self.driver.start_upload(self.repository)

    def send_chunks(self) -> Flow[None]:
        """Send the complete chunks of the buffer."""
        assert self.upload is not None
        while len(self._pending) >= self._chunk_size:
            chunk = bytes(self._pending[: self._chunk_size])
            self.upload = yield from self.driver.upload_chunk(self.upload, chunk)
            del self._pending[: len(chunk)]

    def finish(self, expected: Digest | None = None) -> Flow[None]:
        """Send the rest and end the upload; where that fails, cancel it.

        Args:
            expected: the digest that the bytes must have, where it is known.

        Raises:
            DigestMismatch: the bytes have another digest; the registry keeps nothing.
        """
        try:
            yield from self._finish(expected)
        except GeneratorExit:
            raise
        except BaseException:
            yield from self.cancel()
            raise
        self.upload = None

    def _finish(self, expected: Digest | None) -> Flow[None]:
        assert self.upload is not None
        digest = Digest(f"{self._algorithm}:{self._hasher.hexdigest()}")
        if expected is not None:
            check_digest(expected, digest, f"repository {self.repository}: the data")
        if self._pending:
            self.upload = yield from self.driver.upload_chunk(self.upload, bytes(self._pending))
            self._pending.clear()
        self.result = yield from self.driver.finish_upload(self.upload, digest)

    def cancel(self) -> Flow[None]:
        """Cancel the upload, if one is in progress.

        An error of the cancellation is suppressed: the error that led to it matters more.
        """
        upload, self.upload = self.upload, None
        self._pending.clear()
        if upload is None:
            return
        with suppress(DockhandError):
            yield from self.driver.cancel_upload(upload)
