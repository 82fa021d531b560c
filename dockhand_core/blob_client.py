"""The operations of the sync client on blobs and uploads."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from dockhand_core.blob_io import BlobReader, BlobWriter
from dockhand_core.driver import BlobData, RegistryDriver
from dockhand_core.flow import Flow, Progress
from dockhand_core.http.sync_runner import SyncRunner
from dockhand_core.models import Descriptor, PushResult, Upload

__all__ = ["READ_LIMIT", "BlobClient"]

T = TypeVar("T")

READ_LIMIT = 16 << 20  # bytes; the default `max_size` of `read_blob`


class BlobClient:
    """The base of `RegistryClient`, with the operations on blobs and uploads."""

    def __init__(self, driver: RegistryDriver, runner: SyncRunner, name: str = "default") -> None:
        self.driver = driver
        self.name = name
        self._runner = runner

    def run(self, flow: Flow[T]) -> T:
        """Run a flow and return its result. Clients of plugins implement their operations with it.

        Args:
            flow: a flow, usually one made by the driver, such as `self.driver.projects()`.
        """
        return self._runner.run(flow)

    # -- blobs -----------------------------------------------------------------------------

    def read_blob(
        self, repository: str, digest: str | Descriptor, *, max_size: int = READ_LIMIT
    ) -> bytes:
        """Read a whole blob into memory, and verify it against its digest.

        Args:
            repository: the repository's name.
            digest: the blob's digest, or its descriptor, whose `size` is then the exact size.
            max_size: maximum size of the blob in bytes.

        Raises:
            BlobUnknown: the blob does not exist.
            ResponseTooLarge: the blob has more than `max_size` bytes, or more than its descriptor
                states.
            DigestMismatch: the received bytes have another digest.

        Follows: "Pulling blobs".
        """
        return self.run(self.driver.read_blob(repository, digest, max_size=max_size))

    def open_blob(
        self,
        repository: str,
        digest: str | Descriptor,
        *,
        offset: int = 0,
        verify: bool = True,
        max_size: int | None = None,
    ) -> BlobReader:
        """Make a reader that streams a blob; use it in a `with` statement.

        Do not trust the bytes before the end of the blob: only there is the digest compared. If
        the connection breaks, the reader waits, reconnects and resumes at the byte where it broke.

        Args:
            repository: the repository's name.
            digest: the blob's digest, or its descriptor, whose `size` is then the exact size.
            offset: number of bytes to skip at the start of the blob; requires `verify=False`,
                because a part of a blob has no digest.
            verify: whether to compare the digest at the end of the blob.
            max_size: maximum size of the blob in bytes; by default the size in the descriptor, or
                else the size that the registry announces, or 4 GiB if it announces none.

        Raises:
            BlobUnknown: the blob does not exist; raised on entering the `with` statement.
            RangeInvalid: the blob ends before `offset`.
            ResponseTooLarge: the blob has more bytes than are allowed; raised at the first of them,
                or on entering the `with` statement if the registry announces too many.
            DigestMismatch: the bytes have another digest, or are fewer than the descriptor states;
                raised at the end of the blob.

        Follows: "Pulling blobs".
        """
        return BlobReader(self._runner, self.driver, repository, digest, offset, verify, max_size)

    def download_blob(
        self,
        repository: str,
        digest: str | Descriptor,
        path: str | Path,
        *,
        progress: Progress | None = None,
        max_size: int | None = None,
    ) -> Path:
        """Download a blob into a file, which appears only when it is complete and verified.

        Until then the bytes are written to `<path>.<first 16 hex digits of the digest>.part`, where
        a long name is cut. If an earlier download left such a partial file, the download resumes at
        its end; if the complete file then has a wrong digest, the download begins anew once. A
        symbolic link at `path` is replaced, not followed.

        Args:
            repository: the repository's name.
            digest: the blob's digest, or its descriptor, whose `size` is then the exact size.
            path: the file to write; an existing file is replaced.
            progress: called with the number of bytes received so far and the blob's size in bytes
                (None if it is unknown).
            max_size: maximum size of the blob in bytes; by default the size in the descriptor, or
                else the size that the registry announces, or 4 GiB if it announces none.

        Returns:
            `path`.

        Raises:
            BlobUnknown: the blob does not exist.
            DigestMismatch: the received bytes have another digest; the partial file was deleted.
            ResponseTooLarge: the blob has more bytes than are allowed; the partial file was
                deleted.
            DownloadFileRefused: `path` is a folder, or its folder does not exist or cannot be
                written to; another download is writing to the partial file; or that path is a link,
                a device or a file of another user, which is not written to. It is an `OSError` too.
            OSError: the file cannot be written, for example because the disk is full.

        Follows: "Pulling blobs".
        """
        return self.run(
            self.driver.download_blob(
                repository, digest, Path(path), progress=progress, max_size=max_size
            )
        )

    def blob_size(self, repository: str, digest: str | Descriptor) -> int:
        """Fetch the size of a blob in bytes.

        Raises:
            BlobUnknown: the blob does not exist.
            ResponseInvalid: the registry does not announce the size.

        Follows: "Checking if content exists in the registry".
        """
        return self.run(self.driver.blob_size(repository, digest))

    def blob_exists(self, repository: str, digest: str | Descriptor) -> bool:
        """Whether a blob exists in the repository."""
        return self.run(self.driver.blob_exists(repository, digest))

    def delete_blob(self, repository: str, digest: str | Descriptor) -> None:
        """Delete a blob from a repository.

        Raises:
            BlobUnknown: the blob does not exist.
            Unsupported: the registry does not allow deletion.

        Follows: "Deleting Blobs".
        """
        return self.run(self.driver.delete_blob(repository, digest))

    def mount_blob(
        self, repository: str, digest: str | Descriptor, source: str
    ) -> PushResult | Upload:
        """Mount a blob from another repository of the same registry, without uploading it.

        Args:
            repository: the repository that the blob is added to.
            digest: the blob's digest or descriptor.
            source: the repository that has the blob.

        Returns:
            A `PushResult`, or a new `Upload` if the registry did not mount the blob.

        Follows: "Mounting a blob from another repository".
        """
        return self.run(self.driver.mount_blob(repository, digest, source))

    # -- uploads ---------------------------------------------------------------------------

    def upload_blob(
        self,
        repository: str,
        data: BlobData,
        *,
        digest: str | None = None,
        progress: Progress | None = None,
    ) -> PushResult:
        """Upload a blob.

        Bytes, paths and seekable files are hashed first. If the repository already has the blob,
        nothing is sent; if the connection breaks, the upload is resumed or started again. Other
        files and iterables can be read only once: they are sent in chunks of 8 MiB, unless `digest`
        is given and the repository already has that blob.

        If `digest` is given, a file is read only once: it is hashed while it is sent, and its last
        block is sent after the check.

        Args:
            repository: the repository's name.
            data: bytes, a path (`Path` or `str`), a binary file, or an iterable of bytes.
            digest: the expected digest of the data, or None if it is not known.
            progress: called with the number of bytes sent so far and the total number of bytes
                (None if it is unknown).

        Raises:
            DigestMismatch: the data does not have the digest `digest`; the registry stores nothing.
            OSError: the file cannot be read.

        Follows: "Pushing Blobs".
        """
        return self.run(self.driver.upload_blob(repository, data, digest=digest, progress=progress))

    def blob_writer(self, repository: str) -> BlobWriter:
        """Make a writer that uploads a blob; use it in a `with` statement.

        Its `digest` is available after the `with` block. An exception inside the block cancels the
        upload.

        Follows: "Pushing a blob in chunks".
        """
        return BlobWriter(self._runner, self.driver, repository)

    def start_upload(self, repository: str) -> Upload:
        """Begin an upload, to continue with `upload_chunk` and `finish_upload`.

        Follows: "Pushing a blob in chunks".
        """
        return self.run(self.driver.start_upload(repository))

    def upload_chunk(self, upload: Upload, data: bytes) -> Upload:
        """Send the next bytes of an upload, and return its new state.

        Args:
            upload: the `Upload` that the previous operation on this upload returned.
            data: the next bytes; at least `upload.min_chunk` of them, except in the last chunk.

        Raises:
            BlobUploadUnknown, BlobUploadInvalid: the upload no longer exists.
            RangeInvalid: the registry expects another offset; `upload_status` returns it.

        Follows: "Pushing a blob in chunks".
        """
        return self.run(self.driver.upload_chunk(upload, data))

    def finish_upload(self, upload: Upload, digest: str) -> PushResult:
        """Finish an upload: the registry verifies the digest and stores the blob.

        Raises:
            DigestInvalid: the bytes that were sent have another digest; start a new upload.
            BlobUploadUnknown: the upload no longer exists.

        Follows: "Pushing a blob in chunks".
        """
        return self.run(self.driver.finish_upload(upload, digest))

    def upload_status(self, upload: Upload) -> Upload:
        """Fetch the state of an upload from the registry, such as the offset to continue at.

        Raises:
            BlobUploadUnknown: the upload no longer exists.
            BlobUploadInvalid: the location of `upload` is outdated.

        Follows: "Pushing a blob in chunks".
        """
        return self.run(self.driver.upload_status(upload))

    def cancel_upload(self, upload: Upload) -> None:
        """Cancel an upload; the registry deletes the bytes that it has received.

        Raises:
            BlobUploadUnknown: the upload no longer exists.

        Follows: "Cancel a blob upload".
        """
        return self.run(self.driver.cancel_upload(upload))
