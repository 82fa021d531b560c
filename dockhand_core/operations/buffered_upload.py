"""Upload of a blob from a stream of bytes, which are hashed and sent in chunks."""

from __future__ import annotations

from contextlib import suppress

from dockhand_core.driver import RegistryDriver
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

__all__ = ["BufferedUpload"]


class BufferedUpload:
    """The upload of a blob in chunks: `begin`, then `add` and `send_chunks`, then `finish`.

    Args:
        driver: the registry driver.
        repository: the repository's name.
        algorithm: the algorithm of the blob's digest, `sha256` or `sha512`.

    Attributes:
        upload: the upload in progress; None before `begin`, and after `finish` or `cancel`.
        result: the result of the push; None until `finish` has succeeded.
        size: number of bytes added so far.
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
        """The digest of the blob; available after `finish`."""
        if self.result is None:
            raise DockhandError("the digest is known when the upload has ended")
        return self.result.digest

    @property
    def _chunk_size(self) -> int:
        return max(self.driver.chunk_size, self.upload.min_chunk if self.upload else 0)

    def add(self, data: bytes) -> bool:
        """Add bytes to the buffer, and return whether `send_chunks` has a chunk to send."""
        self._hasher.update(data)
        self._pending += data
        self.size += len(data)
        return len(self._pending) >= self._chunk_size

    def begin(self) -> Flow[None]:
        """Begin the upload at the registry."""
        self.upload = yield from self.driver.start_upload(self.repository)

    def send_chunks(self) -> Flow[None]:
        """Send the complete chunks that the buffer holds."""
        assert self.upload is not None
        while len(self._pending) >= self._chunk_size:
            chunk = bytes(self._pending[: self._chunk_size])
            self.upload = yield from self.driver.upload_chunk(self.upload, chunk)
            del self._pending[: len(chunk)]

    def finish(self, expected: Digest | None = None) -> Flow[None]:
        """Send the rest of the buffer and finish the upload. If that fails, cancel the upload.

        Args:
            expected: the digest that the bytes must have, or None if it is not known.

        Raises:
            DigestMismatch: the bytes do not have the digest `expected`; the upload was cancelled.
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
        digest = Digest.of_hash(self._algorithm, self._hasher)
        if expected is not None:
            check_digest(expected, digest, f"repository {self.repository}: the data")
        if self._pending:
            self.upload = yield from self.driver.upload_chunk(self.upload, bytes(self._pending))
            self._pending.clear()
        self.result = yield from self.driver.finish_upload(self.upload, digest)

    def cancel(self) -> Flow[None]:
        """Cancel the upload, if one is in progress.

        An error of the cancellation itself is suppressed, because it would hide the error that made
        the cancellation necessary.
        """
        upload, self.upload = self.upload, None
        self._pending.clear()
        if upload is None:
            return
        with suppress(DockhandError):
            yield from self.driver.cancel_upload(upload)
