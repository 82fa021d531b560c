"""Blobs: GET, HEAD, DELETE.

Follows: OCI Distribution Specification 1.1, "Pulling blobs", "Checking if content exists in the
registry", "Deleting Blobs"; RFC 9110, "Range Requests", "Conditional Requests".
"""

from __future__ import annotations

from dockhand_embedded.protocol.messages import (
    BLOB,
    FileBody,
    Happening,
    Refused,
    Reply,
    Request,
    empty_reply,
    not_modified,
    wanted_range,
)
from dockhand_embedded.protocol.names import check_digest, check_name
from dockhand_embedded.storage.base import Storage


class Blobs:
    """The blob endpoints over one storage."""

    def __init__(self, storage: Storage) -> None:
        """Serve the blobs of a storage."""
        self._storage = storage

    def get(self, request: Request, name: str, digest: str) -> Reply:
        """GET and HEAD: the whole blob, or the part that `Range` names."""
        check_name(name)
        check_digest(digest)
        size = self._storage.blob_size(name, digest)
        if size is None:
            raise _unknown(digest)
        headers = [("Docker-Content-Digest", digest), ("ETag", f'"{digest}"')]
        pulled = [Happening("pull", name, digest, BLOB, size)]
        if not_modified(request, digest):
            self._storage.keep_blob(name, digest)
            return empty_reply(304, headers, pulled)
        part = wanted_range(request, size, digest)
        offset, length = part or (0, size)
        headers += [
            ("Content-Type", BLOB),
            ("Accept-Ranges", "bytes"),
            ("Content-Length", str(length)),
        ]
        if part:
            headers.append(("Content-Range", f"bytes {offset}-{offset + length - 1}/{size}"))
        status = 206 if part else 200
        if request.method == "HEAD":
            # Whoever is told that it is here will not upload it, and names it in a manifest.
            if not self._storage.keep_blob(name, digest):
                raise _unknown(digest)
            return Reply(status, headers, happened=pulled)
        file = self._storage.open_blob(name, digest)
        if file is None:  # deleted between the two questions
            raise _unknown(digest)
        return Reply(status, headers, FileBody(file, offset, length), pulled)

    def delete(self, name: str, digest: str) -> Reply:
        """DELETE: from this repository only."""
        check_name(name)
        check_digest(digest)
        if self._storage.blob_size(name, digest) is None:
            raise _unknown(digest)
        # Under the lock: a manifest that is being pushed keeps the blobs it was checked for.
        with self._storage.changing(name) as index:
            if digest in index.manifests:
                # A layout keeps manifests among the blobs; its index would point to nothing.
                raise Refused(
                    405,
                    "UNSUPPORTED",
                    "this is a manifest: delete it below manifests/",
                    {"digest": digest},
                )
            if not self._storage.delete_blob(name, digest):
                raise _unknown(digest)
        return empty_reply(202, happened=[Happening("delete", name, digest)])


def _unknown(digest: str) -> Refused:
    return Refused(404, "BLOB_UNKNOWN", "blob unknown to the repository", {"digest": digest})
