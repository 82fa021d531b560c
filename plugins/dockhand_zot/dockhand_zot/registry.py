"""The specification's operations, where zot has ways of its own.

Follows: OCI Distribution Specification 1.1, as zot does.
"""

from __future__ import annotations

from dockhand_distribution import DistributionDriver
from dockhand_distribution.manifests import content

from dockhand_core import Scope
from dockhand_core.driver import ManifestData
from dockhand_core.errors import (
    BlobUploadUnknown,
    Denied,
    ManifestInvalid,
    NotFound,
    RegistryError,
    ResponseInvalid,
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

_SMALL = 64 << 10


class ZotRegistry(DistributionDriver):
    """What zot does otherwise than Distribution."""

    # -- what requests need: exactly these, no `*`, no catalog -------------------------------

    def writing(self, repository: str, source: str | None = None) -> tuple[Scope, ...]:  # noqa: ARG002
        """To push alone is enough, and nothing is asked of where a blob is mounted from."""
        return (Scope.repository(repository, "push"),)

    def listing(self) -> tuple[Scope, ...]:
        """To list anything: reading a repository without a name."""
        return (Scope.repository("", "pull"),)

    # -- lists -------------------------------------------------------------------------------

    def repository_page(self, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """A page, and where it seems to be the last one, a look whether it is.

        After a repository that was deleted meanwhile zot sends an empty page as if that were all.
        """
        page = yield from super().repository_page(limit=limit, after=after)
        if page.items or after is None or limit is None:
            return page
        everything = yield from super().repository_page(limit=None, after=None)
        return _cut(everything.items, limit, after)

    def tag_page(self, repository: str, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """A page; zot answers 404 for what follows a tag that was deleted meanwhile."""
        try:
            return (yield from super().tag_page(repository, limit=limit, after=after))
        except NotFound:
            if after is None:
                raise
        everything = yield from super().tag_page(repository, limit=None, after=None)
        return _cut(everything.items, limit, after)

    # -- blobs -------------------------------------------------------------------------------

    def blob_size(self, repository: str, digest: str) -> Flow[int]:
        """Begin to get it. HEAD, and GET of a range, find a blob in any repository that may be
        read, link it into this one, and create that one where it is not there."""
        reply = yield from super().open_blob(repository, digest, offset=0)
        size: int | None = reply.stream.length
        if size is not None and size <= _SMALL:
            yield from drain(reply.stream, lambda _: None)  # so that the connection can be kept
        else:
            yield from discard(reply.stream)
        if size is None:
            raise ResponseInvalid(f"repository {repository}: blob {digest} came without its size")
        return size

    def open_blob(self, repository: str, digest: str, *, offset: int) -> Flow[Reply]:
        """Get it; before a part of it, look whether it is in this repository."""
        if offset:
            yield from self.blob_size(repository, digest)
        return (yield from super().open_blob(repository, digest, offset=offset))

    def _has(self, repository: str, digest: Digest) -> Flow[bool]:
        """By HEAD: who is about to push a blob wants it linked from wherever it is."""
        try:
            yield from super().blob_size(repository, digest)
        except NotFound:
            return False
        return True

    def upload_chunk(self, upload: Upload, data: bytes) -> Flow[Upload]:
        """Patch. A request that breaks takes the upload with it, and all that it had."""
        try:
            return (yield from super().upload_chunk(upload, data))
        except BlobUploadUnknown as error:
            raise error.explained(
                "zot forgets an upload when a request breaks off; start_upload begins a new one"
            ) from error

    # -- manifests ---------------------------------------------------------------------------

    def put_manifest(
        self, repository: str, reference: str, manifest: ManifestData, *, media_type: str | None
    ) -> Flow[PushResult]:
        """Put it. Where the reply to a first try was lost, zot may refuse the second one, since
        the tag is there by then: so look whether it is what was pushed."""
        try:
            return (
                yield from super().put_manifest(
                    repository, reference, manifest, media_type=media_type
                )
            )
        except (Denied, Unauthorized) as error:  # the latter where nobody is logged in
            raw, _ = content(manifest, media_type)
            if error.attempts > 1 and (yield from self._is_there(repository, reference, raw)):
                digest = Digest.of(raw)
                return PushResult(digest=digest, location=f"/v2/{repository}/manifests/{digest}")
            raise
        except ManifestInvalid as error:
            if error.status != 415:
                raise
            raise error.explained(
                "zot takes OCI manifests, and Docker's only where its configuration has "
                '"http": {"compat": ["docker2s2"]}'
            ) from error

    def _is_there(self, repository: str, reference: str, raw: bytes) -> Flow[bool]:
        try:
            head = yield from self.manifest_head(repository, reference)
        except RegistryError:
            return False
        return head.digest == Digest.of(raw, head.digest.algorithm)

    def delete_tag(self, repository: str, tag: str) -> Flow[None]:
        """Delete by tag: only the tag."""
        check_repository(repository)
        yield from self._delete(repository, check_tag(tag))


def _cut(items: tuple[str, ...], limit: int | None, after: str) -> Page[str]:
    """A page of what follows, cut here from all there is."""
    rest = sorted(item for item in items if item > after)
    if limit is None:
        return Page(items=tuple(rest))
    return Page(items=tuple(rest[:limit]), next=rest[limit - 1] if rest[limit:] else None)
