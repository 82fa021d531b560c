"""What the protocol asks of a place that keeps repositories.

All methods block and all are safe to call from many threads. Names, digests and upload ids were
checked by the caller.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO, ClassVar

from dockhand_embedded.storage.index import Index


class UploadMissingError(Exception):
    """No such upload in this repository: never begun, finished, or cancelled."""


class UploadBusyError(Exception):
    """Another request is writing to this upload."""


class OutsideError(Exception):
    """A symbolic link leads out of the root."""


class Upload(ABC):
    """An upload that is open for one writer; leaving the `with` block closes it.

    What was appended stays, also when the writer breaks off, so that a client can go on from
    there. `rollback` undoes what this writer appended.
    """

    size: int

    @abstractmethod
    def append(self, data: bytes) -> None:
        """Add bytes at the end."""

    @abstractmethod
    def rollback(self) -> None:
        """Go back to the size that the upload had when this writer opened it."""

    @abstractmethod
    def finish(self, digest: str) -> bool:
        """Make the upload a blob of its repository, durably.

        Returns:
            False if the content has another digest; the upload is gone then.
        """

    @abstractmethod
    def discard(self) -> None:
        """Forget the upload and its bytes."""

    @abstractmethod
    def close(self) -> None:
        """Let other writers in."""

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Storage(ABC):
    """Repositories with blobs and an index each, and uploads on their way."""

    # Whether calls wait for a disk; an event loop can run those that do not on the spot.
    blocking: ClassVar[bool] = True

    @abstractmethod
    def repositories(self) -> list[str]:
        """Names of the repositories with manifests, in ASCII order."""

    @abstractmethod
    def index(self, repository: str) -> Index | None:
        """The manifests of a repository as they are now; None if there is no such repository.

        The index is shared: do not change it.
        """

    @abstractmethod
    def changing(self, repository: str) -> AbstractContextManager[Index]:
        """An index to change while nobody else changes anything in the repository.

        If it was changed it is kept, durably, when the block ends without an exception. Creates
        the repository.
        """

    @abstractmethod
    def blob_size(self, repository: str, digest: str) -> int | None:
        """The size in bytes; None if the repository does not have the blob."""

    @abstractmethod
    def open_blob(self, repository: str, digest: str) -> BinaryIO | None:
        """The blob, to be closed by the caller; None if the repository does not have it."""

    @abstractmethod
    def write_blob(self, repository: str, digest: str, data: bytes) -> None:
        """Keep bytes whose digest the caller has verified, durably."""

    @abstractmethod
    def delete_blob(self, repository: str, digest: str) -> bool:
        """Remove a blob from one repository; False if it is not there."""

    @abstractmethod
    def keep_blob(self, repository: str, digest: str) -> bool:
        """Let no collection take the blob for a while; False if it is not there any more."""

    @abstractmethod
    def link_blob(
        self,
        repository: str,
        digest: str,
        source: str | None,
        readable: Callable[[str], bool],
    ) -> bool:
        """Give a repository a blob that another one has, without copying where possible.

        Args:
            repository: who gets it.
            digest: the blob.
            source: who has it; None to search all repositories.
            readable: which of them may be searched.
        """

    @abstractmethod
    def start_upload(self, repository: str, algorithm: str) -> str:
        """Begin an upload and give its id, a UUID.

        Args:
            repository: where the blob will be; the id is not known in any other one.
            algorithm: the hash that will probably be asked for at the end.
        """

    @abstractmethod
    def upload_size(self, repository: str, upload_id: str) -> int:
        """How many bytes an upload has.

        Raises:
            UploadMissingError: there is no such upload.
        """

    @abstractmethod
    def open_upload(self, repository: str, upload_id: str) -> Upload:
        """Open an upload as its only writer.

        Raises:
            UploadMissingError: there is no such upload.
            UploadBusyError: it is being written to.
        """

    @abstractmethod
    def upload_count(self) -> int:
        """How many uploads are on their way."""

    @abstractmethod
    def sweep(self, age: float) -> int:
        """Forget uploads that got no byte for `age` seconds and have no writer; how many."""
