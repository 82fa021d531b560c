"""The sync client: one line per operation over the driver's flows."""

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

READ_LIMIT = 16 << 20  # bytes that `read_blob` takes into memory unless told otherwise


class RegistryClient:
    """A named connection to a registry. Made by `Dockhand.connection` and `connect`.

    It may be used from several threads at once. Every operation can raise `ConnectionFailed`
    (`Timeout` among them), `Unauthorized`, `Denied`, `TooManyRequests` and `ServerError`;
    `NameInvalid`, `TagInvalid` and `DigestInvalid` for arguments that are malformed; the
    docstrings name what else there is.

    Follows: OCI Distribution Specification 1.1; section names are given with each operation.
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
        """Whether a registry answers there; one that wants other credentials is online."""
        return self.run(self.driver.is_online())

    def ping(self) -> None:
        """Return if the registry answers and accepts this connection's credentials.

        Raises:
            NotFound: something answers, but not a registry.

        Follows: "Determining Support".
        """
        return self.run(self.driver.ping())

    def api_version(self) -> ApiVersion:
        """The version of the registry's API; `str()` of it is like `registry/2.0`.

        Follows: "Determining Support".
        """
        return self.run(self.driver.api_version())

    def repositories(self, *, page_size: int | None = None) -> Iterator[str]:
        """Every repository, page after page, fetched as they are used.

        Args:
            page_size: how many to ask for at a time; None leaves it to the registry.

        Raises:
            PaginationNumberInvalid: the registry does not give pages of that size.
            ResponseInvalid: the pages lead in a circle.

        Follows: Distribution's "Listing Repositories" (`_catalog`).
        """
        return self.walk(lambda a: self.driver.repository_page(limit=page_size, after=a))

    def repository_page(self, *, limit: int = 10, after: str | None = None) -> Page[str]:
        """One page of repositories.

        Args:
            limit: how many at most.
            after: the `next` of the page before.

        Raises:
            PaginationNumberInvalid: the registry does not give pages of that size.

        Follows: Distribution's "Listing Repositories" (`_catalog`).
        """
        return self.run(self.driver.repository_page(limit=limit, after=after))

    def tags(self, repository: str, *, page_size: int | None = None) -> Iterator[str]:
        """Every tag of a repository, page after page, fetched as they are used.

        Args:
            repository: the repository's name.
            page_size: how many to ask for at a time; None leaves it to the registry.

        Raises:
            NameUnknown: there is no such repository.
            ResponseInvalid: the pages lead in a circle.

        Follows: "Listing Tags".
        """
        return self.walk(lambda a: self.driver.tag_page(repository, limit=page_size, after=a))

    def tag_page(self, repository: str, *, limit: int = 20, after: str | None = None) -> Page[str]:
        """One page of tags, sorted; also where the registry knows no pages.

        Args:
            repository: the repository's name.
            limit: how many at most.
            after: the `next` of the page before.

        Raises:
            NameUnknown: there is no such repository.

        Follows: "Listing Tags".
        """
        return self.run(self.driver.tag_page(repository, limit=limit, after=after))

    # -- manifests -------------------------------------------------------------------------

    def manifest(self, repository: str, reference: str | Descriptor) -> ImageManifest | ImageIndex:
        """A manifest or index, with its exact bytes, checked against its digest.

        Args:
            repository: the repository's name.
            reference: a tag, a digest, or a descriptor.

        Raises:
            ManifestUnknown: there is none.
            DigestMismatch: the bytes are not those of that digest.
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

        A single image is given as it is: its manifest does not say what it runs on.

        Args:
            repository: the repository's name.
            reference: a tag, a digest, or a descriptor.
            platform: a `Platform`, or `os/architecture[/variant]`.

        Raises:
            ManifestUnknown: there is none.
            PlatformNotFound: the index has none for the platform; the message lists what it has.
        """
        return self.run(image(self.driver, repository, reference, platform))

    def manifest_head(self, repository: str, reference: str | Descriptor) -> ManifestHead:
        """Digest, size in bytes and media type of a manifest, without its body.

        Raises:
            ManifestUnknown: there is none.

        Follows: "Checking if content exists in the registry".
        """
        return self.run(self.driver.manifest_head(repository, reference))

    def manifest_exists(self, repository: str, reference: str | Descriptor) -> bool:
        """Whether there is such a manifest."""
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

        A manifest with a `subject` is also entered in the referrers tag where the registry has
        no referrers API.

        Args:
            repository: the repository's name.
            reference: a tag, or the manifest's digest.
            manifest: a model, bytes (sent unchanged) or a dict.
            media_type: None for the manifest's own.

        Raises:
            ManifestBlobUnknown: it names blobs that the repository does not have.
            ManifestInvalid: the registry does not take it, or it is not a manifest.
            DigestMismatch: `reference` is a digest, and not that of the manifest.

        Follows: "Pushing Manifests", "Pushing Manifests with Subject".
        """
        return self.run(
            self.driver.put_manifest(repository, reference, manifest, media_type=media_type)
        )

    def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete a manifest and every tag that leads to it.

        Raises:
            ManifestUnknown: there is none.
            Unsupported: the registry does not delete.

        Follows: "Deleting Manifests".
        """
        return self.run(self.driver.delete_manifest(repository, digest))

    def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag; the manifest and its other tags stay.

        Raises:
            ManifestUnknown: there is no such tag.
            Unsupported: the registry does not delete tags; nothing has changed.

        Follows: "Deleting tags".
        """
        return self.run(self.driver.delete_tag(repository, tag))

    def referrers(
        self, repository: str, digest: str, *, artifact_type: str | None = None
    ) -> ImageIndex:
        """What refers to a manifest as its `subject`; an empty index where nothing does.

        Args:
            repository: the repository's name.
            digest: the digest of the subject.
            artifact_type: only those of this type.

        Follows: "Listing Referrers", with the referrers tag where the API is missing.
        """
        return self.run(self.driver.referrers(repository, digest, artifact_type=artifact_type))

    def image_config(
        self, repository: str, manifest_or_descriptor: ImageManifest | Descriptor
    ) -> ImageConfig:
        """The configuration of an image.

        Raises:
            BlobUnknown: the repository does not have it.
            ManifestInvalid: it is not an image's configuration.
        """
        return self.run(self.driver.image_config(repository, manifest_or_descriptor))

    # -- blobs -----------------------------------------------------------------------------

    def read_blob(self, repository: str, digest: str, *, max_size: int = READ_LIMIT) -> bytes:
        """A whole blob in memory, checked against its digest.

        Args:
            repository: the repository's name.
            digest: the blob's digest.
            max_size: bytes that are taken at most.

        Raises:
            BlobUnknown: there is none.
            ResponseTooLarge: it has more than `max_size` bytes.
            DigestMismatch: the bytes are not those of that digest.

        Follows: "Pulling blobs".
        """
        return self.run(self.driver.read_blob(repository, digest, max_size=max_size))

    def open_blob(
        self, repository: str, digest: str, *, offset: int = 0, verify: bool = True
    ) -> BlobReader:
        """A blob to read as it arrives; use it in a `with` statement.

        Its bytes can be trusted once the end was reached: there a wrong digest raises.
        A connection that breaks is taken up where it broke.

        Args:
            repository: the repository's name.
            digest: the blob's digest.
            offset: bytes to leave out at the start; needs `verify=False`.
            verify: check the digest at the end.

        Raises:
            BlobUnknown: there is none.
            DigestMismatch: at the end, the bytes were not those of that digest.

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
        """A blob into a file, which appears when it is whole and verified.

        What an earlier try left in `<path>.<digest>.part` is hashed and carried on.

        Args:
            repository: the repository's name.
            digest: the blob's digest.
            path: the file; one that is there is replaced.
            progress: called with (bytes done, bytes in all or None).

        Raises:
            BlobUnknown: there is none.
            DigestMismatch: the bytes are not those of that digest; no file is left.
            OSError: the file cannot be written.

        Follows: "Pulling blobs".
        """
        return self.run(
            self.driver.download_blob(repository, digest, Path(path), progress=progress)
        )

    def blob_size(self, repository: str, digest: str) -> int:
        """A blob's size in bytes.

        Raises:
            BlobUnknown: there is none.

        Follows: "Checking if content exists in the registry".
        """
        return self.run(self.driver.blob_size(repository, digest))

    def blob_exists(self, repository: str, digest: str) -> bool:
        """Whether the repository has such a blob."""
        return self.run(exists(self.driver.blob_size(repository, digest)))

    def delete_blob(self, repository: str, digest: str) -> None:
        """Delete a blob from a repository.

        Raises:
            BlobUnknown: there is none.
            Unsupported: the registry does not delete.

        Follows: "Deleting Blobs".
        """
        return self.run(self.driver.delete_blob(repository, digest))

    def mount_blob(self, repository: str, digest: str, source: str) -> PushResult | Upload:
        """Take a blob over from another repository of the same registry.

        Args:
            repository: where the blob is to be.
            digest: the blob's digest.
            source: the repository that has it.

        Returns:
            A `PushResult`; or an `Upload` that was begun, where the registry did not mount.

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

        Bytes, paths and seekable files are hashed first, skipped where the repository has the
        blob, and begun again where the connection breaks. Any other iterable goes out in chunks
        of 8 MiB and is skipped only if `digest` is given.

        Args:
            repository: the repository's name.
            data: bytes, a path (`str` too), a binary file, or an iterable of bytes.
            digest: what its digest is known to be.
            progress: called with (bytes done, bytes in all or None).

        Raises:
            DigestMismatch: the data has another digest than `digest`; nothing is kept.
            OSError: the file cannot be read.

        Follows: "Pushing Blobs".
        """
        return self.run(self.driver.upload_blob(repository, data, digest=digest, progress=progress))

    def blob_writer(self, repository: str) -> BlobWriter:
        """A blob to write as it is made; use it in a `with` statement, then take its `digest`.

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
            upload: as the last operation gave it.
            data: the next bytes; at least `upload.min_chunk` unless they are the last.

        Raises:
            BlobUploadUnknown, BlobUploadInvalid: the upload is gone.
            RangeInvalid: the registry has another offset; ask `upload_status`.

        Follows: "Pushing a blob in chunks".
        """
        return self.run(self.driver.upload_chunk(upload, data))

    def finish_upload(self, upload: Upload, digest: str) -> PushResult:
        """End an upload: the registry checks the digest and keeps the blob.

        Raises:
            DigestInvalid: the bytes have another digest; start over.
            BlobUploadUnknown: the upload is gone.

        Follows: "Pushing a blob in chunks".
        """
        return self.run(self.driver.finish_upload(upload, digest))

    def upload_status(self, upload: Upload) -> Upload:
        """Where an upload stands, as the registry sees it.

        Raises:
            BlobUploadUnknown, BlobUploadInvalid: the upload is gone, or its location is stale.

        Follows: "Pushing a blob in chunks".
        """
        return self.run(self.driver.upload_status(upload))

    def cancel_upload(self, upload: Upload) -> None:
        """Give an upload up; the registry drops what it has.

        Raises:
            BlobUploadUnknown: the upload is gone.

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
