"""The driver `zot`: the specification's operations, adapted to zot, and zot's extensions.

Follows: OCI Distribution Specification 1.1, as zot implements it.
"""

from __future__ import annotations

from dockhand_distribution import DistributionDriver
from dockhand_distribution.base import digest_of
from dockhand_distribution.blob_body import BlobLimit
from dockhand_distribution.manifests import encode_manifest
from dockhand_distribution.pages import cut_page

from dockhand_core import Scope
from dockhand_core.driver import ManifestData
from dockhand_core.errors import (
    BlobUploadUnknown,
    Denied,
    ManifestInvalid,
    NotFound,
    RegistryError,
    Unauthorized,
)
from dockhand_core.flow import Flow, Reply
from dockhand_core.models import (
    Descriptor,
    Digest,
    Page,
    PushResult,
    TagDetails,
    Upload,
    check_repository,
    check_tag,
)
from dockhand_core.operations import exists
from dockhand_zot import queries
from dockhand_zot.clients import AsyncZotClient, ZotClient
from dockhand_zot.errors import ExtensionNotEnabled
from dockhand_zot.models import ImageSummary
from dockhand_zot.preferences import ApiKeys, Preferences
from dockhand_zot.vulnerabilities import Scans

__all__ = ["ZotDriver"]


class ZotDriver(Preferences, ApiKeys, Scans, DistributionDriver):
    """The driver for zot. Each method names the difference between zot and Distribution."""

    name = "zot"
    client = ZotClient
    async_client = AsyncZotClient

    # -- scopes: zot expects exactly these, neither the action `*` nor `registry:catalog` -----

    def push_scopes(self, repository: str, source: str | None = None) -> tuple[Scope, ...]:  # noqa: ARG002
        """The scope `push`, without `pull`; a mount requires no scope for its source."""
        return (Scope.repository(repository, "push"),)

    def catalog_scopes(self) -> tuple[Scope, ...]:
        """The scope of any list or search: `pull` for a repository with an empty name."""
        return (Scope.repository("", "pull"),)

    # -- lists -------------------------------------------------------------------------------

    def repository_page(self, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """Fetch a page of repositories; if it is empty, cut the page out of the whole list.

        If the repository `after` was deleted in the meantime, zot sends an empty page, as if the
        list had ended.
        """
        page = yield from super().repository_page(limit=limit, after=after)
        if page.items or after is None or limit is None:
            return page
        everything = yield from super().repository_page(limit=None, after=None)
        return cut_page(everything.items, limit, after)

    def tag_page(self, repository: str, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """Fetch a page of tags; after a 404, cut the page out of the whole list.

        zot answers 404 if the tag `after` was deleted in the meantime.
        """
        try:
            return (yield from super().tag_page(repository, limit=limit, after=after))
        except NotFound:
            if after is None:
                raise
        everything = yield from super().tag_page(repository, limit=None, after=None)
        return cut_page(everything.items, limit, after)

    # -- blobs -------------------------------------------------------------------------------

    def blob_size(self, repository: str, digest: str | Descriptor) -> Flow[int]:
        """Get the size of a blob from the headers of a GET reply.

        A HEAD would have side effects, and so would a GET of a range: if any readable repository
        has the blob, zot links it into this repository, which it creates if necessary.
        """
        return (yield from self._size_by_get(repository, digest_of(digest)))

    def blob_exists(self, repository: str, digest: str | Descriptor) -> Flow[bool]:
        """Whether a repository has a blob; like `blob_size`, by a GET."""
        return (yield from exists(self.blob_size(repository, digest)))

    def _request_blob(
        self, repository: str, limit: BlobLimit, offset: int, *, ranged: bool = True
    ) -> Flow[Reply]:
        """Request a blob, or its bytes from `offset` on, with GET; the body is left unread.

        Before a range is requested, `blob_size` checks that this repository has the blob.
        """
        if offset and ranged:
            yield from self.blob_size(repository, limit.digest)
        return (yield from super()._request_blob(repository, limit, offset, ranged=ranged))

    def blob_exists_for_push(self, repository: str, digest: str | Descriptor) -> Flow[bool]:
        """Whether zot has a blob, so that its push can be skipped.

        A HEAD is sent, because its side effect helps here: if another repository has the blob, zot
        links it into this one.
        """
        return (yield from exists(self._head_blob(repository, digest_of(digest))))

    def upload_chunk(self, upload: Upload, data: bytes) -> Flow[Upload]:
        """Append bytes to an upload with PATCH.

        Raises:
            BlobUploadUnknown: an earlier request broke off: zot then drops the upload.
        """
        try:
            return (yield from super().upload_chunk(upload, data))
        except BlobUploadUnknown as error:
            raise error.with_hint(
                "zot forgets an upload when a request breaks off; start_upload begins a new one"
            ) from error

    # -- manifests ---------------------------------------------------------------------------

    def put_manifest(
        self,
        repository: str,
        reference: str | Descriptor,
        manifest: ManifestData,
        *,
        media_type: str | None,
    ) -> Flow[PushResult]:
        """Push a manifest.

        If the reply to the first attempt is lost, zot may refuse the second one, because the tag
        exists by then. The tag's digest then shows whether the first attempt succeeded.
        """
        try:
            return (
                yield from super().put_manifest(
                    repository, reference, manifest, media_type=media_type
                )
            )
        except (Denied, Unauthorized) as error:  # zot sends 401 to anonymous clients
            raw, _ = encode_manifest(manifest, media_type)
            if error.attempts > 1 and (yield from self._is_pushed(repository, reference, raw)):
                return self.pushed(repository, "manifest", Digest.of(raw))
            raise
        except ManifestInvalid as error:
            if error.status != 415:
                raise
            raise error.with_hint(
                "zot accepts OCI manifests, and Docker's only if its configuration has "
                '"http": {"compat": ["docker2s2"]}'
            ) from error

    def _is_pushed(self, repository: str, reference: str | Descriptor, raw: bytes) -> Flow[bool]:
        try:
            head = yield from self.manifest_head(repository, reference)
        except RegistryError:
            return False
        return head.digest == Digest.of(raw, head.digest.algorithm)

    def delete_tag(self, repository: str, tag: str) -> Flow[None]:
        """Delete a tag. zot supports this, so no error is changed to `Unsupported`."""
        check_repository(repository)
        yield from self._delete_content(repository, "manifest", check_tag(tag))

    def deletes_tags(self, repository: str) -> Flow[bool]:  # noqa: ARG002
        """Return True, without a request."""
        return True
        yield

    def tag_details(self, repository: str) -> Flow[dict[str, TagDetails]]:
        """The push times of the tags, with one request for every 100 tags.

        Without the extension search, or the right to use it, nothing is known.
        """
        check_repository(repository)
        try:
            images = yield from self._pages(
                ImageSummary, queries.PUSH_TIMES, "ImageList", repository=repository
            )
        except (Denied, ExtensionNotEnabled, Unauthorized):
            return {}
        return {
            image.tag: TagDetails(digest=Digest(image.digest), pushed_at=image.pushed_at)
            for image in images
            if image.tag and image.digest
        }
