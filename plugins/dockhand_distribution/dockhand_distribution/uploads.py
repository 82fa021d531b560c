"""Uploads of whole blobs, in one request or in chunks.

Follows: OCI Distribution Specification 1.1, "Pushing Blobs", "Pushing a blob monolithically",
"Pushing a blob in chunks".
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dockhand_core.driver import AnyBlobData
from dockhand_core.errors import (
    ConnectionFailed,
    DockhandError,
    RangeInvalid,
    RegistryError,
    ServerError,
)
from dockhand_core.flow import (
    BLOCK,
    AsyncSource,
    BytesSource,
    FileSource,
    Flow,
    Part,
    Progress,
    Source,
    VerifiedSource,
    blocking,
    drain,
    iterator_of,
    pause,
    take,
    verified,
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
from dockhand_distribution.base import check_announced_digest
from dockhand_distribution.upload_steps import (
    OCTETS,
    SMALLEST_CHUNK,
    UploadSteps,
    new_upload,
    smaller,
)

SINGLE_POST = 64 << 10  # bytes; the largest blob that is sent with the POST of its upload

# Statuses of a registry that refuses a blob in a POST, but may begin an upload.
_NO_SINGLE_POST = frozenset({400, 404, 405, 411, 413, 415, 422, 501})

_CANCEL_PAUSES = (0.05, 0.2, 0.8)  # seconds between the attempts to cancel an upload


class Uploads(UploadSteps):
    """The operations that upload blobs."""

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
        digest can be looked up. If `digest` is given, that one is looked up, and all but bytes and
        small files is hashed while it is sent; a file that need not be sent is hashed all the same.
        """
        check_repository(repository)
        known = Digest(digest) if digest is not None else None
        source = data if isinstance(data, Source) else (yield from blocking(_source_of, data))
        if source is None or (known is None and isinstance(source, AsyncSource)):
            return (yield from self._upload_stream(repository, data, known, progress))
        small = source.size <= SINGLE_POST and not _is_stream(source)
        looked_up = known is not None and not small and not isinstance(source, BytesSource)
        if known is not None and looked_up:
            exists = yield from self.blob_exists_for_push(repository, known)
            if not exists:
                sent = self.send_blob(repository, source, digest=known, progress=progress)
                return (yield from sent)
            if _is_stream(source):
                return self.pushed(repository, "blob", known, uploaded=False)
        actual = yield from blocking(_digest_of, source, known.algorithm if known else "sha256")
        if known is not None:
            check_digest(known, actual, f"repository {repository}: the data")
        if looked_up or (yield from self.blob_exists_for_push(repository, actual)):
            return self.pushed(repository, "blob", actual, uploaded=False)
        return (yield from self._upload_source(repository, source, actual, progress))

    def send_blob(
        self,
        repository: str,
        source: Source,
        *,
        digest: str,
        upload: Upload | None = None,
        progress: Progress | None = None,
    ) -> Flow[PushResult]:
        """Upload a source in one request, and verify its bytes while they are sent.

        The last bytes are sent after the check, so the registry never stores wrong ones.
        """
        check_repository(repository)
        known = Digest(digest)
        subject = f"repository {repository}: the data"
        if isinstance(source, BytesSource):
            check_digest(known, Digest.of(source.data, known.algorithm), subject)
        else:
            source = verified(source, known, subject)
        return (yield from self._upload_source(repository, source, known, progress, upload))

    def _upload_source(
        self,
        repository: str,
        source: Source,
        digest: Digest,
        progress: Progress | None,
        upload: Upload | None = None,
    ) -> Flow[PushResult]:
        """Upload a source in one request; after a failure, resume the upload or begin a new one."""
        resumed = False
        attempts = self.retry.attempts()
        try:
            while True:
                try:
                    if upload is None:
                        begun = yield from self._begin(repository, source, digest, progress)
                        if isinstance(begun, PushResult):
                            return begun
                        upload = begun
                    left = source.size - upload.offset
                    if not upload.offset and left <= (self._largest_body or left):
                        return (yield from self._finish(upload, digest, source, progress=progress))
                    if not left:
                        return (yield from self.finish_upload(upload, digest))
                    size = max(self._largest_body or self.chunk_size, upload.min_chunk)
                    chunk = yield from _chunk(source, upload.offset, size)
                    upload = yield from self._send_chunk(upload, chunk, attempts)
                    if progress is not None:
                        progress(upload.offset, source.size)
                    continue
                except (ConnectionFailed, RegistryError) as error:
                    if isinstance(source, VerifiedSource) and source.failure is error:
                        raise  # the source of the blob failed, not this registry
                    if self._refuses_size(error, source, upload):
                        self._largest_body = min(self.chunk_size, smaller(source.size))
                    elif not self._worth_resuming(error, resumed=resumed):
                        raise
                    else:
                        yield from attempts.wait_after(error)
                    failure = error
                if (yield from self._exists_after(failure, repository, digest)):
                    return self.pushed(repository, "blob", digest)
                upload = yield from self._recover(upload, source, failure, resumed=resumed)
                resumed = upload is not None
        except GeneratorExit:
            raise
        except BaseException:
            if upload is not None:
                yield from self._cancel_quietly(upload)
            raise

    def _refuses_size(self, error: Exception, source: Source, upload: Upload | None) -> bool:
        """Whether the registry, or a proxy, refused the body of a whole blob for its size.

        The PUT of a whole blob has no range, so a 416 to it is about its size, too.
        """
        whole = upload is not None and not upload.offset
        refused = isinstance(error, RegistryError) and (
            error.status == 413 or (error.status == 416 and whole)
        )
        return refused and self._largest_body is None and source.size > SMALLEST_CHUNK

    def _begin(
        self, repository: str, source: Source, digest: Digest, progress: Progress | None
    ) -> Flow[Upload | PushResult]:
        """Begin an upload with POST; a small blob is sent in the body of the POST.

        Distribution does not support a blob in the POST: it answers 202, and drops the body. The
        blob is then sent with a PUT, and from then on no blob is sent in a POST. The same holds for
        a registry that refuses the POST.
        """
        # A source that is received meanwhile is not offered to a registry that may drop it.
        offered = self._single_post or (self._single_post is None and not _is_stream(source))
        if not offered or source.size > SINGLE_POST:
            return (yield from self.start_upload(repository))
        # Not repeatable: after a lost reply, the blob is looked up before it is sent again.
        try:
            reply = yield from self._post(
                repository,
                query=[("digest", digest)],
                headers=OCTETS,
                body=source,
                repeatable=False,
                commit=True,
            )
        except RegistryError as error:
            if self._single_post or error.status not in _NO_SINGLE_POST:
                raise
            self._single_post = False
            return (yield from self.start_upload(repository))
        self._single_post = reply.status == 201
        if reply.status != 201:
            return new_upload(repository, reply)
        check_announced_digest(reply, digest, f"repository {repository}: the blob")
        if progress is not None:
            progress(source.size, source.size)
        return self.pushed(repository, "blob", digest, reply)

    def _recover(
        self, upload: Upload | None, source: Source, error: Exception, *, resumed: bool
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
        wrong_offset = isinstance(error, RangeInvalid)
        if isinstance(error, ConnectionFailed | ServerError) or (wrong_offset and not resumed):
            try:
                now = yield from self._status(upload)
                if now.offset == source.size + 1:
                    self._counts_too_high = True
                    return now.model_copy(update={"offset": source.size})
                if 0 < now.offset <= source.size:
                    return now
            except DockhandError:
                pass
        yield from self._cancel_quietly(upload)
        return None

    def _cancel_quietly(self, upload: Upload) -> Flow[None]:
        """Cancel an upload after an error, and ignore a failure of the cancellation.

        If another upload fails meanwhile, the task of this one is cancelled; the cancellation of
        the upload is then begun again, once.
        """
        try:
            with suppress(DockhandError):
                yield from self._cancel_broken(upload)
        except GeneratorExit:
            raise
        except BaseException:
            with suppress(DockhandError):
                yield from self._cancel_broken(upload)
            raise

    def _cancel_broken(self, upload: Upload) -> Flow[None]:
        """Cancel an upload whose last request broke.

        A registry may answer 416 then: Distribution 3.1, because the upload's URL holds an older
        offset, until the status is asked for; the embedded registry, while it is busy with that
        request.
        """
        for seconds in _CANCEL_PAUSES:
            try:
                return (yield from self.cancel_upload(upload))
            except RangeInvalid:
                yield from pause(seconds)
                upload = yield from self._status(upload)
        yield from self.cancel_upload(upload)

    def _upload_stream(
        self,
        repository: str,
        data: AnyBlobData,
        digest: Digest | None,
        progress: Progress | None,
    ) -> Flow[PushResult]:
        """Upload data that can be read only once, in chunks that are buffered for retries."""
        if digest is not None and (yield from self.blob_exists_for_push(repository, digest)):
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


def _chunk(source: Source, offset: int, size: int) -> Flow[bytes]:
    """Read at most `size` bytes of a source, from an offset on."""
    part = Part(source.skip(offset), size)
    chunk = bytearray()
    if isinstance(source, AsyncSource):
        yield from drain(part, chunk.extend)
    else:
        yield from blocking(_extend, chunk, part)
    return bytes(chunk)


def _extend(chunk: bytearray, part: Part) -> None:
    for block in part.iterate():
        chunk += block


def _is_stream(source: Source) -> bool:
    """Whether the bytes of a source are received while they are sent."""
    return not isinstance(source, BytesSource | FileSource)
