"""Blob uploads: in one request or two, in chunks, streamed; and mounts.

Follows: OCI Distribution Specification 1.1, "Pushing blobs", "Mounting a blob from another
repository", "Cancel a blob upload".
"""

from __future__ import annotations

import re
import threading
from collections.abc import Generator

from dockhand_embedded.protocol.messages import (
    BLOB,
    Happening,
    Refused,
    Reply,
    Request,
    Steps,
    empty_reply,
)
from dockhand_embedded.protocol.names import ALGORITHMS, check_digest, check_name, is_name
from dockhand_embedded.storage.base import Storage, Upload, UploadBusyError, UploadMissingError

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Seconds; most uploads are small and done sooner.
_RETRY = 5
_CHUNK_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class Uploads:
    """The upload endpoints over one storage."""

    def __init__(
        self, storage: Storage, blob_limit: int | None, session_limit: int | None = None
    ) -> None:
        """Take uploads.

        Args:
            storage: where they go.
            blob_limit: larger blobs are refused, in bytes.
            session_limit: no more uploads than these are on their way at once.
        """
        self._storage = storage
        self._limit = blob_limit
        self._session_limit = session_limit
        self._counting = threading.Lock()

    def start(self, request: Request, name: str) -> Reply | Steps:
        """POST: mount a blob, take all of it at once, or begin an upload."""
        check_name(name)
        mount = request.param("mount")
        if mount is not None:
            source = request.param("from") or None
            check_digest(mount)
            # What cannot be mounted is not an error: the client uploads it. Nor is what the client
            # may not read, so that nobody learns which blobs others have.
            possible = source is None or (is_name(source) and request.readable(source))
            if possible and self._storage.link_blob(name, mount, source, request.readable):
                size = self._storage.blob_size(name, mount) or 0
                return _created("mount", name, mount, size, source or "")
        digest = request.param("digest")
        if digest is not None and mount is None:
            check_digest(digest)
            return self._single(request, name, digest)
        return self._progress(202, name, self._start(name, _algorithm(request)), 0)

    def _start(self, name: str, algorithm: str) -> str:
        if self._session_limit is None:
            return self._storage.start_upload(name, algorithm)
        with self._counting:
            if self._storage.upload_count() >= self._session_limit:
                raise Refused(
                    429,
                    "TOOMANYREQUESTS",
                    f"{self._session_limit} uploads are on their way already",
                    None,
                    [("Retry-After", str(_RETRY))],
                )
            return self._storage.start_upload(name, algorithm)

    def _single(self, request: Request, name: str, digest: str) -> Steps:
        self._check_length(request, 0)
        upload_id = self._start(name, digest.partition(":")[0])
        with self._storage.open_upload(name, upload_id) as upload:
            complete = False
            try:
                yield from self._receive(request, name, upload_id, upload)
                reply = _finished(upload, name, digest)
                complete = True
            finally:
                # A client cannot come back to an upload that it never got an id of.
                if not complete:
                    upload.discard()
            return reply

    def status(self, name: str, upload_id: str) -> Reply:
        """GET: how far an upload is."""
        return self._progress(204, name, upload_id, self._size(name, upload_id))

    def cancel(self, name: str, upload_id: str) -> Reply:
        """DELETE: give an upload up."""
        with self._open(name, upload_id) as upload:
            upload.discard()
        return empty_reply(204)

    def patch(self, request: Request, name: str, upload_id: str) -> Steps:
        """PATCH: add a chunk, or all the rest as a stream."""
        with self._open(name, upload_id) as upload:
            yield from self._receive(request, name, upload_id, upload)
            return self._progress(202, name, upload_id, upload.size)

    def put(self, request: Request, name: str, upload_id: str) -> Steps:
        """PUT: add what the body holds, if anything, and close the upload."""
        with self._open(name, upload_id) as upload:
            # Before the body is read: with a sound digest the client can send this again.
            digest = check_digest(request.param("digest") or "")
            yield from self._receive(request, name, upload_id, upload)
            return _finished(upload, name, digest)

    def _receive(
        self, request: Request, name: str, upload_id: str, upload: Upload
    ) -> Generator[None, bytes, None]:
        """Take the body in. Whatever is refused leaves the upload as it was."""
        start = upload.size
        expected = self._chunk(request, name, upload_id, start)
        self._check_length(request, start)
        if expected is None:
            expected = request.length
        elif request.length not in {None, expected}:
            raise _wrong_size(expected, request.length)
        try:
            while piece := (yield):
                received = upload.size - start + len(piece)
                if self._limit is not None and start + received > self._limit:
                    raise self._too_large()
                if expected is not None and received > expected:
                    raise _wrong_size(expected, received)
                upload.append(piece)
            if expected is not None and upload.size - start != expected:
                raise _wrong_size(expected, upload.size - start)
        except (Refused, OSError):
            upload.rollback()
            raise

    def _chunk(self, request: Request, name: str, upload_id: str, size: int) -> int | None:
        """How many bytes `Content-Range` announces, once it is sure that they belong here."""
        text = request.headers.get("content-range")
        if text is None:
            return None
        match = _CHUNK_RANGE.fullmatch(text.strip())
        if match:
            first, last = int(match[1]), int(match[2])
            if first == size and last >= first:
                return last - first + 1
        raise Refused(
            416,
            "RANGE_INVALID",
            f"the next byte of this upload is {size}",
            {"range": text[:100]},
            _progress_headers(name, upload_id, size),
        )

    def _check_length(self, request: Request, start: int) -> None:
        if self._limit is not None and request.length and start + request.length > self._limit:
            raise self._too_large()

    def _too_large(self) -> Refused:
        return Refused(413, "SIZE_INVALID", f"blobs have at most {self._limit} bytes here")

    def _open(self, name: str, upload_id: str) -> Upload:
        size = self._size(name, upload_id)
        try:
            return self._storage.open_upload(name, upload_id)
        except UploadMissingError:
            raise _unknown(upload_id) from None
        except UploadBusyError:
            # As for two chunks that race: the client asks how far the upload is and goes on.
            raise Refused(
                416,
                "RANGE_INVALID",
                "another request is writing to this upload",
                None,
                _progress_headers(name, upload_id, size),
            ) from None

    def _size(self, name: str, upload_id: str) -> int:
        check_name(name)
        if not _UUID.fullmatch(upload_id):
            raise _unknown(upload_id)
        try:
            return self._storage.upload_size(name, upload_id)
        except UploadMissingError:
            raise _unknown(upload_id) from None

    def _progress(self, status: int, name: str, upload_id: str, size: int) -> Reply:
        return empty_reply(status, _progress_headers(name, upload_id, size))


def _progress_headers(name: str, upload_id: str, size: int) -> list[tuple[str, str]]:
    return [
        ("Location", f"/v2/{name}/blobs/uploads/{upload_id}"),
        # No byte at all cannot be said in this header; registries say what one byte would be.
        ("Range", f"0-{max(0, size - 1)}"),
        ("Docker-Upload-UUID", upload_id),
    ]


def _algorithm(request: Request) -> str:
    """The hash to run along (`digest-algorithm` is in the specification's main branch)."""
    text = request.param("digest-algorithm")
    if text is None:
        return ALGORITHMS[0]
    if text not in ALGORITHMS:
        raise Refused(
            400, "DIGEST_INVALID", "unsupported digest algorithm", {"algorithm": text[:100]}
        )
    return text


def _finished(upload: Upload, name: str, digest: str) -> Reply:
    if not upload.finish(digest):
        raise Refused(400, "DIGEST_INVALID", "the content has another digest", {"digest": digest})
    return _created("push", name, digest, upload.size)


def _created(action: str, name: str, digest: str, size: int, source: str = "") -> Reply:
    return empty_reply(
        201,
        [("Location", f"/v2/{name}/blobs/{digest}"), ("Docker-Content-Digest", digest)],
        [Happening(action, name, digest, BLOB, size, source=source)],
    )


def _wrong_size(expected: int, received: int | None) -> Refused:
    return Refused(400, "SIZE_INVALID", f"{expected} bytes were announced and {received} came")


def _unknown(upload_id: str) -> Refused:
    return Refused(
        404, "BLOB_UPLOAD_UNKNOWN", "upload unknown to the repository", {"upload": upload_id[:100]}
    )
