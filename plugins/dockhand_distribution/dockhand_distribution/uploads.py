"""Uploading blobs.

Distribution moves an upload's `Location` with every request and keeps its state in the query, so
the newest one is used as it came, with `digest` appended. `Range: 0-0` stands for no byte and for
one byte, so the offset is kept here.

Follows: OCI Distribution Specification 1.1, "Pushing Blobs", "Pushing a blob monolithically",
"Pushing a blob in chunks", "Mounting a blob from another repository", "Cancel a blob upload".
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dockhand_core.blob_io import WriterState
from dockhand_core.driver import AnyBlobData
from dockhand_core.errors import (
    BlobUploadInvalid,
    ConnectionFailed,
    DigestInvalid,
    DigestMismatch,
    DockhandError,
    NotFound,
    RangeInvalid,
    RegistryError,
    ResponseInvalid,
    ServerError,
)
from dockhand_core.flow import (
    BLOCK,
    BytesSource,
    FileSource,
    Flow,
    Progress,
    Reply,
    Source,
    blocking,
    call,
    iterator_of,
    pause,
    take,
)
from dockhand_core.http.urls import resolve_url
from dockhand_core.models import Digest, Hasher, PushResult, Upload, check_repository
from dockhand_distribution.scopes import Scopes

SINGLE_POST = 64 << 10  # bytes that are worth trying to send with the first request
_OCTETS = {"Content-Type": "application/octet-stream"}
_CREATED = frozenset({201, 204})


class Uploads(Scopes):
    """The operations that upload blobs."""

    # Whether the registry takes a blob in a single POST; learnt once for each connection.
    _single_post: bool | None = None

    # -- by hand ---------------------------------------------------------------------------

    def start_upload(self, repository: str) -> Flow[Upload]:
        """Post."""
        check_repository(repository)
        reply = yield from self._post(repository)
        return begun(repository, reply)

    def _post(self, repository: str, *, source: str | None = None, **options: Any) -> Flow[Reply]:
        return (
            yield from call(
                "POST",
                f"{repository}/blobs/uploads/",  # without the last slash: a redirect
                scopes=self.writing(repository, source),
                expect=frozenset({201, 202}),
                kind="upload",
                repository=repository,
                **options,
            )
        )

    def upload_chunk(self, upload: Upload, data: bytes) -> Flow[Upload]:
        """Patch; where it breaks, ask how far it got, and send what is missing.

        Nothing is sent for no data: an empty PATCH only costs a request.
        """
        end = upload.offset + len(data)
        breaks = 0
        while upload.offset < end:
            missing = BytesSource(data[len(data) - (end - upload.offset) :])
            try:
                return (yield from self._patch(upload, missing))
            except (ConnectionFailed, ServerError):
                breaks += 1
                wait = self.retry.wait(breaks)
                if wait is None:
                    raise
                yield from pause(wait)
                now = yield from self.upload_status(upload)
                if not upload.offset <= now.offset <= end:
                    raise
                breaks = 0 if now.offset > upload.offset else breaks
                upload = now
        return upload

    def _patch(self, upload: Upload, source: Source, **options: Any) -> Flow[Upload]:
        end = upload.offset + source.size
        reply = yield from self._to_upload(
            "PATCH",
            upload,
            expect=frozenset({202, 201, 204}),
            headers={**_OCTETS, "Content-Range": f"{upload.offset}-{end - 1}"},
            body=source,
            repeatable=False,
            **options,
        )
        return upload.model_copy(update={"location": location(reply), "offset": end})

    def _to_upload(self, method: str, upload: Upload, **options: Any) -> Flow[Reply]:
        options.setdefault("scopes", self.writing(upload.repository))
        return (
            yield from call(
                method, upload.location, kind="upload", repository=upload.repository, **options
            )
        )

    def finish_upload(self, upload: Upload, digest: str) -> Flow[PushResult]:
        """Put without a body; where the reply is lost, look whether the blob is there."""
        known = Digest(digest)
        try:
            return (yield from self._close(upload, known, None))
        except (ConnectionFailed, ServerError):
            if not (yield from self._has(upload.repository, known)):
                raise
            return pushed(upload.repository, known, upload.location)

    def _close(
        self, upload: Upload, digest: Digest, source: Source | None, **options: Any
    ) -> Flow[PushResult]:
        reply = yield from self._to_upload(
            "PUT",
            upload,
            query=[("digest", digest)],
            headers=_OCTETS if source is not None else {},
            body=source,
            expect=_CREATED,
            repeatable=False,
            **options,
        )
        said = reply.headers.get("docker-content-digest")
        if said and said.startswith(f"{digest.algorithm}:") and said != digest:
            raise DigestMismatch(
                f"repository {upload.repository}: the registry keeps blob {digest} as {said[:200]}",
                expected=digest,
                actual=said,
            )
        return PushResult(digest=digest, location=location(reply, upload.location))

    def upload_status(self, upload: Upload) -> Flow[Upload]:
        """Get the upload's location."""
        reply = yield from self._to_upload(
            "GET",
            upload,
            expect=frozenset({204, 200}),
            scopes=self.reading(upload.repository),
        )
        span = re.fullmatch(r"(?:bytes=)?0-(\d{1,18})", reply.headers.get("range", ""))
        offset = int(span[1]) + 1 if span else 0
        if offset == 1 and upload.offset != 1:
            offset = 0  # `0-0` says both; what is unknown is sent again, and checked at the end
        return upload.model_copy(
            update={"location": location(reply, upload.location), "offset": offset}
        )

    def cancel_upload(self, upload: Upload) -> Flow[None]:
        """Delete the upload's location."""
        yield from self._to_upload(
            "DELETE",
            upload,
            expect=frozenset({204, 202, 200}),
            scopes=self.deleting(upload.repository),
        )

    def mount_blob(self, repository: str, digest: str, source: str) -> Flow[PushResult | Upload]:
        """Post with `mount` and `from`; a registry that does not mount begins an upload."""
        check_repository(repository)
        check_repository(source)
        known = Digest(digest)
        reply = yield from self._post(
            repository, source=source, query=[("mount", known), ("from", source)]
        )
        if reply.status == 201:
            return PushResult(digest=known, location=location(reply), uploaded=False)
        return begun(repository, reply)

    # -- as a whole ------------------------------------------------------------------------

    def upload_blob(
        self,
        repository: str,
        data: AnyBlobData,
        *,
        digest: str | None,
        progress: Progress | None,
    ) -> Flow[PushResult]:
        """Hash what can be read twice, skip what is there, send the rest."""
        check_repository(repository)
        known = Digest(digest) if digest is not None else None
        source = yield from blocking(source_of, data)
        if source is None:
            return (yield from self._upload_stream(repository, data, known, progress))
        actual = yield from blocking(digest_of, source, known.algorithm if known else "sha256")
        if known is not None and actual != known:
            raise DigestMismatch(
                f"repository {repository}: the data has the digest {actual}, not {known}",
                expected=known,
                actual=actual,
            )
        if (yield from self._has(repository, actual)):
            return pushed(repository, actual, self._blob_url(repository, actual), sent=False)
        return (yield from self._upload_source(repository, source, actual, progress))

    def _blob_url(self, repository: str, digest: Digest) -> str:
        return f"/v2/{repository}/blobs/{digest}"

    def _has(self, repository: str, digest: Digest) -> Flow[bool]:
        try:
            yield from self.blob_size(repository, digest)
        except NotFound:
            return False
        return True

    def _upload_source(
        self, repository: str, source: Source, digest: Digest, progress: Progress | None
    ) -> Flow[PushResult]:
        """Send a source in one request, and again, from where it broke or from the start."""
        upload: Upload | None = None
        breaks = 0
        while True:
            resumed = upload is not None
            try:
                if upload is None:
                    begin = yield from self._begin(repository, source, digest, progress)
                    if isinstance(begin, PushResult):
                        return begin
                    upload = begin
                if upload.offset:
                    told = shifted(progress, upload.offset, source.size)
                    rest = skipped(source, upload.offset)
                    upload = yield from self._patch(upload, rest, progress=told)
                    return (yield from self.finish_upload(upload, digest))
                return (yield from self._close(upload, digest, source, progress=progress))
            except (ConnectionFailed, RegistryError) as error:
                breaks += 1
                wait = self.retry.wait(breaks) if worth_again(error, resumed) else None
                if wait is None:
                    if upload is not None:
                        yield from self._abandon(upload)
                    raise
                yield from pause(wait)
                if (yield from self._has(repository, digest)):
                    return pushed(repository, digest, self._blob_url(repository, digest))
                upload = yield from self._recover(upload, source, error)
            except GeneratorExit:
                raise
            except BaseException:
                if upload is not None:
                    yield from self._abandon(upload)
                raise

    def _begin(
        self, repository: str, source: Source, digest: Digest, progress: Progress | None
    ) -> Flow[Upload | PushResult]:
        """Begin an upload; of a small blob in the hope that the registry takes it at once.

        Distribution answers 202 to a POST with the blob, and drops the body: then it is sent
        with the PUT, and not tried again.
        """
        if self._single_post is False or source.size > SINGLE_POST:
            return (yield from self.start_upload(repository))
        reply = yield from self._post(
            repository, query=[("digest", digest)], headers=_OCTETS, body=source
        )
        self._single_post = reply.status == 201
        if reply.status == 202:
            return begun(repository, reply)
        if progress is not None:
            progress(source.size, source.size)
        return PushResult(digest=digest, location=location(reply))

    def _recover(
        self, upload: Upload | None, source: Source, error: Exception
    ) -> Flow[Upload | None]:
        """What of a broken upload can be carried on, or None to start over.

        Distribution 3.1 keeps every byte it received; 2.8 forgets the upload.
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
        yield from self._abandon(upload)
        return None

    def _abandon(self, upload: Upload) -> Flow[None]:
        """Cancel, as well as it goes: why it is cancelled matters more."""
        with suppress(DockhandError):
            yield from self.cancel_upload(upload)

    def _upload_stream(
        self,
        repository: str,
        data: AnyBlobData,
        digest: Digest | None,
        progress: Progress | None,
    ) -> Flow[PushResult]:
        """Send what can be read only once, in chunks that can be sent again."""
        if digest is not None and (yield from self._has(repository, digest)):
            return pushed(repository, digest, self._blob_url(repository, digest), sent=False)
        state = WriterState(self, repository, digest.algorithm if digest else "sha256")
        iterator = iterator_of(reader_of(data))
        try:
            yield from state.begin()
            while (block := (yield from take(iterator))) is not None:
                if state.put(block):
                    yield from state.send()
                    if progress is not None:
                        progress(state.upload.offset if state.upload else 0, None)
            yield from state.finish_or_cancel(digest)
        except GeneratorExit:
            raise
        except BaseException:
            yield from state.cancel()
            raise
        assert state.result is not None
        if progress is not None:
            progress(state.size, state.size)
        return state.result


def begun(repository: str, reply: Reply) -> Upload:
    """The upload that a reply announces."""
    minimum = reply.headers.get("oci-chunk-min-length", "")
    return Upload(
        repository=repository,
        location=location(reply),
        min_chunk=int(minimum) if minimum.isdecimal() and len(minimum) < 12 else 0,
    )


def location(reply: Reply, otherwise: str | None = None) -> str:
    """A reply's `Location`, absolute or relative, as a whole URL."""
    found = reply.headers.get("location") or otherwise
    if not found:
        raise ResponseInvalid(f"{reply.url}: {reply.status} without a Location")
    return resolve_url(reply.url, found)


def pushed(repository: str, digest: Digest, url: str, *, sent: bool = True) -> PushResult:
    """The result where no reply says where the blob is."""
    base = url.partition("/v2/")[0]
    return PushResult(
        digest=digest, location=f"{base}/v2/{repository}/blobs/{digest}", uploaded=sent
    )


def worth_again(error: Exception, resumed: bool) -> bool:
    """Whether a broken upload may succeed when it is carried on or begun again.

    A wrong digest is worth it after a resumed upload alone: a writer that was taken for dead may
    have written into it.
    """
    if isinstance(error, DigestInvalid):
        return resumed
    if isinstance(error, ServerError):
        return error.status in (502, 503, 504)
    return isinstance(error, ConnectionFailed | NotFound | BlobUploadInvalid | RangeInvalid)


def source_of(data: Any) -> Source | None:
    """A source that can be opened again, or None for what can be read once."""
    if isinstance(data, bytes | bytearray | memoryview):
        return BytesSource(bytes(data))
    if isinstance(data, str | Path):
        return FileSource(Path(data))
    if isinstance(data, io.TextIOBase):
        raise TypeError("a blob is bytes: open the file in binary mode")
    if hasattr(data, "read") and hasattr(data, "seekable") and data.seekable():
        return FileSource(data)
    return None


def reader_of(data: Any) -> Any:
    """An iterable: a pipe is read in blocks, not in lines."""
    if isinstance(data, AsyncIterable) or not hasattr(data, "read"):
        return data
    return iter(lambda: data.read(BLOCK), b"")


def digest_of(source: Source, algorithm: str) -> Digest:
    """Hash a source."""
    hasher: Hasher = Digest.of(b"", algorithm).hasher()
    for block in source.open():
        hasher.update(block)
    return Digest(f"{algorithm}:{hasher.hexdigest()}")


def skipped(source: Source, count: int) -> Source:
    """A source without its first bytes."""
    if isinstance(source, FileSource):
        return source.skip(count)
    assert isinstance(source, BytesSource)
    return BytesSource(source.data[count:])


def shifted(progress: Progress | None, by: int, total: int) -> Progress | None:
    """A progress function for the rest of a source, in terms of the whole."""
    if progress is None:
        return None
    return lambda done, _: progress(by + done, total)
