"""The blob endpoints: GET, HEAD and DELETE.

Follows: OCI Distribution Specification 1.1, "Pulling blobs", "Checking if content exists in the
registry", "Deleting Blobs"; RFC 9110, "Range Requests", "Conditional Requests".
"""

from __future__ import annotations

from dockhand_embedded.protocol.messages import (
    BLOB_MEDIA_TYPE,
    FileBody,
    RegistryAction,
    RegistryReply,
    RegistryRequest,
    RequestRejectedError,
    empty_reply,
    not_modified,
    requested_range,
)
from dockhand_embedded.protocol.names import check_digest, check_name
from dockhand_embedded.storage.base import Storage


class BlobHandlers:
    """The blob endpoints for one storage."""

    def __init__(self, storage: Storage) -> None:
        """Serve the blobs of a storage."""
        self._storage = storage

    def get(self, request: RegistryRequest, name: str, digest: str) -> RegistryReply:
        """Answer GET and HEAD with the whole blob, or with the part that `Range` selects."""
        check_name(name)
        check_digest(digest)
        size = self._storage.blob_size(name, digest)
        if size is None:
            raise _blob_unknown(digest)
        headers = [("Docker-Content-Digest", digest), ("ETag", f'"{digest}"')]
        pulled = [RegistryAction("pull", name, digest, BLOB_MEDIA_TYPE, size)]
        if not_modified(request, digest):
            self._storage.protect_blob(name, digest)
            return empty_reply(304, headers, pulled)
        part = requested_range(request, size, digest)
        offset, length = part or (0, size)
        headers += [
            ("Content-Type", BLOB_MEDIA_TYPE),
            ("Accept-Ranges", "bytes"),
            ("Content-Length", str(length)),
        ]
        if part:
            headers.append(("Content-Range", f"bytes {offset}-{offset + length - 1}/{size}"))
        status = 206 if part else 200
        if request.method == "HEAD":
            # The client may now push a manifest with this blob instead of uploading the blob, so
            # garbage collection must not remove it.
            if not self._storage.protect_blob(name, digest):
                raise _blob_unknown(digest)
            return RegistryReply(status, headers, actions=pulled)
        file = self._storage.open_blob(name, digest)
        if file is None:  # deleted after its size was read
            raise _blob_unknown(digest)
        return RegistryReply(status, headers, FileBody(file, offset, length), pulled)

    def delete(self, name: str, digest: str) -> RegistryReply:
        """Answer DELETE: remove the blob from this repository only."""
        check_name(name)
        check_digest(digest)
        if self._storage.blob_size(name, digest) is None:
            raise _blob_unknown(digest)
        # Locked, so that no blob vanishes while a manifest that names it is being pushed.
        with self._storage.edit_index(name) as edit:
            if edit.manifest(digest) is not None:
                # In a layout, a manifest is stored as a blob. If the blob were deleted here,
                # index.json would name a missing file.
                raise RequestRejectedError(
                    405,
                    "UNSUPPORTED",
                    "this digest is a manifest: delete it below manifests/",
                    {"digest": digest},
                )
            if not self._storage.delete_blob(name, digest):
                raise _blob_unknown(digest)
        return empty_reply(202, actions=[RegistryAction("delete", name, digest)])


def _blob_unknown(digest: str) -> RequestRejectedError:
    return RequestRejectedError(
        404, "BLOB_UNKNOWN", "blob unknown to the repository", {"digest": digest}
    )
