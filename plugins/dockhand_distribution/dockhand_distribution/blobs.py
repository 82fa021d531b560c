"""Reading and deleting blobs, and downloading them into files with resumption.

Follows: OCI Distribution Specification 1.1, "Pulling blobs", "Checking if content exists in the
registry", "Deleting Blobs".
"""

from __future__ import annotations

from pathlib import Path

from dockhand_core.errors import (
    ConnectionFailed,
    DigestMismatch,
    DockhandError,
    NotFound,
    RangeInvalid,
    RegistryError,
    ResponseInvalid,
    ResponseTooLarge,
)
from dockhand_core.flow import Flow, Progress, Reply, blocking, call, discard, drain
from dockhand_core.http.urls import redacted_url
from dockhand_core.models import Descriptor, Digest, check_hash, check_repository
from dockhand_distribution.base import (
    DistributionBase,
    content_length,
    digest_of,
    refuses_head,
)
from dockhand_distribution.blob_body import BlobBody, BlobLimit, RangeIgnored
from dockhand_distribution.partial_file import PartialFile

_NO_RANGES = frozenset({400, 405, 406, 412, 413, 422, 501})
_SMALL = 64 << 10  # bytes; a smaller body is read, which keeps its connection open


class Blobs(DistributionBase):
    """The operations that read or delete blobs."""

    def open_blob(
        self,
        repository: str,
        digest: str | Descriptor,
        *,
        offset: int,
        max_size: int | None = None,
    ) -> Flow[Reply]:
        """Request a blob, or its bytes from `offset` on, with GET; the body is left unread.

        If the registry does not send the range, the whole blob is requested, and the bytes before
        `offset` are skipped.
        """
        check_repository(repository)
        limit = BlobLimit.of(digest, max_size)
        try:
            return (yield from self._request_blob(repository, limit, offset))
        except RegistryError as error:
            if not offset or not _refuses_range(error):
                raise
        # crane's registry refuses every range without an end: 416 BLOB_UNKNOWN.
        return (yield from self._request_blob(repository, limit, offset, ranged=False))

    def _request_blob(
        self, repository: str, limit: BlobLimit, offset: int, *, ranged: bool = True
    ) -> Flow[Reply]:
        """Request a blob; the stream of the reply starts at `offset`, and checks the limit."""
        reply = yield from call(
            "GET",
            f"{repository}/blobs/{limit.digest}",
            headers={"Range": f"bytes={offset}-"} if offset and ranged else {},
            scopes=self.pull_scopes(repository),
            expect=frozenset({200, 206}),
            kind="blob",
            repository=repository,
            stream=True,
        )
        try:
            reply.unread = BlobBody(reply, offset, limit)
        except DockhandError:
            yield from discard(reply.stream)
            raise
        return reply

    def read_blob(self, repository: str, digest: str | Descriptor, *, max_size: int) -> Flow[bytes]:
        """Read a whole blob into memory with GET, and verify its digest."""
        check_repository(repository)
        limit = BlobLimit.of(digest, max_size)
        hasher = limit.digest.hasher()
        try:
            reply = yield from call(
                "GET",
                f"{repository}/blobs/{limit.digest}",
                scopes=self.pull_scopes(repository),
                expect=frozenset({200, 206}),
                kind="blob",
                repository=repository,
                limit=max_size if limit.largest is None else limit.largest,
            )
        except ResponseTooLarge:
            raise limit.exceeded(f"repository {repository}") from None
        hasher.update(reply.body)
        check_hash(limit.digest, hasher, f"repository {repository}: the blob")
        return reply.body

    def blob_exists(self, repository: str, digest: str | Descriptor) -> Flow[bool]:
        """Whether a repository has a blob, by the status of a HEAD reply."""
        try:
            yield from self._head_blob(repository, digest_of(digest))
        except NotFound:
            return False
        return True

    def blob_size(self, repository: str, digest: str | Descriptor) -> Flow[int]:
        """Get the size of a blob from the `Content-Length` of a HEAD reply.

        Some replies lack it (Distribution, gitea), or have 0 in its place. The size is then that of
        a GET reply whose body is not read.
        """
        known = digest_of(digest)
        reply = yield from self._head_blob(repository, known)
        size = content_length(reply)
        if known == Digest.of(b"", known.algorithm):
            return 0
        return size or (yield from self._size_by_get(repository, known))

    def _head_blob(self, repository: str, digest: Digest) -> Flow[Reply]:
        """Request the headers of a blob with HEAD, or with GET if HEAD is refused.

        A registry may redirect to a storage that accepts GET only: the signature of S3's URLs holds
        for one method.
        """
        check_repository(repository)
        try:
            return (
                yield from call(
                    "HEAD",
                    f"{repository}/blobs/{digest}",
                    scopes=self.pull_scopes(repository),
                    expect=frozenset({200, 204, 206}),
                    kind="blob",
                    repository=repository,
                )
            )
        except RegistryError as error:
            elsewhere = error.redirected and error.status in (401, 403)
            if not refuses_head(error) and not elsewhere:
                raise
        reply = yield from self._request_blob(repository, BlobLimit(digest), 0)
        yield from discard(reply.stream)
        return reply

    def _size_by_get(self, repository: str, digest: Digest) -> Flow[int]:
        """Get the size of a blob from the headers of a GET reply."""
        check_repository(repository)
        reply = yield from self._request_blob(repository, BlobLimit(digest), 0)
        size: int | None = reply.stream.length
        if size is not None and size <= _SMALL:
            yield from drain(reply.stream, lambda _: None)
        else:
            yield from discard(reply.stream)
        if size is None:
            raise ResponseInvalid(
                f"{redacted_url(reply.url)}: the reply with the blob has no Content-Length, so "
                "the blob's size is not known",
                status=reply.status,
                repository=repository,
            )
        return size

    def delete_blob(self, repository: str, digest: str | Descriptor) -> Flow[None]:
        """Delete a blob from a repository."""
        check_repository(repository)
        yield from self._delete_content(repository, "blob", digest_of(digest))

    def download_blob(
        self,
        repository: str,
        digest: str | Descriptor,
        path: Path,
        *,
        progress: Progress | None,
        max_size: int | None = None,
    ) -> Flow[Path]:
        """Download a blob into a partial file, verify its digest, and rename the file to `path`.

        If the connection breaks, the download resumes after the bytes in the partial file. After an
        error the file stays, so that a later call can resume the download; if the complete file has
        a wrong digest, or too many bytes, the file is deleted.
        """
        check_repository(repository)
        limit = BlobLimit.of(digest, max_size)
        partial = PartialFile(path, limit.digest)
        try:
            yield from blocking(partial.open)
            try:
                yield from self._fill(repository, limit, partial, progress)
                partial.verify(repository)
            except DigestMismatch:
                if not partial.inherited:
                    raise
                # The wrong bytes may be those that an earlier download left: begin anew once.
                yield from blocking(partial.restart)
                yield from self._fill(repository, limit, partial, progress)
                partial.verify(repository)
            yield from blocking(partial.finish)
        except (DigestMismatch, ResponseTooLarge):
            yield from blocking(partial.discard)
            raise
        finally:
            partial.close()
        return path

    def _fill(
        self, repository: str, limit: BlobLimit, partial: PartialFile, progress: Progress | None
    ) -> Flow[None]:
        if limit.largest is not None and partial.size > limit.largest:
            yield from blocking(partial.restart)
        if partial.size and partial.matches():
            return
        attempts, restarts = self.retry.attempts(), 0
        while True:
            before = partial.size
            try:
                reply = yield from self._request_blob(repository, limit, partial.size)
                length = reply.stream.length
                total = None if length is None else partial.size + length
                yield from drain(reply.stream, partial.sink(progress, total))
                return
            except ConnectionFailed as error:
                if partial.matches():
                    return  # the blob is complete: only the announced length was wrong
                if partial.size > before:
                    attempts.progressed()
                # Another reply may come from another server, with other bytes.
                partial.inherited = partial.size
                yield from attempts.wait_after(error)
            except RegistryError as error:
                # The registry refuses the range, or the partial file is longer than the blob.
                restarts += 1
                if not before or not _refuses_range(error):
                    raise
                if restarts > max(1, self.retry.retries):
                    raise
                yield from blocking(partial.restart)


def _refuses_range(error: RegistryError) -> bool:
    """Whether a request for a part of a blob may succeed as a request for the whole blob."""
    return isinstance(error, RangeInvalid | RangeIgnored) or error.status in _NO_RANGES
