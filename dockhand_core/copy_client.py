"""The operations of the sync client that copy images and make indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dockhand_core.blob_client import BlobClient
from dockhand_core.driver import RegistryDriver
from dockhand_core.flow import Progress
from dockhand_core.flow.checks import described
from dockhand_core.models import BlobProgress, CopyResult, Descriptor, Platform, PushResult

# The operations are imported when they are used: most programs use few of them.
if TYPE_CHECKING:
    from dockhand_core.operations.copies.blob_transfer import Route
    from dockhand_core.operations.copies.copy import CopyArguments, TagCopies

__all__ = ["CopyClient", "make_route"]


class _Client(Protocol):
    """The parts of a sync or async client that a route needs."""

    driver: RegistryDriver
    _runner: Any


class CopyClient(BlobClient):
    """The base of `ImageClient`, with the operations on images of one or two registries."""

    def put_index(
        self,
        repository: str,
        reference: str | Descriptor,
        sources: Iterable[str | Descriptor],
        *,
        annotations: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> PushResult:
        """Make an index of images that are in the repository, and push it.

        The platform of each entry is that in the image's config. A source that is an index is
        replaced by its entries, with their platforms and attestations; so are indexes in it, up to
        four levels. An image that is listed twice for the same platform becomes one entry.

        All sources are fetched before the push, so a missing source changes nothing.

        Args:
            repository: the repository's name.
            reference: the tag of the index; or its digest, which is checked.
            sources: tags, digests and descriptors of images and indexes, in the order of the
                entries. A descriptor with a platform is the entry as it is.
            annotations: annotations of the index, name to value.
            media_type: media type of the index: that of an OCI index, which is the default, or of a
                Docker manifest list, which has no annotations.

        Returns:
            The digest and location of the index.

        Raises:
            ManifestUnknown: the repository does not have a source; the message names it.
            ManifestInvalid: there are no sources, a source or its config cannot be read, there are
                more than four levels of indexes, or `media_type` is not that of an index.
            ManifestBlobUnknown: an image that a source lists is missing, and the registry checks
                this.
            DigestMismatch: `reference` is a digest, but the index has another one.
            TypeError: `sources` is not a list of strings and descriptors.

        Follows: OCI Image Specification 1.1, "Image Index"; "Pushing Manifests".
        """
        from dockhand_core.operations.indexes import put_index

        return self.run(
            put_index(
                self.driver,
                repository,
                reference,
                sources,
                annotations=annotations,
                media_type=media_type,
            )
        )

    def copy(
        self,
        repository: str,
        reference: str | Descriptor,
        *,
        to: CopyClient | None = None,
        to_repository: str | None = None,
        to_reference: str | None = None,
        platforms: Iterable[Platform | str] | None = None,
        platform: Platform | str | None = None,
        referrers: bool = False,
        convert: str | None = None,
        concurrency: int = 8,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> CopyResult:
        """Copy an image, an index with its images, or an artifact.

        Blobs that the target has are skipped; within one registry the others are mounted. Blobs are
        streamed in parallel, in constant memory, and verified on the way. Manifests keep their
        exact bytes, and each is pushed when all that it names is there, the tag at the end. After
        an error, no tag was written.

        Within one repository, a further tag takes a GET and a PUT.

        Args:
            repository: the repository's name.
            reference: a tag, a digest, or a descriptor.
            to: the client of the registry to copy to, of the same kind as this one; None for this
                registry.
            to_repository: the repository's name there; None for the same name.
            to_reference: the tag there, or the digest that the copy must have; None for the tag
                `reference`. If `reference` is a digest, the copy then has no tag.
            platforms: the platforms to copy, as `Platform` or `os/architecture[/variant]`. An index
                is reduced to the entries that match one of them exactly, with their attestations,
                and so gets another digest.
            platform: copy the image for this platform alone, without its index.
            referrers: whether to copy the referrers of each manifest, too, and cosign's tags of it.
            convert: `oci` to convert Docker's manifests to OCI's, with other digests.
            concurrency: number of blobs that are transferred at a time.
            progress: called with the number of bytes that are done, and the number of bytes of all
                distinct blobs (None until all manifests are read). Calls may come from other
                threads, one at a time.
            blob_progress: called with the `BlobProgress` of each blob: while its bytes are sent,
                and at its end with the outcome. Calls of both functions come one at a time.

        Returns:
            The digest of the copy, and the numbers of manifests, blobs and bytes.

        Raises:
            TypeError: one of the clients is sync and the other is async.
            DockhandError: an argument has a wrong value, or two arguments exclude each other.
            ManifestUnknown: the source lacks the manifest, or one that the index lists.
            PlatformNotFound: a platform is missing; the message lists the available platforms.
            DigestMismatch: a blob of the source has another digest; the target does not store it.
            ManifestInvalid, Unsupported: the target refuses a manifest, perhaps for its media type.

        Follows: "Pulling manifests", "Pushing Manifests", "Mounting a blob from another
        repository".
        """
        from dockhand_core.operations.copies.copy import copy_image

        arguments: CopyArguments = {
            "platforms": platforms,
            "platform": platform,
            "referrers": referrers,
            "convert": convert,
            "concurrency": concurrency,
            "progress": progress,
            "blob_progress": blob_progress,
        }
        route = self._route(to, repository, to_repository)
        return self.run(copy_image(route, reference, to_reference, arguments))

    def copy_tags(
        self,
        repository: str,
        *,
        to: CopyClient | None = None,
        to_repository: str | None = None,
        tags: Sequence[str] = ("*",),
        newest: int | None = None,
        platforms: Iterable[Platform | str] | None = None,
        platform: Platform | str | None = None,
        referrers: bool = False,
        convert: str | None = None,
        concurrency: int = 8,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> Iterator[CopyResult]:
        """Copy many tags of a repository, and iterate over the results; each is copied like `copy`.

        Blobs and manifests that several tags share are sent once. If a tag fails, its result has
        the `error`, and the other tags are copied. Nothing is transferred while the caller is busy
        with the results.

        Args:
            repository: the repository's name.
            to: the client of the registry to copy to; None for this registry.
            to_repository: the repository's name there; None for the same name.
            tags: patterns of tags: globs such as `1.*`, or `re:` and a regular expression. Tags of
                signatures are never among them (see `referrers`).
            newest: the number of tags to copy, those with the newest images; None for all.
            platforms, platform, referrers, convert, concurrency: as for `copy`.
            progress, blob_progress: as for `copy`. The total number of bytes is None until the
                manifests of all tags are read. A blob that failed for one tag may begin again for
                another one.

        Raises:
            TypeError: one of the clients is sync and the other is async.
            DockhandError: an argument has a wrong value, or two arguments exclude each other.
            TagPatternInvalid: a pattern is neither a glob nor a regular expression.
            NameUnknown: the repository does not exist.

        Follows: "Listing Tags", and that of `copy`.
        """
        from dockhand_core.operations.copies.copy import TagCopies

        arguments: CopyArguments = {
            "platforms": platforms,
            "platform": platform,
            "referrers": referrers,
            "convert": convert,
            "concurrency": concurrency,
            "progress": progress,
            "blob_progress": blob_progress,
        }
        route = self._route(to, repository, to_repository)
        return self._copied_tags(TagCopies(route, tags, newest, arguments))

    def _copied_tags(self, copies: TagCopies) -> Iterator[CopyResult]:
        self.run(copies.prepare())
        while copies.more:
            yield from self.run(copies.next_results())

    def _route(self, to: CopyClient | None, repository: str, to_repository: str | None) -> Route:
        """The route of a copy to another client, or within this registry."""
        target = self if to is None else to
        if not isinstance(target, CopyClient):
            raise TypeError(f"copy: to has to be a sync RegistryClient, not {described(target)}")
        return make_route(self, target, repository, to_repository)


def make_route(
    source: _Client, target: _Client, repository: str, to_repository: str | None
) -> Route:
    """Make the route of a copy between two clients of one kind.

    Args:
        source, target: the clients, both sync or both async.
        repository: the repository's name at the source.
        to_repository: its name at the target; None for the same name.
    """
    from dockhand_core.operations.copies.blob_transfer import Connection, Route

    here, there = (
        Connection(each.driver, each._runner, each._runner.registry) for each in (source, target)
    )
    return Route(here, there, repository, repository if to_repository is None else to_repository)
