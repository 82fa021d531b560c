"""The sync client: a line for each operation, over the driver's flows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from dockhand_core.blob_io import BlobReader, BlobWriter, PageCursor
from dockhand_core.driver import BlobData, ManifestData, RegistryDriver
from dockhand_core.flow import Flow, Progress
from dockhand_core.http.runners import SyncRunner
from dockhand_core.models import (
    ApiVersion,
    Descriptor,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ManifestHead,
    Page,
    Platform,
    PushResult,
    Upload,
)
from dockhand_core.operations import exists, image

__all__ = ["READ_LIMIT", "RegistryClient"]

T = TypeVar("T")

READ_LIMIT = 16 << 20  # bytes; the default of `read_blob`


class RegistryClient:
    """A named connection to a registry. Made by `Dockhand.connection` and `connect`.

    Several threads may use it at once. Every operation can raise `ConnectionFailed` (its subclass
    `Timeout` included), `Unauthorized`, `Denied`, `TooManyRequests` and `ServerError`, and for
    malformed arguments `NameInvalid`, `TagInvalid` and `DigestInvalid`. The docstrings name the
    other errors.

    Follows: OCI Distribution Specification 1.1; each operation names the section.
    """

    def __init__(self, driver: RegistryDriver, runner: SyncRunner, name: str = "default") -> None:
        self.driver = driver
        self.name = name
        self._runner = runner

    def run(self, flow: Flow[T]) -> T:
        """Run a flow of the driver. A plugin's client writes each operation with it in a line.

        Args:
            flow: such as `self.driver.projects()`.
        """
        return self._runner.run(flow)

    def walk(self, fetch: Callable[[str | None], Flow[Page[T]]]) -> Iterator[T]:
        """Iterate over the items of a list, page after page, each fetched when it is needed.

        Args:
            fetch: makes the flow for a page, from the `next` of the page before; None is the first.

        Raises:
            ResponseInvalid: the pages lead in a circle.
        """
        cursor = PageCursor(fetch)
        while cursor.more:
            yield from self.run(cursor.next_page())

    # -- the registry ----------------------------------------------------------------------

    def is_online(self) -> bool:
        """Whether a registry answers; one that refuses the credentials is online, too."""
        return self.run(self.driver.is_online())

    def ping(self) -> None:
        """Return if the registry answers and accepts this connection's credentials.

        Raises:
            NotFound: a server answers, but it is not a registry.

        Follows: "Determining Support".
        """
        return self.run(self.driver.ping())

    def api_version(self) -> ApiVersion:
        """The version of the registry's API; its text is such as `registry/2.0`.

        Follows: "Determining Support".
        """
        return self.run(self.driver.api_version())

    def repositories(self, *, page_size: int | None = None) -> Iterator[str]:
        """Iterate over all repositories; each page is fetched when it is needed.

        Args:
            page_size: items of a page; None for the registry's own choice.

        Raises:
            PaginationNumberInvalid: the registry refuses pages of that size.
            ResponseInvalid: the pages lead in a circle.

        Follows: Distribution's "Listing Repositories" (`_catalog`).
        """
        return self.walk(lambda a: self.driver.repository_page(limit=page_size, after=a))

    def repository_page(self, *, limit: int = 10, after: str | None = None) -> Page[str]:
        """One page of repositories.

        Args:
            limit: items of the page, at most.
            after: the `next` of the page before; None for the first page.

        Raises:
            PaginationNumberInvalid: the registry refuses pages of that size.

        Follows: Distribution's "Listing Repositories" (`_catalog`).
        """
        return self.run(self.driver.repository_page(limit=limit, after=after))

    def tags(self, repository: str, *, page_size: int | None = None) -> Iterator[str]:
        """Iterate over all tags of a repository; each page is fetched when it is needed.

        Args:
            repository: the repository's name.
            page_size: items of a page; None for the registry's own choice.

        Raises:
            NameUnknown: the repository does not exist.
            ResponseInvalid: the pages lead in a circle.

        Follows: "Listing Tags".
        """
        return self.walk(lambda a: self.driver.tag_page(repository, limit=page_size, after=a))

    def tag_page(self, repository: str, *, limit: int = 20, after: str | None = None) -> Page[str]:
        """One page of tags, sorted; also from a registry without pages.

        Args:
            repository: the repository's name.
            limit: items of the page, at most.
            after: the `next` of the page before; None for the first page.

        Raises:
            NameUnknown: the repository does not exist.

        Follows: "Listing Tags".
        """
        return self.run(self.driver.tag_page(repository, limit=limit, after=after))

    # -- manifests -------------------------------------------------------------------------

    def manifest(self, repository: str, reference: str | Descriptor) -> ImageManifest | ImageIndex:
        """A manifest or index, with its exact bytes, verified against its digest.

        Args:
            repository: the repository's name.
            reference: a tag, a digest, or a descriptor.

        Raises:
            ManifestUnknown: it does not exist.
            DigestMismatch: the bytes have another digest.
            ManifestInvalid: the bytes are neither a manifest nor an index.

        Follows: "Pulling manifests".
        """
        return self.run(self.driver.manifest(repository, reference))

    def image(
        self,
        repository: str,
        reference: str | Descriptor,
        *,
        platform: Platform | str = "linux/amd64",
    ) -> ImageManifest:
        """The manifest for a platform, whether the reference is an index or a single image.

        A single image is returned for any platform, because its manifest does not name one.

        Args:
            repository: the repository's name.
            reference: a tag, a digest, or a descriptor.
            platform: a `Platform`, or `os/architecture[/variant]`.

        Raises:
            ManifestUnknown: the reference does not exist.
            PlatformNotFound: the index has no such platform; the message lists those that it has.
        """
        return self.run(image(self.driver, repository, reference, platform))

    def manifest_head(self, repository: str, reference: str | Descriptor) -> ManifestHead:
        """Digest, size in bytes and media type of a manifest, without its body.

        Raises:
            ManifestUnknown: it does not exist.

        Follows: "Checking if content exists in the registry".
        """
        return self.run(self.driver.manifest_head(repository, reference))

    def manifest_exists(self, repository: str, reference: str | Descriptor) -> bool:
        """Whether a manifest exists."""
        return self.run(exists(self.driver.manifest_head(repository, reference)))

    def put_manifest(
        self,
        repository: str,
        reference: str,
        manifest: ManifestData,
        *,
        media_type: str | None = None,
    ) -> PushResult:
        """Push a manifest or index.

        A manifest with a `subject` is added to the referrers tag, too, where the registry has no
        referrers API.

        Args:
            repository: the repository's name.
            reference: a tag, or the manifest's digest.
            manifest: a model, bytes (sent unchanged) or a dict.
            media_type: the `Content-Type`; None for the manifest's own media type.

        Raises:
            ManifestBlobUnknown: the manifest names blobs that the repository does not have.
            ManifestInvalid: the registry refuses it, or it is not a manifest.
            DigestMismatch: `reference` is a digest, and the manifest has another one.

        Follows: "Pushing Manifests", "Pushing Manifests with Subject".
        """
        return self.run(
            self.driver.put_manifest(repository, reference, manifest, media_type=media_type)
        )

    def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete a manifest and every tag of it.

        Raises:
            ManifestUnknown: it does not exist.
            Unsupported: the registry does not allow deletion.

        Follows: "Deleting Manifests".
        """
        return self.run(self.driver.delete_manifest(repository, digest))

    def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag; the manifest and its other tags stay.

        Raises:
            ManifestUnknown: the tag does not exist.
            Unsupported: the registry cannot delete tags; nothing has changed.

        Follows: "Deleting tags".
        """
        return self.run(self.driver.delete_tag(repository, tag))

    def referrers(
        self, repository: str, digest: str, *, artifact_type: str | None = None
    ) -> ImageIndex:
        """The referrers of a manifest, as an index; an empty one if there are none.

        Args:
            repository: the repository's name.
            digest: the digest of the subject.
            artifact_type: only referrers of this type.

        Follows: "Listing Referrers", with the referrers tag where the API is missing.
        """
        return self.run(self.driver.referrers(repository, digest, artifact_type=artifact_type))

    def image_config(
        self, repository: str, manifest_or_descriptor: ImageManifest | Descriptor
    ) -> ImageConfig:
        """The configuration of an image.

        Raises:
            BlobUnknown: the repository does not have the blob.
            ManifestInvalid: the blob is not an image's configuration.
        """
        return self.run(self.driver.image_config(repository, manifest_or_descriptor))

    # -- blobs -----------------------------------------------------------------------------

    def read_blob(self, repository: str, digest: str, *, max_size: int = READ_LIMIT) -> bytes:
        """A whole blob in memory, verified against its digest.

        Args:
            repository: the repository's name.
            digest: the blob's digest.
            max_size: bytes that are read at most.

        Raises:
            BlobUnknown: it does not exist.
            ResponseTooLarge: it has more than `max_size` bytes.
            DigestMismatch: the bytes have another digest.

        Follows: "Pulling blobs".
        """
        return self.run(self.driver.read_blob(repository, digest, max_size=max_size))

    def open_blob(
        self, repository: str, digest: str, *, offset: int = 0, verify: bool = True
    ) -> BlobReader:
        """A reader of a blob, in a `with` statement.

        The bytes can be trusted once the end is reached, where a wrong digest raises. After a
        connection breaks, the reader waits and resumes at the byte where it broke.

        Args:
            repository: the repository's name.
            digest: the blob's digest.
            offset: bytes to skip at the start; needs `verify=False`.
            verify: compare the digest at the end.

        Raises:
            BlobUnknown: it does not exist.
            DigestMismatch: at the end of the blob; its bytes have another digest.

        Follows: "Pulling blobs".
        """
        return BlobReader(self._runner, self.driver, repository, digest, offset, verify)

    def download_blob(
        self,
        repository: str,
        digest: str,
        path: str | Path,
        *,
        progress: Progress | None = None,
    ) -> Path:
        """Download a blob into a file, which appears when it is complete and verified.

        The bytes arrive in `<path>.<first 16 hex digits of the digest>.part`. A file of that name
        from an earlier download is hashed and resumed.

        Args:
            repository: the repository's name.
            digest: the blob's digest.
            path: the file; an existing one is replaced.
            progress: called with the bytes done and the bytes in total, or None.

        Returns:
            `path`.

        Raises:
            BlobUnknown: it does not exist.
            DigestMismatch: the bytes have another digest; no file is left.
            OSError: the file cannot be written.

        Follows: "Pulling blobs".
        """
        return self.run(
            self.driver.download_blob(repository, digest, Path(path), progress=progress)
        )

    def blob_size(self, repository: str, digest: str) -> int:
        """A blob's size in bytes.

        Raises:
            BlobUnknown: it does not exist.

        Follows: "Checking if content exists in the registry".
        """
        return self.run(self.driver.blob_size(repository, digest))

    def blob_exists(self, repository: str, digest: str) -> bool:
        """Whether a blob exists in the repository."""
        return self.run(exists(self.driver.blob_size(repository, digest)))

    def delete_blob(self, repository: str, digest: str) -> None:
        """Delete a blob from a repository.

        Raises:
            BlobUnknown: it does not exist.
            Unsupported: the registry does not allow deletion.

        Follows: "Deleting Blobs".
        """
        return self.run(self.driver.delete_blob(repository, digest))

    def mount_blob(self, repository: str, digest: str, source: str) -> PushResult | Upload:
        """Mount a blob from another repository of the same registry.

        Args:
            repository: the repository that the blob is mounted in.
            digest: the blob's digest.
            source: the repository that has the blob.

        Returns:
            A `PushResult`; or a new `Upload`, where the registry did not mount the blob.

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

        Bytes, paths and seekable files are hashed first, and not sent if the repository has the
        blob; after a broken connection the upload is resumed or begun again. Any other iterable is
        sent in chunks of 8 MiB, and skipped only if `digest` is given.

        Args:
            repository: the repository's name.
            data: bytes, a path (`str` too), a binary file, or an iterable of bytes.
            digest: the digest, if it is known.
            progress: called with the bytes done and the bytes in total, or None.

        Raises:
            DigestMismatch: the data has another digest than `digest`; the registry keeps nothing.
            OSError: the file cannot be read.

        Follows: "Pushing Blobs".
        """
        return self.run(self.driver.upload_blob(repository, data, digest=digest, progress=progress))

    def blob_writer(self, repository: str) -> BlobWriter:
        """A writer of a blob, in a `with` statement; its `digest` is known afterwards.

        An exception inside the block cancels the upload.

        Follows: "Pushing a blob in chunks".
        """
        return BlobWriter(self._runner, self.driver, repository)

    def start_upload(self, repository: str) -> Upload:
        """Begin an upload by hand.

        Follows: "Pushing a blob in chunks".
        """
        return self.run(self.driver.start_upload(repository))

    def upload_chunk(self, upload: Upload, data: bytes) -> Upload:
        """Add bytes to an upload.

        Args:
            upload: the result of the last operation on the upload.
            data: the next bytes; at least `upload.min_chunk` unless they are the last.

        Raises:
            BlobUploadUnknown, BlobUploadInvalid: the upload does not exist any more.
            RangeInvalid: the registry has another offset, which `upload_status` returns.

        Follows: "Pushing a blob in chunks".
        """
        return self.run(self.driver.upload_chunk(upload, data))

    def finish_upload(self, upload: Upload, digest: str) -> PushResult:
        """Finish an upload: the registry verifies the digest and stores the blob.

        Raises:
            DigestInvalid: the bytes have another digest; begin again.
            BlobUploadUnknown: the upload does not exist any more.

        Follows: "Pushing a blob in chunks".
        """
        return self.run(self.driver.finish_upload(upload, digest))

    def upload_status(self, upload: Upload) -> Upload:
        """The state of an upload, as the registry reports it.

        Raises:
            BlobUploadUnknown: the upload does not exist any more.
            BlobUploadInvalid: its location is out of date.

        Follows: "Pushing a blob in chunks".
        """
        return self.run(self.driver.upload_status(upload))

    def cancel_upload(self, upload: Upload) -> None:
        """Cancel an upload; the registry drops its bytes.

        Raises:
            BlobUploadUnknown: the upload does not exist any more.

        Follows: "Cancel a blob upload".
        """
        return self.run(self.driver.cancel_upload(upload))

    # -- the connection itself -------------------------------------------------------------

    def reset(self) -> None:
        """Close the sockets and forget the tokens; the next operation opens new ones."""
        self._runner.reset()

    def close(self) -> None:
        """Close the connection for good: sockets, driver, auth driver and logger.

        Raises:
            PluginError: the `close` of a plugin failed; everything else is closed.
        """
        self._runner.close(self.driver)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self._runner.endpoint.base}>"
