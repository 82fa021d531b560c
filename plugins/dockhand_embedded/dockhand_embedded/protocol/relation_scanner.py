"""Reading of a repository's manifests, to find referrers and the manifests that indexes list.

Follows: OCI Distribution Specification 1.1, "Listing Referrers"; OCI Image Specification 1.1,
"OCI Image Index".
"""

from __future__ import annotations

import time

from dockhand_embedded.protocol.manifest_parser import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    ParsedManifest,
    parse_manifest,
)
from dockhand_embedded.protocol.messages import RequestRejectedError
from dockhand_embedded.protocol.names import is_digest
from dockhand_embedded.storage.base import Storage
from dockhand_embedded.storage.index import RepositoryIndex
from dockhand_embedded.storage.relations import ManifestRelations, StoredManifest

# Bytes. Other tools may put any file into a layout; a larger file is not read as a manifest.
_READ_LIMIT = 32 * 1024 * 1024


class RelationScanner:
    """Fills the relations of repositories from the manifests in a storage."""

    def __init__(self, storage: Storage) -> None:
        """Create a scanner of the manifests in a storage."""
        self._storage = storage

    def find_unlisted(
        self, name: str, index: RepositoryIndex, digest: str
    ) -> StoredManifest | None:
        """Find a manifest that is listed by an index in the repository, but not by `index.json`.

        Layouts of other tools may list only tagged manifests in `index.json`.
        """
        self._scan(name, index, indexes_only=True)
        return index.relations.unlisted(digest)

    def referrers(
        self,
        name: str,
        index: RepositoryIndex,
        subject: str,
        last: str,
        kind: str | None,
        size: int,
    ) -> list[StoredManifest]:
        """Manifests with a subject, in the order of their digests.

        Args:
            name: the repository.
            index: the index of the repository.
            subject: the digest of the subject.
            last: return only manifests with a greater digest.
            kind: return only manifests of this artifact type; None for all types.
            size: the largest number of manifests.
        """
        self._scan(name, index, indexes_only=False)
        digests = index.relations.referrers(subject, last, kind, size)
        found = (
            index.manifests.get(digest) or index.relations.unlisted(digest) for digest in digests
        )
        return [stored for stored in found if stored]

    def read(self, name: str, stored: StoredManifest) -> tuple[ParsedManifest, int] | None:
        """A parsed manifest and its size in bytes; None if it is missing or is no manifest."""
        file = self._storage.open_blob(name, stored.digest)
        if file is None:
            return None
        with file:
            data = file.read(_READ_LIMIT)
        if len(data) >= _READ_LIMIT:
            return None
        try:
            return parse_manifest(data, stored.media_type, strict=False), len(data)
        except RequestRejectedError:  # another tool has stored a file that is not a manifest
            return None

    def _scan(self, name: str, index: RepositoryIndex, *, indexes_only: bool) -> None:
        relations = index.relations
        if not relations.needs_scan(indexes_only=indexes_only):
            return
        with relations.scan_lock:
            started = time.monotonic()
            relations.begin_scan(list(index.manifests.values()))
            while unread := relations.next_unread(indexes_only=indexes_only):
                self._scan_manifest(name, index, *unread)
            relations.end_scan(time.monotonic() - started)

    def _scan_manifest(
        self, name: str, index: RepositoryIndex, digest: str, media_type: str
    ) -> None:
        read = self.read(name, StoredManifest(digest, media_type, 0))
        children = {
            child.digest: child.media_type
            for child in (read[0].children if read else ())
            if child.media_type in MANIFEST_TYPES | INDEX_TYPES
            and is_digest(child.digest)
            and child.digest not in index.manifests
        }
        sizes = self._storage.blob_sizes(name, children)
        unlisted = [
            StoredManifest(digest, children[digest], size) for digest, size in sizes.items()
        ]
        complete = len(unlisted) == len(children)
        relations = (
            ManifestRelations(read[0].subject, read[0].artifact_type)
            if read
            else ManifestRelations()
        )
        index.relations.record(
            digest, relations, unlisted, index.manifests.__contains__, complete=complete
        )
