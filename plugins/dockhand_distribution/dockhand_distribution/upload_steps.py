"""The steps of an upload (begin, chunk, finish, status, cancel), and mounts.

Distribution sends a new `Location` with every reply about an upload, and its query holds the
upload's state. So each request uses the newest `Location` unchanged, with `digest` appended if
needed. `Range: 0-0` can mean zero bytes or one byte, so the offset is counted here.

Follows: OCI Distribution Specification 1.1, "Pushing a blob in chunks", "Mounting a blob from
another repository", "Cancel a blob upload".
"""

from __future__ import annotations

import re
from typing import Unpack

from dockhand_core.errors import (
    BlobUploadInvalid,
    ConnectionFailed,
    DigestInvalid,
    DockhandError,
    NotFound,
    RangeInvalid,
    RegistryError,
    ResponseInvalid,
    ServerError,
)
from dockhand_core.flow import (
    Attempts,
    BytesSource,
    CallOptions,
    Flow,
    Progress,
    Reply,
    Source,
    call,
)
from dockhand_core.http.urls import one_line, redacted_url
from dockhand_core.models import (
    Descriptor,
    Digest,
    PushResult,
    Upload,
    check_repository,
)
from dockhand_distribution.base import (
    DistributionBase,
    check_announced_digest,
    digest_of,
    location,
)

SMALLEST_CHUNK = 64 << 10  # bytes; a refused chunk of this size is not made smaller
LARGEST_MIN_CHUNK = 64 << 20  # bytes; the largest OCI-Chunk-Min-Length that is accepted
OCTETS = {"Content-Type": "application/octet-stream"}
# The specification has 202 for a POST and a PATCH, and 201 for the PUT that ends an upload.
_BEGUN = frozenset({200, 201, 202, 204})
_APPENDED = frozenset({200, 201, 202, 204})
_CREATED = frozenset({200, 201, 202, 204})
_RANGE = re.compile(r"(?:bytes\s*[= ])?\s*0\s*-\s*(-1|\d{1,18})(?:\s*/\s*(?:\d+|\*))?")
_TOO_LARGE = (413, 416)  # GHCR answers 416 to a chunk of more than 4 MiB


class UploadSteps(DistributionBase):
    """The operations on an upload, and the state that a connection remembers of them."""

    # Whether the registry accepts a blob in a single POST; None until one was tried.
    _single_post: bool | None = None
    # The largest body in bytes that the registry accepts; None until it has refused one.
    _largest_body: int | None = None
    # Whether the `Range` of an upload's status is known to be one byte too high, as gitea's is.
    _counts_too_high = False

    def start_upload(self, repository: str) -> Flow[Upload]:
        """Begin an upload with POST."""
        check_repository(repository)
        reply = yield from self._post(repository)
        return new_upload(repository, reply)

    def _post(
        self, repository: str, /, *, source: str | None = None, **options: Unpack[CallOptions]
    ) -> Flow[Reply]:
        options["scopes"] = self.push_scopes(repository, source)
        options["expect"] = _BEGUN
        options["kind"], options["repository"] = "upload", repository
        path = f"{repository}/blobs/uploads/"  # keep the trailing slash: it avoids a redirect
        return (yield from call("POST", path, **options))

    def upload_chunk(self, upload: Upload, data: bytes) -> Flow[Upload]:
        """Append bytes to an upload with PATCH.

        After a failure, the upload's offset is requested, and the remaining bytes are sent. If
        the registry refuses the size of the chunk (GHCR: more than 4 MiB), smaller chunks are sent
        from then on. If `data` is empty, no request is sent.
        """
        return (yield from self._send_chunk(upload, data, self.retry.attempts()))

    def _send_chunk(self, upload: Upload, data: bytes, attempts: Attempts) -> Flow[Upload]:
        start, end = upload.offset, upload.offset + len(data)
        resumed = guessed = False  # whether the offset is that of the upload's status, or one less
        while upload.offset < end:
            position = upload.offset - start
            size = max(self._largest_body or len(data), upload.min_chunk)
            piece = data[position : position + size]
            try:
                upload = yield from self._patch(upload, BytesSource(piece))
                self._counts_too_high |= guessed
                resumed = guessed = False
            except (ConnectionFailed, ServerError) as error:
                yield from attempts.wait_after(error)
                now = yield from self._status_after(upload, error, end)
                if now.offset > upload.offset:
                    attempts.progressed()
                upload, resumed = now, True
            except RegistryError as error:
                if error.status not in _TOO_LARGE:
                    raise
                if error.status == 416 and resumed and not guessed and upload.offset > start:
                    guessed = True
                    upload = upload.model_copy(update={"offset": upload.offset - 1})
                    continue
                if len(piece) <= max(SMALLEST_CHUNK, upload.min_chunk):
                    raise
                if error.status == 416:
                    yield from self._check_offset(upload, error)
                self._largest_body = smaller(len(piece))
        return upload

    def _status_after(self, upload: Upload, error: Exception, end: int) -> Flow[Upload]:
        """Get the offset of an upload after a failed chunk.

        Args:
            upload: the upload as it was before the chunk.
            error: the failure, which is raised if the offset cannot be requested.
            end: the offset after the chunk.
        """
        try:
            now = yield from self._status(upload)
        except DockhandError:  # crane's registry has no status
            raise error from None
        if now.offset == end + 1:  # gitea
            self._counts_too_high = True
            now = now.model_copy(update={"offset": end})
        if not upload.offset <= now.offset <= end:
            raise error
        return now

    def _check_offset(self, upload: Upload, refusal: Exception) -> Flow[None]:
        """Raise the refusal of a chunk, if the upload is known to have another offset."""
        try:
            now = yield from self._status(upload)
        except DockhandError:
            return
        if now.offset not in (upload.offset, upload.offset + 1):
            raise refusal

    def _patch(self, upload: Upload, source: Source) -> Flow[Upload]:
        end = upload.offset + source.size
        reply = yield from self._call_upload(
            "PATCH",
            upload,
            expect=_APPENDED,
            headers={**OCTETS, "Content-Range": f"{upload.offset}-{end - 1}"},
            body=source,
            repeatable=False,
        )
        place = location(reply, upload.location)
        after = upload.model_copy(update={"location": place, "offset": end})
        received = _RANGE.fullmatch(reply.headers.get("range", "").strip())
        if received is None or not upload.offset < int(received[1]) + 1 < end or received[1] == "0":
            return after
        # The registry took a part of the chunk, or its Range has another meaning: ask.
        try:
            now = yield from self._status(after)
        except DockhandError:
            return after
        return now if upload.offset < now.offset < end else after

    def _call_upload(
        self, method: str, upload: Upload, **options: Unpack[CallOptions]
    ) -> Flow[Reply]:
        options.setdefault("scopes", self.push_scopes(upload.repository))
        options["kind"], options["repository"] = "upload", upload.repository
        return (yield from call(method, upload.location, **options))

    def finish_upload(self, upload: Upload, digest: str) -> Flow[PushResult]:
        """Finish an upload with a PUT without a body.

        If the reply is lost, a look-up of the blob shows whether the upload succeeded. If it did
        not, the PUT is sent again.
        """
        known = Digest(digest)
        attempts = self.retry.attempts()
        failure: ConnectionFailed | ServerError | None = None
        while True:
            try:
                return (yield from self._finish(upload, known, None))
            except (ConnectionFailed, ServerError) as error:
                failure = failure or error
                again = self._worth_resuming(error, resumed=False)
            except (NotFound, BlobUploadInvalid):
                if failure is None:
                    raise
                again = False  # an earlier attempt may have finished the upload
            if (yield from self._exists_after(failure, upload.repository, known)):
                return self.pushed(upload.repository, "blob", known)
            if not again:
                raise failure
            yield from attempts.wait_after(failure)

    def _worth_resuming(self, error: Exception, *, resumed: bool) -> bool:
        """Whether a failed upload may succeed if it is resumed or begun again.

        After a wrong digest, only a resumed upload is tried again: the earlier request that failed
        may have added bytes to the upload after its offset was requested.
        """
        if isinstance(error, DigestInvalid):
            return resumed
        if isinstance(error, RegistryError) and error.status == 413:
            return False
        if isinstance(error, ServerError):
            return self.retry.repeats_status(error.status or 0)
        return isinstance(error, ConnectionFailed | NotFound | BlobUploadInvalid | RangeInvalid)

    def _exists_after(self, failure: Exception, repository: str, digest: Digest) -> Flow[bool]:
        """Whether a blob exists after a failed upload; if that cannot be asked, raise `failure`."""
        try:
            return (yield from self.blob_exists_for_push(repository, digest))
        except DockhandError:
            raise failure from None

    def _finish(
        self,
        upload: Upload,
        digest: Digest,
        source: Source | None,
        *,
        progress: Progress | None = None,
    ) -> Flow[PushResult]:
        reply = yield from self._call_upload(
            "PUT",
            upload,
            query=[("digest", digest)],
            headers=OCTETS if source is not None else {},
            body=source,
            expect=_CREATED,
            repeatable=False,
            progress=progress,
            commit=True,
        )
        check_announced_digest(reply, digest, f"repository {upload.repository}: the blob")
        return self.pushed(upload.repository, "blob", digest, reply)

    def upload_status(self, upload: Upload) -> Flow[Upload]:
        """Get the offset of an upload with GET.

        An offset that is one higher than that of `upload` is taken for the same: gitea's is one
        too high, and a chunk of which exactly one byte arrived is rare.
        """
        now = yield from self._status(upload)
        if upload.offset and now.offset == upload.offset + 1:
            return now.model_copy(update={"offset": upload.offset})
        return now

    def _status(self, upload: Upload) -> Flow[Upload]:
        """Get the offset of an upload, as the registry states it."""
        reply = yield from self._call_upload(
            "GET",
            upload,
            expect=frozenset({204, 200, 202}),
            scopes=self.pull_scopes(upload.repository),
        )
        text = reply.headers.get("range", "").strip()
        received = _RANGE.fullmatch(text)
        if received is None and (text or upload.offset):
            found = f"{one_line(text[:80])!r}" if text else "the header is missing"
            raise ResponseInvalid(
                f"{redacted_url(reply.url)}: the status of the upload has no usable Range: {found}",
                status=reply.status,
                repository=upload.repository,
            )
        offset = int(received[1]) + 1 if received else 0
        if offset == 1 and upload.offset != 1:
            # The registry's `Range: 0-0` means one byte, or (from some registries) no bytes. Assume
            # no bytes: if the first byte is then stored twice, the check of the digest fails.
            offset = 0
        elif offset and self._counts_too_high:
            offset -= 1
        return upload.model_copy(
            update={"location": location(reply, upload.location), "offset": offset}
        )

    def cancel_upload(self, upload: Upload) -> Flow[None]:
        """Cancel an upload with DELETE."""
        try:
            yield from self._call_upload(
                "DELETE",
                upload,
                expect=frozenset({204, 202, 200}),
                scopes=self.delete_scopes(upload.repository),
            )
        except NotFound as error:
            if error.attempts == 1:  # otherwise an earlier attempt has cancelled the upload
                raise

    def mount_blob(
        self, repository: str, digest: str | Descriptor, source: str
    ) -> Flow[PushResult | Upload]:
        """Mount a blob of another repository with POST.

        A registry that does not mount the blob begins an upload instead, which is returned. If it
        refuses the mount (Pulp: 404), an upload is begun by a request of its own.
        """
        check_repository(repository)
        check_repository(source)
        known = digest_of(digest)
        try:
            reply = yield from self._post(
                repository, source=source, query=[("mount", known), ("from", source)]
            )
        except RegistryError as error:
            status = error.status or 0
            if status in (401, 403, 429) or not (400 <= status < 500 or status == 501):
                raise
            return (yield from self.start_upload(repository))
        if reply.status == 201:
            check_announced_digest(reply, known, f"repository {repository}: the mounted blob")
            return self.pushed(repository, "blob", known, reply, uploaded=False)
        return new_upload(repository, reply)


def new_upload(repository: str, reply: Reply) -> Upload:
    """The upload that a POST has begun, from the headers of its reply.

    Raises:
        ResponseInvalid: the reply has no `Location`, or its `OCI-Chunk-Min-Length` exceeds the
            size that is kept in memory.
    """
    text = reply.headers.get("oci-chunk-min-length", "").strip()
    minimum = int(text[:20]) if text.isascii() and text.isdecimal() else 0
    if minimum > LARGEST_MIN_CHUNK:
        raise ResponseInvalid(
            f"{redacted_url(reply.url)}: the reply's OCI-Chunk-Min-Length is {text[:40]}; at most "
            f"{LARGEST_MIN_CHUNK} bytes are accepted, because a chunk is kept in memory",
            status=reply.status,
            repository=repository,
        )
    return Upload(repository=repository, location=location(reply), min_chunk=minimum)


def smaller(size: int) -> int:
    """The largest power of two below a number of bytes."""
    return 1 << ((size - 1).bit_length() - 1)
