"""The contract of a storage: repositories with blobs, an index and uploads.

All methods block, and all are safe to call from many threads. The caller has already validated
names, digests and upload ids.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO, ClassVar

from dockhand_embedded.storage.index import RepositoryIndex


class UploadMissingError(Exception):
    """The repository has no such upload: never begun, finished, cancelled, or expired."""


class UploadBusyError(Exception):
    """Another request is writing to the upload."""


class OutsideRootError(Exception):
    """A symbolic link leads out of the root folder."""


class UploadWriter(ABC):
    """The only writer of an upload; leaving the `with` block closes it.

    Appended bytes stay, even if the writer fails, so that a client can continue after them.
    `rollback` removes the bytes that this writer appended.
    """

    size: int

    @abstractmethod
    def append(self, data: bytes) -> None:
        """Add bytes at the end."""

    @abstractmethod
    def rollback(self) -> None:
        """Truncate the upload to the size that it had when this writer opened it."""

    @abstractmethod
    def finish(self, digest: str) -> bool:
        """Turn the upload into a blob of its repository, durably.

        Returns:
            False if the content has another digest; the upload is discarded then.
        """

    @abstractmethod
    def discard(self) -> None:
        """Delete the upload and its bytes."""

    @abstractmethod
    def close(self) -> None:
        """Release the upload, so that other writers can open it."""

    def __enter__(self) -> UploadWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Storage(ABC):
    """Repositories with blobs and an index each, and uploads in progress."""

    # Whether calls wait for a disk. If not, they can run directly in an event loop.
    blocking: ClassVar[bool] = True

    @abstractmethod
    def repositories(self) -> list[str]:
        """Names of the repositories that have manifests, in ASCII order."""

    @abstractmethod
    def index(self, repository: str) -> RepositoryIndex | None:
        """The current index of a repository; None if there is no such repository.

        The index is shared with other threads: do not modify it.
        """

    @abstractmethod
    def edit_index(self, repository: str) -> AbstractContextManager[RepositoryIndex]:
        """An index to modify, under a lock on the repository; creates the repository.

        If it was modified, it is stored, durably, when the block ends without an exception.
        """

    @abstractmethod
    def blob_size(self, repository: str, digest: str) -> int | None:
        """The size in bytes; None if the repository does not have the blob."""

    @abstractmethod
    def open_blob(self, repository: str, digest: str) -> BinaryIO | None:
        """The blob as an open file; None if it is not there. The caller closes the file."""

    @abstractmethod
    def write_blob(self, repository: str, digest: str, data: bytes) -> None:
        """Store bytes whose digest the caller has verified, durably."""

    @abstractmethod
    def delete_blob(self, repository: str, digest: str) -> bool:
        """Remove a blob from one repository; False if it is not there."""

    @abstractmethod
    def protect_blob(self, repository: str, digest: str) -> bool:
        """Protect a blob from garbage collection for a while.

        Returns:
            False if the blob is not there any more.
        """

    @abstractmethod
    def mount_blob(
        self,
        repository: str,
        digest: str,
        source: str | None,
        may_read: Callable[[str], bool],
    ) -> bool:
        """Add a blob of another repository to this one, without copying if possible.

        Args:
            repository: the repository that gets the blob.
            digest: the blob.
            source: the repository that has it; None to search all repositories.
            may_read: whether a repository may be used as the source.

        Returns:
            False if no such repository has the blob.
        """

    @abstractmethod
    def start_upload(self, repository: str, algorithm: str) -> str:
        """Begin an upload and return its id, a UUID.

        Args:
            repository: the repository of the blob; the id is valid in no other.
            algorithm: the expected hash algorithm of the blob's digest.
        """

    @abstractmethod
    def upload_size(self, repository: str, upload_id: str) -> int:
        """The number of bytes that an upload has.

        Raises:
            UploadMissingError: there is no such upload.
        """

    @abstractmethod
    def open_upload(self, repository: str, upload_id: str) -> UploadWriter:
        """Open an upload as its only writer.

        Raises:
            UploadMissingError: there is no such upload.
            UploadBusyError: it is being written to.
        """

    @abstractmethod
    def upload_count(self) -> int:
        """The number of uploads in progress."""

    @abstractmethod
    def remove_stale_uploads(self, age: float) -> int:
        """Delete uploads that got no byte for `age` seconds and have no writer; return how many."""
