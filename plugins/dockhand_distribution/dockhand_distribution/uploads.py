"""Uploads of blobs (step by step, in one request, or in chunks), and mounts.

Distribution sends a new `Location` with every reply about an upload, and its query holds the
upload's state. So each request uses the newest `Location` unchanged, with `digest` appended if
needed. `Range: 0-0` can mean zero bytes or one byte, so the offset is counted here.

Follows: OCI Distribution Specification 1.1, "Pushing Blobs", "Pushing a blob monolithically",
"Pushing a blob in chunks", "Mounting a blob from another repository", "Cancel a blob upload".
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Unpack

from dockhand_core.driver import AnyBlobData
from dockhand_core.errors import (
    BlobUploadInvalid,
    ConnectionFailed,
    DigestInvalid,
    DockhandError,
    NotFound,
    RangeInvalid,
    RegistryError,
    ServerError,
)
from dockhand_core.flow import (
    BLOCK,
    BytesSource,
    CallOptions,
    FileSource,
    Flow,
    Progress,
    Reply,
    Source,
    blocking,
    call,
    iterator_of,
    take,
)
from dockhand_core.models import (
    Digest,
    PushResult,
    Upload,
    check_digest,
    check_repository,
    new_hasher,
)
from dockhand_core.operations import BufferedUpload
from dockhand_distribution.base import DistributionBase, check_announced_digest, location

SINGLE_POST = 64 << 10  # bytes; the largest blob that is sent with the POST of its upload
_OCTETS = {"Content-Type": "application/octet-stream"}
_CREATED = frozenset({201, 204})


class Uploads(DistributionBase):
    """The operations that upload blobs."""

    # Whether the registry accepts a blob in a single POST; None until one was tried.
    _single_post: bool | None = None

    # -- step by step ----------------------------------------------------------------------

    def start_upload(self, repository: str) -> Flow[Upload]:
        """Begin an upload with POST."""
        check_repository(repository)
        reply = yield from self._post(repository)
        return _new_upload(repository, reply)

    def _post(
        self, repository: str, /, *, source: str | None = None, **options: Unpack[CallOptions]
    ) -> Flow[Reply]:
        options["scopes"] = self.push_scopes(repository, source)
        options["expect"] = frozenset({201, 202})
        options["kind"], options["repository"] = "upload", repository
        path = f"{repository}/blobs/uploads/"  # keep the trailing slash: it avoids a redirect
        return (yield from call("POST", path, **options))

    def upload_chunk(self, upload: Upload, data: bytes) -> Flow[Upload]:
        """Append bytes to an upload with PATCH.

        After a failure, the upload's offset is requested, and the remaining bytes are sent. If
        `data` is empty, no request is sent.
        """
        end = upload.offset + len(data)
        attempts = self.retry.attempts()
        while upload.offset < end:
            missing = BytesSource(data[len(data) - (end - upload.offset) :])
            try:
                return (yield from self._patch(upload, missing))
            except (ConnectionFailed, ServerError) as error:
                yield from attempts.wait_after(error)
                now = yield from self.upload_status(upload)
                if not upload.offset <= now.offset <= end:
                    raise
                if now.offset > upload.offset:
                    attempts.progressed()
                upload = now
        return upload

    def _patch(
        self, upload: Upload, source: Source, *, progress: Progress | None = None
    ) -> Flow[Upload]:
        end = upload.offset + source.size
        reply = yield from self._call_upload(
            "PATCH",
            upload,
            expect=frozenset({202, 201, 204}),
            headers={**_OCTETS, "Content-Range": f"{upload.offset}-{end - 1}"},
            body=source,
            repeatable=False,
            progress=progress,
        )
        return upload.model_copy(update={"location": location(reply), "offset": end})

    def _call_upload(
        self, method: str, upload: Upload, **options: Unpack[CallOptions]
    ) -> Flow[Reply]:
        options.setdefault("scopes", self.push_scopes(upload.repository))
        options["kind"], options["repository"] = "upload", upload.repository
        return (yield from call(method, upload.location, **options))

    def finish_upload(self, upload: Upload, digest: str) -> Flow[PushResult]:
        """Finish an upload with a PUT without a body.

        If the reply is lost, a look-up of the blob shows whether the upload succeeded.
        """
        known = Digest(digest)
        try:
            return (yield from self._finish(upload, known, None))
        except (ConnectionFailed, ServerError):
            if not (yield from self._exists_for_push(upload.repository, known)):
                raise
            return self.pushed(upload.repository, "blob", known)

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
            headers=_OCTETS if source is not None else {},
            body=source,
            expect=_CREATED,
            repeatable=False,
            progress=progress,
        )
        check_announced_digest(reply, digest, f"repository {upload.repository}: the blob")
        return self.pushed(upload.repository, "blob", digest, reply)

    def upload_status(self, upload: Upload) -> Flow[Upload]:
        """Get the offset of an upload with GET."""
        reply = yield from self._call_upload(
            "GET",
            upload,
            expect=frozenset({204, 200}),
            scopes=self.pull_scopes(upload.repository),
        )
        received = re.fullmatch(r"(?:bytes=)?0-(\d{1,18})", reply.headers.get("range", ""))
        offset = int(received[1]) + 1 if received else 0
        if offset == 1 and upload.offset != 1:
            # The registry's `Range: 0-0` means one byte, or (from some registries) no bytes. Assume
            # no bytes: if the first byte is then stored twice, the check of the digest fails.
            offset = 0
        return upload.model_copy(
            update={"location": location(reply, upload.location), "offset": offset}
        )

    def cancel_upload(self, upload: Upload) -> Flow[None]:
        """Cancel an upload with DELETE."""
        yield from self._call_upload(
            "DELETE",
            upload,
            expect=frozenset({204, 202, 200}),
            scopes=self.delete_scopes(upload.repository),
        )

    def mount_blob(self, repository: str, digest: str, source: str) -> Flow[PushResult | Upload]:
        """Mount a blob of another repository with POST.

        A registry that does not mount the blob begins an upload instead, which is returned.
        """
        check_repository(repository)
        check_repository(source)
        known = Digest(digest)
        reply = yield from self._post(
            repository, source=source, query=[("mount", known), ("from", source)]
        )
        if reply.status == 201:
            return self.pushed(repository, "blob", known, reply, uploaded=False)
        return _new_upload(repository, reply)

    # -- whole blobs -----------------------------------------------------------------------

    def upload_blob(
        self,
        repository: str,
        data: AnyBlobData,
        *,
        digest: str | None,
        progress: Progress | None,
    ) -> Flow[PushResult]:
        """Upload a blob, unless the repository already has it.

        Data that can be read twice (bytes, a path, a seekable file) is hashed first, so that its
        digest can be looked up. Other data is looked up only if `digest` is given.
        """
        check_repository(repository)
        known = Digest(digest) if digest is not None else None
        source = yield from blocking(_source_of, data)
        if source is None:
            return (yield from self._upload_stream(repository, data, known, progress))
        actual = yield from blocking(_digest_of, source, known.algorithm if known else "sha256")
        if known is not None:
            check_digest(known, actual, f"repository {repository}: the data")
        if (yield from self._exists_for_push(repository, actual)):
            return self.pushed(repository, "blob", actual, uploaded=False)
        return (yield from self._upload_source(repository, source, actual, progress))

    def _exists_for_push(self, repository: str, digest: Digest) -> Flow[bool]:
        """Whether the repository already has a blob, so that its push can be skipped."""
        try:
            yield from self.blob_size(repository, digest)
        except NotFound:
            return False
        return True

    def _upload_source(
        self, repository: str, source: Source, digest: Digest, progress: Progress | None
    ) -> Flow[PushResult]:
        """Upload a source in one request; after a failure, resume the upload or begin a new one."""
        upload: Upload | None = None
        attempts = self.retry.attempts()
        try:
            while True:
                resumed = upload is not None
                try:
                    if upload is None:
                        begun = yield from self._begin(repository, source, digest, progress)
                        if isinstance(begun, PushResult):
                            return begun
                        upload = begun
                    if upload.offset:
                        shifted = _shifted(progress, upload.offset, source.size)
                        rest = source.skip(upload.offset)
                        upload = yield from self._patch(upload, rest, progress=shifted)
                        return (yield from self.finish_upload(upload, digest))
                    return (yield from self._finish(upload, digest, source, progress=progress))
                except (ConnectionFailed, RegistryError) as error:
                    if not self._worth_resuming(error, resumed=resumed):
                        raise
                    yield from attempts.wait_after(error)
                    failure = error
                if (yield from self._exists_for_push(repository, digest)):
                    return self.pushed(repository, "blob", digest)
                upload = yield from self._recover(upload, source, failure)
        except GeneratorExit:
            raise
        except BaseException:
            if upload is not None:
                yield from self._cancel_quietly(upload)
            raise

    def _worth_resuming(self, error: Exception, *, resumed: bool) -> bool:
        """Whether a failed upload may succeed if it is resumed or begun again.

        After a wrong digest, only a resumed upload is tried again: the earlier request that failed
        may have added bytes to the upload after its offset was requested.
        """
        if isinstance(error, DigestInvalid):
            return resumed
        if isinstance(error, ServerError):
            return self.retry.repeats_status(error.status or 0)
        return isinstance(error, ConnectionFailed | NotFound | BlobUploadInvalid | RangeInvalid)

    def _begin(
        self, repository: str, source: Source, digest: Digest, progress: Progress | None
    ) -> Flow[Upload | PushResult]:
        """Begin an upload with POST; a small blob is sent in the body of the POST.

        Distribution does not support a blob in the POST: it answers 202, and drops the body. The
        blob is then sent with a PUT, and from then on no blob is sent in a POST.
        """
        if self._single_post is False or source.size > SINGLE_POST:
            return (yield from self.start_upload(repository))
        reply = yield from self._post(
            repository, query=[("digest", digest)], headers=_OCTETS, body=source
        )
        self._single_post = reply.status == 201
        if reply.status == 202:
            return _new_upload(repository, reply)
        if progress is not None:
            progress(source.size, source.size)
        return self.pushed(repository, "blob", digest, reply)

    def _recover(
        self, upload: Upload | None, source: Source, error: Exception
    ) -> Flow[Upload | None]:
        """Prepare the next attempt after a failed one.

        After a failed request, Distribution 3.1 keeps every byte that it received. Distribution
        2.8 forgets the upload.

        Returns:
            the upload with the offset from which it can be resumed; None if the upload cannot be
            resumed, so that a new upload must begin.
        """
        if upload is None:
            return None
        if isinstance(error, ConnectionFailed | ServerError | RangeInvalid):
            try:
                now = yield from self.upload_status(upload)
                if 0 < now.offset < source.size:
                    return now
            except DockhandError:
                pass
        yield from self._cancel_quietly(upload)
        return None

    def _cancel_quietly(self, upload: Upload) -> Flow[None]:
        """Cancel an upload after an error, and ignore a failure of the cancellation."""
        with suppress(DockhandError):
            yield from self.cancel_upload(upload)

    def _upload_stream(
        self,
        repository: str,
        data: AnyBlobData,
        digest: Digest | None,
        progress: Progress | None,
    ) -> Flow[PushResult]:
        """Upload data that can be read only once, in chunks that are buffered for retries."""
        if digest is not None and (yield from self._exists_for_push(repository, digest)):
            return self.pushed(repository, "blob", digest, uploaded=False)
        upload = BufferedUpload(self, repository, digest.algorithm if digest else "sha256")
        iterator = iterator_of(_blocks_of(data))
        try:
            yield from upload.begin()
            while (block := (yield from take(iterator))) is not None:
                if upload.add(block):
                    yield from upload.send_chunks()
                    if progress is not None:
                        progress(upload.upload.offset if upload.upload else 0, None)
            yield from upload.finish(digest)
        except GeneratorExit:
            raise
        except BaseException:
            yield from upload.cancel()
            raise
        assert upload.result is not None
        if progress is not None:
            progress(upload.size, upload.size)
        return upload.result


def _new_upload(repository: str, reply: Reply) -> Upload:
    """The upload that a POST has begun, from the headers of its reply."""
    minimum = reply.headers.get("oci-chunk-min-length", "")
    return Upload(
        repository=repository,
        location=location(reply),
        min_chunk=int(minimum) if minimum.isdecimal() and len(minimum) < 12 else 0,
    )


def _source_of(data: Any) -> Source | None:
    """A source that can be opened again, or None for data that can be read only once."""
    if isinstance(data, bytes | bytearray | memoryview):
        return BytesSource(bytes(data))
    if isinstance(data, str | Path):
        return FileSource(Path(data))
    if isinstance(data, io.TextIOBase):
        raise TypeError("a blob is bytes: open the file in binary mode")
    if hasattr(data, "read") and hasattr(data, "seekable") and data.seekable():
        return FileSource(data)
    return None


def _blocks_of(data: Any) -> Any:
    """An iterable over blocks of data; a file object would iterate over lines."""
    if isinstance(data, AsyncIterable) or not hasattr(data, "read"):
        return data
    return iter(lambda: data.read(BLOCK), b"")


def _digest_of(source: Source, algorithm: str) -> Digest:
    """Read a source, and return its digest."""
    hasher = new_hasher(algorithm)
    for block in source.open():
        hasher.update(block)
    return Digest.of_hash(algorithm, hasher)


def _shifted(progress: Progress | None, by: int, total: int) -> Progress | None:
    """Adapt a progress function to an upload that resumes at byte `by` of `total` bytes."""
    if progress is None:
        return None
    return lambda done, _: progress(by + done, total)
