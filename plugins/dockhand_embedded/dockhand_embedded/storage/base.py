"""The interface of a storage: repositories with blobs and an index, and uploads.

All methods block, and all are safe to call from many threads. The caller has already validated
names, digests and upload ids.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import BinaryIO, ClassVar

from dockhand_embedded.storage.index import IndexEdit, RepositoryIndex, page_of

# The largest number of repositories that a request searches for a blob. If it is not found in them,
# the client uploads the blob.
MOUNT_SEARCH_LIMIT = 1000


class UploadMissingError(Exception):
    """The repository has no upload with this id; it may be finished, cancelled or expired."""


class UploadBusyError(Exception):
    """Another request is writing to the upload."""


class OutsideRootError(Exception):
    """A symbolic link leads out of the root folder."""


class UploadWriter(ABC):
    """The only writer of an upload; a `with` statement closes the writer.

    Appended bytes stay, even if the writer fails, so that a client can continue after them.
    `rollback` removes the bytes that this writer appended.
    """

    size: int

    @abstractmethod
    def append(self, data: bytes) -> None:
        """Append bytes to the upload."""

    @abstractmethod
    def rollback(self) -> None:
        """Truncate the upload to the size that it had when this writer opened it."""

    @abstractmethod
    def finish(self, digest: str) -> bool:
        """Verify the digest, and store the upload durably as a blob of its repository.

        Returns:
            False if the content has another digest; the upload is then discarded.
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
    """Repositories, each with blobs and an index; and uploads in progress."""

    # Whether methods may wait for a disk. If not, they can be called directly in an event loop.
    blocking: ClassVar[bool] = True

    @abstractmethod
    def repositories(self) -> list[str]:
        """Names of the repositories that have manifests, in ASCII order."""

    def repository_page(self, last: str | None, size: int | None) -> tuple[list[str], bool]:
        """A part of `repositories`, as `RepositoryIndex.tag_page` is a part of the tags."""
        return page_of(self.repositories(), last, size)

    @abstractmethod
    def index(self, repository: str) -> RepositoryIndex | None:
        """The current index of a repository; None if there is no such repository.

        The index is shared with other threads, and changes when an edit is applied.
        """

    @abstractmethod
    def edit_index(self, repository: str) -> AbstractContextManager[IndexEdit]:
        """Lock a repository, and yield a change of its index.

        If the block ends without an exception, a missing repository is created, and the change is
        stored durably and then applied. The time that this takes does not depend on the number of
        manifests.
        """

    @abstractmethod
    def blob_size(self, repository: str, digest: str) -> int | None:
        """The size of a blob in bytes; None if the repository does not have the blob."""

    @abstractmethod
    def blob_sizes(self, repository: str, digests: Iterable[str]) -> dict[str, int]:
        """The sizes in bytes of those blobs that the repository has.

        The digests are sha256 or sha512. This takes less time than `blob_size` for each.
        """

    @abstractmethod
    def open_blob(self, repository: str, digest: str) -> BinaryIO | None:
        """Open a blob as a file; None if the repository does not have the blob.

        The caller must close the file.
        """

    @abstractmethod
    def write_blob(self, repository: str, digest: str, data: bytes) -> None:
        """Store a blob durably. The caller has already verified the digest."""

    @abstractmethod
    def delete_blob(self, repository: str, digest: str) -> bool:
        """Remove a blob from one repository; return False if the repository does not have it."""

    @abstractmethod
    def protect_blob(self, repository: str, digest: str) -> bool:
        """Protect a blob from garbage collection for a while.

        Returns:
            False if the repository does not have the blob any more.
        """

    @abstractmethod
    def mount_blob(
        self,
        repository: str,
        digest: str,
        source: str | None,
        may_read: Callable[[str], bool],
    ) -> bool:
        """Add a blob of another repository to `repository`, without copying if possible.

        Args:
            repository: the repository that gets the blob.
            digest: the digest of the blob.
            source: the repository that has the blob; None to search in at most
                `MOUNT_SEARCH_LIMIT` repositories.
            may_read: returns whether a repository may be used as the source.

        Returns:
            False if no repository that may be used has the blob.
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
        """The number of bytes in an upload.

        Raises:
            UploadMissingError: the repository has no upload with this id.
        """

    @abstractmethod
    def open_upload(self, repository: str, upload_id: str) -> UploadWriter:
        """Open an upload as its only writer.

        Raises:
            UploadMissingError: the repository has no upload with this id.
            UploadBusyError: the upload already has a writer.
        """

    @abstractmethod
    def upload_count(self) -> int:
        """The number of uploads in progress."""

    @abstractmethod
    def remove_stale_uploads(self, age: float) -> int:
        """Delete uploads that got no byte for `age` seconds and have no writer; return how many."""
