"""The driver `zot`: the specification's operations where zot differs, and zot's extensions.

Follows: OCI Distribution Specification 1.1, as zot implements it.
"""

from __future__ import annotations

from dockhand_distribution import DistributionDriver
from dockhand_distribution.blobs import size_missing
from dockhand_distribution.lists import cut_page
from dockhand_distribution.manifests import encode_manifest

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
from dockhand_core.flow import Flow, Reply, discard, drain
from dockhand_core.models import (
    Digest,
    Page,
    PushResult,
    Upload,
    check_repository,
    check_tag,
)
from dockhand_zot.clients import AsyncZotClient, ZotClient
from dockhand_zot.preferences import ApiKeys, Preferences
from dockhand_zot.vulnerabilities import Scans

_SMALL = 64 << 10  # bytes of a blob that is read to its end

__all__ = ["ZotDriver"]


class ZotDriver(Preferences, ApiKeys, Scans, DistributionDriver):
    """The driver for zot. Its methods differ from those for Distribution as the comments say."""

    name = "zot"
    client = ZotClient
    async_client = AsyncZotClient

    # -- scopes: zot wants exactly these, without `*` and without the catalog ----------------

    def push_scopes(self, repository: str, source: str | None = None) -> tuple[Scope, ...]:  # noqa: ARG002
        """Push alone is enough, and a mount needs no scope for its source."""
        return (Scope.repository(repository, "push"),)

    def catalog_scopes(self) -> tuple[Scope, ...]:
        """A list of any kind needs pull for a repository without a name."""
        return (Scope.repository("", "pull"),)

    # -- lists -------------------------------------------------------------------------------

    def repository_page(self, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """The page; an empty one is checked against the whole list.

        Behind a repository that was deleted in the meantime zot sends an empty page, as if the list
        ended there.
        """
        page = yield from super().repository_page(limit=limit, after=after)
        if page.items or after is None or limit is None:
            return page
        everything = yield from super().repository_page(limit=None, after=None)
        return cut_page(everything.items, limit, after)

    def tag_page(self, repository: str, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """The page; behind a tag that was deleted in the meantime zot answers 404."""
        try:
            return (yield from super().tag_page(repository, limit=limit, after=after))
        except NotFound:
            if after is None:
                raise
        everything = yield from super().tag_page(repository, limit=None, after=None)
        return cut_page(everything.items, limit, after)

    # -- blobs -------------------------------------------------------------------------------

    def blob_size(self, repository: str, digest: str) -> Flow[int]:
        """GET the blob, and stop after the headers.

        HEAD, and GET of a range, find a blob in any readable repository, link it into this one, and
        create this one where it does not exist.
        """
        reply = yield from super().open_blob(repository, digest, offset=0)
        size: int | None = reply.stream.length
        if size is not None and size <= _SMALL:
            yield from drain(reply.stream, lambda _: None)  # so that the connection stays open
        else:
            yield from discard(reply.stream)
        if size is None:
            raise size_missing(repository, digest)
        return size

    def open_blob(self, repository: str, digest: str, *, offset: int) -> Flow[Reply]:
        """GET the blob; before a range, check that the blob is in this repository."""
        if offset:
            yield from self.blob_size(repository, digest)
        return (yield from super().open_blob(repository, digest, offset=offset))

    def _exists_for_push(self, repository: str, digest: Digest) -> Flow[bool]:
        """HEAD the blob: before a push it is useful that zot links it from another repository."""
        try:
            yield from super().blob_size(repository, digest)
        except NotFound:
            return False
        return True

    def upload_chunk(self, upload: Upload, data: bytes) -> Flow[Upload]:
        """PATCH the bytes. zot drops an upload, with all its bytes, when a request breaks off."""
        try:
            return (yield from super().upload_chunk(upload, data))
        except BlobUploadUnknown as error:
            raise error.with_hint(
                "zot forgets an upload when a request breaks off; start_upload begins a new one"
            ) from error

    # -- manifests ---------------------------------------------------------------------------

    def put_manifest(
        self, repository: str, reference: str, manifest: ManifestData, *, media_type: str | None
    ) -> Flow[PushResult]:
        """PUT the manifest.

        Where the reply to a first attempt was lost, zot may refuse the second one, because the tag
        exists by then; the tag's digest tells whether the first attempt succeeded.
        """
        try:
            return (
                yield from super().put_manifest(
                    repository, reference, manifest, media_type=media_type
                )
            )
        except (Denied, Unauthorized) as error:  # 401 for an anonymous client
            raw, _ = encode_manifest(manifest, media_type)
            if error.attempts > 1 and (yield from self._is_pushed(repository, reference, raw)):
                digest = Digest.of(raw)
                return PushResult(digest=digest, location=f"/v2/{repository}/manifests/{digest}")
            raise
        except ManifestInvalid as error:
            if error.status != 415:
                raise
            raise error.with_hint(
                "zot takes OCI manifests, and Docker's only where its configuration has "
                '"http": {"compat": ["docker2s2"]}'
            ) from error

    def _is_pushed(self, repository: str, reference: str, raw: bytes) -> Flow[bool]:
        try:
            head = yield from self.manifest_head(repository, reference)
        except RegistryError:
            return False
        return head.digest == Digest.of(raw, head.digest.algorithm)

    def delete_tag(self, repository: str, tag: str) -> Flow[None]:
        """DELETE the tag, and nothing else."""
        check_repository(repository)
        yield from self._delete_content(repository, "manifest", check_tag(tag))
