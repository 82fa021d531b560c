"""The sync client. Each operation runs one flow of the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from dockhand_core.driver import ManifestData
from dockhand_core.flow import Flow
from dockhand_core.http.closing import noting
from dockhand_core.image_client import ImageClient
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
)
from dockhand_core.operations import UNSTATED, exists, image
from dockhand_core.operations.page_cursor import PageCursor

__all__ = ["RegistryClient"]

T = TypeVar("T")


class RegistryClient(ImageClient):
    """A client for one registry, returned by `Dockhand.connection` and `connect`.

    Several threads may share a client. Every operation can raise `ConnectionFailed` (or its
    subclass `Timeout`), `Unauthorized`, `Denied`, `TooManyRequests` and `ServerError`. Malformed
    arguments raise `NameInvalid`, `TagInvalid` or `DigestInvalid`. The docstring of an operation
    lists only further errors.

    Follows: OCI Distribution Specification 1.1; each operation names its section.
    """

    def walk(self, fetch: Callable[[str | None], Flow[Page[T]]]) -> Iterator[T]:
        """Iterate over the items of a paginated list. Each page is fetched when it is needed.

        Args:
            fetch: makes the flow that requests a page. Its argument is the `next` of the page
                before, or None for the first page.

        Raises:
            ResponseInvalid: the registry repeats a page, or sends empty pages without end.
        """
        cursor = PageCursor(fetch, self.driver.list_limit)
        while cursor.more:
            yield from self.run(cursor.next_page())

    # -- the registry ----------------------------------------------------------------------

    def is_online(self) -> bool:
        """Whether a registry answers, even if it refuses the credentials."""
        return self.run(self.driver.is_online())

    def ping(self) -> None:
        """Check that the registry answers and accepts this connection's credentials.

        Raises:
            NotFound: a server answers, but it is not a registry.

        Follows: "Determining Support".
        """
        return self.run(self.driver.ping())

    def api_version(self) -> ApiVersion:
        """The version of the registry's API; its `str()` looks like `registry/2.0`.

        Follows: "Determining Support".
        """
        return self.run(self.driver.api_version())

    def repositories(self, *, page_size: int | None = None) -> Iterator[str]:
        """Iterate over the names of all repositories. Each page is fetched when it is needed.

        Args:
            page_size: number of items to request per page; None for the registry's default.

        Raises:
            PaginationNumberInvalid: the registry refuses pages of the requested size.
            ResponseInvalid: the registry repeats a page, or sends empty pages without end.

        Follows: CNCF Distribution's HTTP API, "Listing Repositories" (`_catalog`).
        """
        return self.walk(lambda a: self.driver.repository_page(limit=page_size, after=a))

    def repository_page(self, *, limit: int = 10, after: str | None = None) -> Page[str]:
        """Fetch one page of repository names.

        Args:
            limit: maximum number of items on the page.
            after: the `next` of the page before, or None for the first page.

        Raises:
            PaginationNumberInvalid: the registry refuses pages of the requested size.

        Follows: CNCF Distribution's HTTP API, "Listing Repositories" (`_catalog`).
        """
        return self.run(self.driver.repository_page(limit=limit, after=after))

    def tags(self, repository: str, *, page_size: int | None = None) -> Iterator[str]:
        """Iterate over all tags of a repository. Each page is fetched when it is needed.

        Args:
            repository: the repository's name.
            page_size: number of items to request per page; None for the registry's default.

        Raises:
            NameUnknown: the repository does not exist.
            ResponseInvalid: the registry repeats a page, or sends empty pages without end.

        Follows: "Listing Tags".
        """
        return self.walk(lambda a: self.driver.tag_page(repository, limit=page_size, after=a))

    def tag_page(self, repository: str, *, limit: int = 20, after: str | None = None) -> Page[str]:
        """Fetch one page of tags.

        If the registry ignores page sizes and sends all tags, the page is cut from the sorted list.

        Args:
            repository: the repository's name.
            limit: maximum number of items on the page.
            after: the `next` of the page before, or None for the first page.

        Raises:
            NameUnknown: the repository does not exist.

        Follows: "Listing Tags".
        """
        return self.run(self.driver.tag_page(repository, limit=limit, after=after))

    # -- manifests -------------------------------------------------------------------------

    def manifest(self, repository: str, reference: str | Descriptor) -> ImageManifest | ImageIndex:
        """Fetch a manifest or index, and verify its bytes against its digest.

        The result keeps the exact bytes.

        Args:
            repository: the repository's name.
            reference: a tag, a digest, or a descriptor.

        Raises:
            ManifestUnknown: the manifest does not exist.
            DigestMismatch: the received bytes have another digest.
            SizeInvalid: the received bytes do not have the size that the descriptor states.
            ManifestInvalid: the received bytes are neither a manifest nor an index.

        Follows: "Pulling manifests".
        """
        return self.run(self.driver.manifest(repository, reference))

    def image(
        self,
        repository: str,
        reference: str | Descriptor,
        *,
        platform: Platform | str | None = UNSTATED,
    ) -> ImageManifest:
        """Fetch the manifest of an image for a platform; an index is searched for the platform.

        Entries of the index without a platform are tried last, and judged by their image configs,
        as containerd does. The platform of a single image, too, is that of its config, which is
        read only if `platform` is given.

        Args:
            repository: the repository's name.
            reference: a tag, a digest, or a descriptor.
            platform: a `Platform`, or `os/architecture[/variant]`. If it is not given, it is
                `linux/amd64` for an index, and a single image is not checked.

        Raises:
            ManifestUnknown: the manifest does not exist.
            PlatformNotFound: the index or image lacks the platform; the message lists the
                available platforms.
            ManifestInvalid: there are more than four levels of indexes, or too many entries
                without a platform.
        """
        return self.run(image(self.driver, repository, reference, platform))

    def manifest_head(self, repository: str, reference: str | Descriptor) -> ManifestHead:
        """Fetch the digest, size in bytes and media type of a manifest, without its body.

        Raises:
            ManifestUnknown: the manifest does not exist.

        Follows: "Checking if content exists in the registry".
        """
        return self.run(self.driver.manifest_head(repository, reference))

    def manifest_exists(self, repository: str, reference: str | Descriptor) -> bool:
        """Whether a manifest exists in the repository."""
        return self.run(exists(self.driver.manifest_head(repository, reference)))

    def put_manifest(
        self,
        repository: str,
        reference: str | Descriptor,
        manifest: ManifestData,
        *,
        media_type: str | None = None,
    ) -> PushResult:
        """Push a manifest or index.

        If the manifest has a `subject` and the registry has no referrers API, the manifest is also
        added to the referrers tag of its subject.

        Registries have no conditional write of a tag. So the referrers tag is read again after the
        change, and once more after a pause; if another client has overwritten the change, it is
        made again. It can still be lost to a client that reads the tag before the change, writes
        the tag after the pause, and does not check the tag in this way.

        Args:
            repository: the repository's name.
            reference: a tag, or the manifest's digest or descriptor.
            manifest: an `ImageManifest` or `ImageIndex`, bytes (sent unchanged), or a dict.
            media_type: the `Content-Type` to send; None for the media type that the manifest
                states.

        Raises:
            ManifestBlobUnknown: the manifest names blobs that the repository does not have.
            ManifestInvalid: `manifest` is not a manifest or index, or the registry refuses it.
            DigestMismatch: `reference` is a digest, but the manifest has another digest.
            Unsupported: the manifest was pushed, but it cannot be added to the referrers tag of its
                subject, because this tag is not an index of referrers. In GitLab it is the subject
                itself.

        Follows: "Pushing Manifests", "Pushing Manifests with Subject".
        """
        return self.run(
            self.driver.put_manifest(repository, reference, manifest, media_type=media_type)
        )

    def delete_manifest(self, repository: str, digest: str | Descriptor) -> None:
        """Delete a manifest and every tag that points to it.

        If the registry has no referrers API, the manifest is also removed from the referrers tag of
        its subject; if that fails, it is logged as a warning.

        Args:
            repository: the repository's name.
            digest: the digest or the descriptor of the manifest.

        Raises:
            ManifestUnknown: the manifest does not exist.
            Unsupported: the registry does not allow deletion.

        Follows: "Deleting Manifests".
        """
        return self.run(self.driver.delete_manifest(repository, digest))

    def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag, and keep the manifest and its other tags.

        Raises:
            ManifestUnknown: the tag does not exist.
            Unsupported: the registry cannot delete single tags; nothing was changed.

        Follows: "Deleting tags".
        """
        return self.run(self.driver.delete_tag(repository, tag))

    def referrers(
        self, repository: str, digest: str | Descriptor, *, artifact_type: str | None = None
    ) -> ImageIndex:
        """Fetch the referrers of a manifest, as an index that lists them; it may be empty.

        If the registry has no referrers API, the referrers tag is read.

        Args:
            repository: the repository's name.
            digest: the digest or the descriptor of the manifest that the referrers refer to.
            artifact_type: list only referrers of this type; None for all.

        Raises:
            ResponseInvalid: the registry repeats a page, or its reply is not an index.
            ResponseTooLarge: the list exceeds its limit; the message names the setting.

        Follows: "Listing Referrers", "Referrers Tag Schema".
        """
        return self.run(self.driver.referrers(repository, digest, artifact_type=artifact_type))

    def image_config(
        self, repository: str, manifest_or_descriptor: ImageManifest | Descriptor
    ) -> ImageConfig:
        """Fetch the configuration of an image.

        Args:
            repository: the repository's name.
            manifest_or_descriptor: the image's manifest, or the descriptor of its configuration.

        Raises:
            BlobUnknown: the repository does not have the configuration blob.
            ManifestInvalid: the blob is not the configuration of an image.
        """
        return self.run(self.driver.image_config(repository, manifest_or_descriptor))

    # -- the connection itself -------------------------------------------------------------

    def reset(self) -> None:
        """Close the sockets and forget cached tokens; the next operation connects again."""
        self._runner.reset()

    def close(self) -> None:
        """Close the sockets, the driver, the auth driver and the logger.

        Further operations raise `DockhandError`.

        Raises:
            PluginError: the `close` method of a plugin failed; everything else was closed.
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
        with noting(error):
            self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self._runner.endpoint.base}>"
