"""The upload endpoints: uploads in one or two requests, in chunks or streamed; and mounts.

Follows: OCI Distribution Specification 1.1, "Pushing blobs", "Mounting a blob from another
repository", "Cancel a blob upload".
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Generator

from dockhand_embedded.protocol.messages import (
    BLOB_MEDIA_TYPE,
    RegistryAction,
    RegistryReply,
    RegistryRequest,
    ReplyGenerator,
    RequestRejectedError,
    empty_reply,
)
from dockhand_embedded.protocol.names import ALGORITHMS, check_digest, check_name, is_name
from dockhand_embedded.storage.base import (
    Storage,
    UploadBusyError,
    UploadMissingError,
    UploadWriter,
)

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RETRY_AFTER = 5  # seconds; most uploads take less time
_COUNT_INTERVAL = 1.0  # seconds
_CHUNK_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class UploadHandlers:
    """The upload endpoints for one storage."""

    def __init__(
        self, storage: Storage, blob_limit: int | None, upload_limit: int | None = None
    ) -> None:
        """Accept uploads.

        Args:
            storage: the storage of the uploads and blobs.
            blob_limit: the largest size of a blob, in bytes; None for no limit.
            upload_limit: the largest number of uploads in progress; None for no limit.
        """
        self._storage = storage
        self._blob_limit = blob_limit
        self._upload_limit = upload_limit
        self._count_lock = threading.Lock()
        # Counting takes longer the more uploads there are. So it is not repeated until this process
        # has begun half as many uploads as there was room for, or this time has come.
        self._uncounted = 0
        self._next_count = 0.0

    def start(self, request: RegistryRequest, name: str) -> RegistryReply | ReplyGenerator:
        """Answer POST: mount a blob, store a blob from the body, or begin an upload."""
        check_name(name)
        mount = request.param("mount")
        if mount is not None:
            source = request.param("from") or None
            check_digest(mount)
            # If the blob cannot be mounted, an upload begins instead. This also happens if the
            # client may not read the source, so that it does not learn which blobs exist.
            possible = source is None or (is_name(source) and request.may_read(source))
            if possible and self._storage.mount_blob(name, mount, source, request.may_read):
                size = self._storage.blob_size(name, mount) or 0
                return _created_reply("mount", name, mount, size, source or "")
        digest = request.param("digest")
        if digest is not None and mount is None:
            check_digest(digest)
            return self._upload_in_one_request(request, name, digest)
        return _progress_reply(202, name, self._start(name, _requested_algorithm(request)), 0)

    def _start(self, name: str, algorithm: str) -> str:
        if self._upload_limit is None:
            return self._storage.start_upload(name, algorithm)
        with self._count_lock:
            if self._uncounted <= 0 or time.monotonic() >= self._next_count:
                count = self._storage.upload_count()
                self._uncounted = (self._upload_limit - count) // 2
                self._next_count = time.monotonic() + _COUNT_INTERVAL
                if count >= self._upload_limit:
                    raise RequestRejectedError(
                        429,
                        "TOOMANYREQUESTS",
                        f"{self._upload_limit} uploads are in progress; try again later",
                        None,
                        [("Retry-After", str(_RETRY_AFTER))],
                    )
            else:
                self._uncounted -= 1
            return self._storage.start_upload(name, algorithm)

    def _upload_in_one_request(
        self, request: RegistryRequest, name: str, digest: str
    ) -> ReplyGenerator:
        self._check_length(request, 0)
        upload_id = self._start(name, digest.partition(":")[0])
        with self._storage.open_upload(name, upload_id) as upload:
            complete = False
            try:
                yield from self._receive_body(request, name, upload_id, upload)
                reply = _finish(upload, name, digest)
                complete = True
            finally:
                # The client cannot continue an incomplete upload, since it never got the id.
                if not complete:
                    upload.discard()
            return reply

    def status(self, name: str, upload_id: str) -> RegistryReply:
        """Answer GET with the number of bytes in the upload."""
        return _progress_reply(204, name, upload_id, self._upload_size(name, upload_id))

    def cancel(self, name: str, upload_id: str) -> RegistryReply:
        """Answer DELETE: cancel the upload."""
        with self._open(name, upload_id) as upload:
            upload.discard()
        return empty_reply(204)

    def patch(self, request: RegistryRequest, name: str, upload_id: str) -> ReplyGenerator:
        """Answer PATCH: append a chunk, or all remaining bytes as a stream."""
        with self._open(name, upload_id) as upload:
            yield from self._receive_body(request, name, upload_id, upload)
            return _progress_reply(202, name, upload_id, upload.size)

    def put(self, request: RegistryRequest, name: str, upload_id: str) -> ReplyGenerator:
        """Answer PUT: append the body, if there is one, and finish the upload."""
        with self._open(name, upload_id) as upload:
            # Checked before the body is read, so that an invalid digest does not change the upload.
            digest = check_digest(request.param("digest") or "")
            yield from self._receive_body(request, name, upload_id, upload)
            return _finish(upload, name, digest)

    def _receive_body(
        self, request: RegistryRequest, name: str, upload_id: str, upload: UploadWriter
    ) -> Generator[None, bytes, None]:
        """Append the body to the upload. A rejected body leaves the upload unchanged."""
        start = upload.size
        expected = self._announced_chunk_size(request, name, upload_id, start)
        self._check_length(request, start)
        if expected is None:
            expected = request.length
        elif request.length not in {None, expected}:
            raise _size_mismatch(expected, request.length)
        try:
            while piece := (yield):
                received = upload.size - start + len(piece)
                if self._blob_limit is not None and start + received > self._blob_limit:
                    raise self._too_large()
                if expected is not None and received > expected:
                    raise _size_mismatch(expected, received)
                upload.append(piece)
            if expected is not None and upload.size - start != expected:
                raise _size_mismatch(expected, upload.size - start)
        except (RequestRejectedError, OSError):
            upload.rollback()
            raise

    def _announced_chunk_size(
        self, request: RegistryRequest, name: str, upload_id: str, size: int
    ) -> int | None:
        """The number of bytes that `Content-Range` announces; None without this header.

        Raises:
            RequestRejectedError: 416, if the chunk does not begin at the end of the upload.
        """
        text = request.headers.get("content-range")
        if text is None:
            return None
        match = _CHUNK_RANGE.fullmatch(text.strip())
        if match:
            first, last = int(match[1]), int(match[2])
            if first == size and last >= first:
                return last - first + 1
        raise RequestRejectedError(
            416,
            "RANGE_INVALID",
            f"the next chunk of this upload must begin at byte {size}",
            {"range": text[:100]},
            _progress_headers(name, upload_id, size),
        )

    def _check_length(self, request: RegistryRequest, start: int) -> None:
        if (
            self._blob_limit is not None
            and request.length
            and start + request.length > self._blob_limit
        ):
            raise self._too_large()

    def _too_large(self) -> RequestRejectedError:
        return RequestRejectedError(
            413, "SIZE_INVALID", f"the blob is larger than the limit of {self._blob_limit} bytes"
        )

    def _open(self, name: str, upload_id: str) -> UploadWriter:
        size = self._upload_size(name, upload_id)
        try:
            return self._storage.open_upload(name, upload_id)
        except UploadMissingError:
            raise _upload_unknown(upload_id) from None
        except UploadBusyError:
            # The same reply as for a chunk with a wrong offset: the client gets the right offset,
            # and can continue.
            raise RequestRejectedError(
                416,
                "RANGE_INVALID",
                "another request is writing to this upload",
                None,
                _progress_headers(name, upload_id, size),
            ) from None

    def _upload_size(self, name: str, upload_id: str) -> int:
        check_name(name)
        if not _UUID.fullmatch(upload_id):
            raise _upload_unknown(upload_id)
        try:
            return self._storage.upload_size(name, upload_id)
        except UploadMissingError:
            raise _upload_unknown(upload_id) from None


def _progress_reply(status: int, name: str, upload_id: str, size: int) -> RegistryReply:
    return empty_reply(status, _progress_headers(name, upload_id, size))


def _progress_headers(name: str, upload_id: str, size: int) -> list[tuple[str, str]]:
    return [
        ("Location", f"/v2/{name}/blobs/uploads/{upload_id}"),
        # The header cannot express zero bytes; registries send `0-0`, as for one byte.
        ("Range", f"0-{max(0, size - 1)}"),
        ("Docker-Upload-UUID", upload_id),
    ]


def _requested_algorithm(request: RegistryRequest) -> str:
    """The hash algorithm of an upload: the parameter `digest-algorithm`, or sha256.

    The specification 1.1 does not have this parameter yet, but its main branch does.
    """
    text = request.param("digest-algorithm")
    if text is None:
        return ALGORITHMS[0]
    if text not in ALGORITHMS:
        raise RequestRejectedError(
            400, "DIGEST_INVALID", "unsupported digest algorithm", {"algorithm": text[:100]}
        )
    return text


def _finish(upload: UploadWriter, name: str, digest: str) -> RegistryReply:
    if not upload.finish(digest):
        raise RequestRejectedError(
            400, "DIGEST_INVALID", "the content does not have this digest", {"digest": digest}
        )
    return _created_reply("push", name, digest, upload.size)


def _created_reply(
    action: str, name: str, digest: str, size: int, source: str = ""
) -> RegistryReply:
    return empty_reply(
        201,
        [("Location", f"/v2/{name}/blobs/{digest}"), ("Docker-Content-Digest", digest)],
        [RegistryAction(action, name, digest, BLOB_MEDIA_TYPE, size, source=source)],
    )


def _size_mismatch(expected: int, received: int | None) -> RequestRejectedError:
    return RequestRejectedError(
        400, "SIZE_INVALID", f"the request announced {expected} bytes and has {received}"
    )


def _upload_unknown(upload_id: str) -> RequestRejectedError:
    return RequestRejectedError(
        404, "BLOB_UPLOAD_UNKNOWN", "upload unknown to the repository", {"upload": upload_id[:100]}
    )
