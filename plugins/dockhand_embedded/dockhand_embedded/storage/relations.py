"""The relations of a repository's manifests: referrers by subject, and children of indexes.

Each manifest is read once, when its relations are first needed, or never if it was pushed to this
process. So a request does not read every manifest again. A digest identifies the content, so a
relation never changes; it only disappears with its manifest.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dockhand_embedded.protocol.manifest_parser import INDEX_TYPES, DescriptorRef

# A repository whose indexes name missing manifests is read again, since another tool may have added
# the files in the meantime. It is not read again within this many seconds, nor within this many
# times the duration of the last reading.
_RESCAN_INTERVAL = 1.0
_RESCAN_FACTOR = 20


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """The digest, media type and size of a manifest in the index."""

    digest: str
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class ManifestRelations:
    """The manifests that a manifest points to: its subject, and its children if it is an index.

    Attributes:
        subject: the digest of the subject; None without a subject.
        artifact_type: the artifact type, or else the media type of the config.
        children: the descriptors of the manifests in an index.
    """

    subject: str | None = None
    artifact_type: str | None = None
    children: tuple[DescriptorRef, ...] = ()


class RepositoryRelations:
    """The relations of the manifests of one repository; safe to use from many threads.

    Attributes:
        scan_lock: held by the thread that reads manifests, so that others wait for its result.
    """

    def __init__(self) -> None:
        """Create the relations of a repository without manifests."""
        self.scan_lock = threading.Lock()
        self._lock = threading.Lock()
        # Manifests that were not read yet, with their media types. Indexes are separate, because
        # only they are needed to find a manifest by its digest.
        self._unread_indexes: dict[str, str] = {}
        self._unread_images: dict[str, str] = {}
        self._subjects: dict[str, tuple[str, str | None]] = {}  # (subject, artifact type)
        self._read: set[str] = set()
        self._referrers: dict[str, list[str]] = {}
        self._unlisted: dict[str, StoredManifest] = {}
        self._incomplete = False  # an index names a manifest that the repository does not have
        self._orphans = False  # an unlisted manifest may have lost its index
        self._next_scan = 0.0

    # Changes

    def add(self, manifest: StoredManifest, relations: ManifestRelations | None) -> None:
        """Add a manifest of the index.

        Args:
            manifest: the manifest.
            relations: its relations; None if they are not known yet.
        """
        with self._lock:
            self._unlisted.pop(manifest.digest, None)
            if relations is not None:
                self._add_subject(manifest.digest, relations)
            if manifest.digest in self._read:
                return
            if relations is None or relations.children:
                self._queue(manifest.digest, manifest.media_type)
            else:
                self._read.add(manifest.digest)

    def add_unread(self, manifests: Iterable[StoredManifest]) -> None:
        """Add the manifests of an index that was just parsed."""
        with self._lock:
            for each in manifests:
                self._queue(each.digest, each.media_type)

    def remove(self, digest: str) -> None:
        """Remove a manifest that was deleted."""
        with self._lock:
            self._read.discard(digest)
            self._unread_indexes.pop(digest, None)
            self._unread_images.pop(digest, None)
            self._remove_subject(digest)
            self._unlisted.pop(digest, None)
            self._orphans = self._orphans or bool(self._unlisted)

    def adopt(self, earlier: RepositoryRelations) -> None:
        """Take over the relations of the same manifests from an earlier version of the index."""
        with earlier._lock:
            read, subjects = set(earlier._read), dict(earlier._subjects)
            unlisted = dict(earlier._unlisted)
            self._incomplete, self._next_scan = earlier._incomplete, earlier._next_scan
        with self._lock:
            for unread in (self._unread_indexes, self._unread_images):
                for digest in [digest for digest in unread if digest in read]:
                    del unread[digest]
                    self._read.add(digest)
                    if digest in subjects:
                        subject, artifact_type = subjects[digest]
                        self._add_subject(digest, ManifestRelations(subject, artifact_type))
            # The index of an unlisted manifest may be gone, so all indexes are read again.
            self._orphans = bool(unlisted)

    def _queue(self, digest: str, media_type: str) -> None:
        unread = self._unread_indexes if media_type in INDEX_TYPES else self._unread_images
        unread[digest] = media_type

    def _add_subject(self, digest: str, relations: ManifestRelations) -> None:
        if relations.subject is None or digest in self._subjects:
            return
        self._subjects[digest] = relations.subject, relations.artifact_type
        insort(self._referrers.setdefault(relations.subject, []), digest)

    def _remove_subject(self, digest: str) -> None:
        known = self._subjects.pop(digest, None)
        if known is None:
            return
        referrers = self._referrers[known[0]]
        del referrers[bisect_left(referrers, digest)]
        if not referrers:
            del self._referrers[known[0]]

    # Scans

    def needs_scan(self, *, indexes_only: bool) -> bool:
        """Whether manifests have to be read before a question can be answered."""
        if self._unread_indexes or self._orphans or (self._unread_images and not indexes_only):
            return True
        return self._incomplete and time.monotonic() >= self._next_scan

    def begin_scan(self, manifests: Iterable[StoredManifest]) -> None:
        """Queue the indexes among `manifests` again, if their children may have changed."""
        with self._lock:
            due = self._incomplete and time.monotonic() >= self._next_scan
            if not due and not self._orphans:
                return
            self._incomplete = self._orphans = False
            for digest in self._unlisted:
                self._remove_subject(digest)
                self._read.discard(digest)
            self._unlisted.clear()
            for stored in manifests:
                if stored.media_type in INDEX_TYPES:
                    self._read.discard(stored.digest)
                    self._queue(stored.digest, stored.media_type)

    def end_scan(self, seconds: float) -> None:
        """Note how long a scan took."""
        pause = max(_RESCAN_INTERVAL, _RESCAN_FACTOR * seconds)
        self._next_scan = max(self._next_scan, time.monotonic() + pause)

    def next_unread(self, *, indexes_only: bool) -> tuple[str, str] | None:
        """The digest and media type of a manifest to read; None if there is none."""
        with self._lock:
            unread = self._unread_indexes or ({} if indexes_only else self._unread_images)
            return next(iter(unread.items()), None)

    def record(
        self,
        digest: str,
        relations: ManifestRelations,
        unlisted: Iterable[StoredManifest],
        is_listed: Callable[[str], bool],
        *,
        complete: bool,
    ) -> None:
        """Note the relations of a manifest that was read.

        Args:
            digest: the digest of the manifest.
            relations: its relations.
            unlisted: its children that exist, although the repository's index does not list them.
            is_listed: returns whether the repository's index has a manifest.
            complete: whether the repository has all of its children.
        """
        with self._lock:
            self._unread_indexes.pop(digest, None)
            self._unread_images.pop(digest, None)
            if not is_listed(digest) and digest not in self._unlisted:
                return  # it was deleted in the meantime
            self._read.add(digest)
            self._add_subject(digest, relations)
            self._incomplete = self._incomplete or not complete
            for child in unlisted:
                if child.digest not in self._unlisted and not is_listed(child.digest):
                    self._unlisted[child.digest] = child
                    self._queue(child.digest, child.media_type)

    # Questions

    def unlisted(self, digest: str) -> StoredManifest | None:
        """A manifest that only another index lists, as in layouts of other tools."""
        return self._unlisted.get(digest)

    def referrers(self, subject: str, last: str, artifact_type: str | None, size: int) -> list[str]:
        """The digests of manifests with this subject, in ASCII order.

        Args:
            subject: the digest of the subject.
            last: return only digests after this one.
            artifact_type: return only manifests of this artifact type; None for all types.
            size: the largest number of digests.
        """
        found: list[str] = []
        with self._lock:
            digests = self._referrers.get(subject, [])
            for position in range(bisect_right(digests, last), len(digests)):
                digest = digests[position]
                if artifact_type is None or self._subjects[digest][1] == artifact_type:
                    found.append(digest)
                    if len(found) >= size:
                        break
        return found
