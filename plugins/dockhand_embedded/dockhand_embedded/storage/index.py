"""The index of a repository: its manifests and tags, as in the `index.json` of an OCI Image Layout.

The index has an entry for each tag, with the annotation `org.opencontainers.image.ref.name`, and an
entry without this annotation for each manifest without tags. Storage in memory and storage in a
folder use the same class `RepositoryIndex`, so they behave alike.

An index is changed through an `IndexEdit`, whose cost does not depend on the number of manifests.

Follows: OCI Image Specification 1.1, "OCI Image Layout", "index.json file".
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from typing import Any

from dockhand_embedded.protocol.manifest_parser import OCI_INDEX, OCI_MANIFEST
from dockhand_embedded.protocol.names import is_digest, is_tag
from dockhand_embedded.storage.relations import (
    ManifestRelations,
    RepositoryRelations,
    StoredManifest,
)

__all__ = ["REF_NAME", "IndexEdit", "RepositoryIndex", "StoredManifest", "page_of"]

REF_NAME = "org.opencontainers.image.ref.name"


class RepositoryIndex:
    """The manifests and tags of a repository.

    An index is shared between threads. Only `IndexEdit.apply` changes it, after the change was
    stored. Fields and annotations that another tool wrote are preserved.

    Attributes:
        manifests: the manifests by digest. Do not modify it, and iterate over a copy.
        entries: the descriptors in `index.json`. The key is a tag (which has no colon), or the
            digest of a manifest without tags.
        unparsed: entries without a valid digest; they are written back unchanged, never dropped.
        other_fields: the fields of `index.json` other than `manifests`.
        relations: the subjects and children of the manifests, as far as they were read.
        version: the number of edits that were applied.
    """

    def __init__(self) -> None:
        """Create an index without manifests."""
        self.manifests: dict[str, StoredManifest] = {}
        self.entries: dict[str, dict[str, Any]] = {}
        self.unparsed: list[Any] = []
        self.other_fields: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX}
        self.relations = RepositoryRelations()
        self.version = 0
        self._tags_of: dict[str, set[str]] = {}
        self._sorted_tags: list[str] | None = None
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, data: bytes) -> RepositoryIndex:
        """Parse an `index.json`, which another tool may have written.

        Raises:
            ValueError: the data is not a JSON object with a list of manifests.
        """
        document = json.loads(data)
        entries = document.get("manifests", []) if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise ValueError("index.json has no list of manifests")
        index = cls()
        index.other_fields = {key: value for key, value in document.items() if key != "manifests"}
        for entry in entries:
            index._load(entry)
        index.relations.add_unread(index.manifests.values())
        return index

    def _load(self, entry: Any) -> None:
        digest = entry.get("digest") if isinstance(entry, dict) else None
        if not isinstance(digest, str) or not is_digest(digest):
            self.unparsed.append(entry)
            return
        size = entry.get("size")
        self.manifests[digest] = StoredManifest(
            digest,
            str(entry.get("mediaType") or OCI_MANIFEST),
            size if isinstance(size, int) else 0,
        )
        annotations = entry.get("annotations")
        tag = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
        # Some tools write a full image name instead of a tag: the manifest then has no tag here.
        if not isinstance(tag, str) or not is_tag(tag):
            self.entries.setdefault(digest, entry)
            return
        old = self.entries.pop(tag, None)
        self._move_tag(tag, old, entry)
        self.entries[tag] = entry
        if old is not None and old["digest"] not in self._tags_of:
            self.entries.setdefault(old["digest"], _without_tag(old))

    def edit(self) -> IndexEdit:
        """Begin a change. The caller must ensure that an index has one edit at a time."""
        return IndexEdit(self)

    def document(self, edit: IndexEdit) -> dict[str, Any]:
        """The content of `index.json` after an edit."""
        entries = dict(self.entries)
        for key, entry in edit.entries.items():
            entries.pop(key, None)
            if entry is not None:
                entries[key] = entry
        return {**self.other_fields, "manifests": [*self.unparsed, *entries.values()]}

    def tag_count(self, digest: str) -> int:
        """The number of tags of a manifest."""
        return len(self._tags_of.get(digest, ()))

    def tags_of(self, digest: str) -> list[str]:
        """The tags of a manifest, in ASCII order."""
        with self._lock:
            return sorted(self._tags_of.get(digest, ()))

    def tags(self) -> list[str]:
        """All tags, in ASCII order."""
        return self.tag_page(None, None)[0]

    def tag_page(self, last: str | None, size: int | None) -> tuple[list[str], bool]:
        """A part of the list of tags in ASCII order.

        Args:
            last: the tag before the page, which need not exist; None to begin at the first tag.
            size: the largest number of tags; None for all that remain.

        Returns:
            the tags, and whether more tags follow.
        """
        with self._lock:
            if self._sorted_tags is None:
                self._sorted_tags = sorted(key for key in self.entries if ":" not in key)
            return page_of(self._sorted_tags, last, size)

    def tagged(self, tag: str) -> StoredManifest | None:
        """The manifest that a tag points to; None if there is no such tag."""
        entry = self.entries.get(tag) if ":" not in tag else None
        return None if entry is None else self.manifests.get(str(entry["digest"]))

    def _apply(
        self,
        entries: Mapping[str, dict[str, Any] | None],
        manifests: Mapping[str, StoredManifest | None],
    ) -> None:
        with self._lock:
            self.version += 1
            for key, entry in entries.items():
                old = self.entries.pop(key, None)
                if ":" not in key:
                    self._move_tag(key, old, entry)
                if entry is not None:
                    self.entries[key] = entry
            for digest, manifest in manifests.items():
                if manifest is None:
                    self.manifests.pop(digest, None)
                else:
                    self.manifests[digest] = manifest

    def _move_tag(self, tag: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        if old is not None:
            tags = self._tags_of[str(old["digest"])]
            tags.discard(tag)
            if not tags:
                del self._tags_of[str(old["digest"])]
        if new is not None:
            self._tags_of.setdefault(str(new["digest"]), set()).add(tag)
        if self._sorted_tags is None or (old is None) == (new is None):
            return
        if old is None:
            insort(self._sorted_tags, tag)
        else:
            del self._sorted_tags[bisect_left(self._sorted_tags, tag)]


class IndexEdit:
    """A change of an index, which other threads do not see before `apply`.

    Attributes:
        index: the index, without the change.
        entries: the new descriptors by their keys in `RepositoryIndex.entries`; None for a
            descriptor that is removed.
    """

    def __init__(self, index: RepositoryIndex) -> None:
        """Begin a change of `index`."""
        self.index = index
        self.entries: dict[str, dict[str, Any] | None] = {}
        self._manifests: dict[str, StoredManifest | None] = {}
        self._relations: dict[str, ManifestRelations] = {}
        self._tagged_here: dict[str, set[str]] = {}  # tags in `entries`, by digest

    @property
    def changed(self) -> bool:
        """Whether `index.json` has to be written."""
        return bool(self.entries)

    def apply(self) -> None:
        """Change the index, after the change was stored."""
        self.index._apply(self.entries, self._manifests)
        for digest, manifest in self._manifests.items():
            if manifest is None:
                self.index.relations.remove(digest)
            else:
                self.index.relations.add(manifest, self._relations.get(digest))

    def manifest(self, digest: str) -> StoredManifest | None:
        """A manifest, with this change; None if the index does not have it."""
        if digest in self._manifests:
            return self._manifests[digest]
        return self.index.manifests.get(digest)

    def _entry(self, key: str) -> dict[str, Any] | None:
        return self.entries[key] if key in self.entries else self.index.entries.get(key)

    def _set(self, key: str, entry: dict[str, Any] | None) -> None:
        old = self.entries.get(key)
        if ":" not in key:
            if old is not None:
                self._tagged_here[str(old["digest"])].discard(key)
            if entry is not None:
                self._tagged_here.setdefault(str(entry["digest"]), set()).add(key)
        if entry == self.index.entries.get(key):  # also if both are None
            self.entries.pop(key, None)
        else:
            self.entries[key] = entry

    def put(
        self,
        manifest: StoredManifest,
        tags: Sequence[str],
        relations: ManifestRelations | None = None,
    ) -> None:
        """Add a manifest and point tags to it. A tag's previous manifest stays, without the tag."""
        entry: dict[str, Any] = {
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.size,
        }
        known = self.manifest(manifest.digest) is not None
        self._manifests[manifest.digest] = manifest
        if relations:
            self._relations[manifest.digest] = relations
        for tag in tags:
            new = {**entry, "annotations": {REF_NAME: tag}}
            if self._entry(tag) != new:
                self._remove_tag(tag)
                self._set(tag, new)
        if tags:
            self._set(manifest.digest, None)
        elif not known:
            self._set(manifest.digest, entry)

    def delete_tag(self, tag: str) -> bool:
        """Remove a tag, and keep its manifest; return False if there is no such tag."""
        return self._remove_tag(tag)

    def delete_manifest(self, digest: str) -> list[str]:
        """Remove a manifest and its tags, if the index has the manifest; return the tags."""
        if self.manifest(digest) is None:
            return []
        self._manifests[digest] = None
        self._set(digest, None)
        tags = {tag for tag in self.index.tags_of(digest) if tag not in self.entries}
        tags |= self._tagged_here.get(digest, set())
        for tag in tags:
            self._set(tag, None)
        return sorted(tags)

    def _remove_tag(self, tag: str) -> bool:
        entry = self._entry(tag)
        if entry is None:
            return False
        self._set(tag, None)
        digest = str(entry["digest"])
        if self._entry(digest) is None and not self._has_tag(digest):
            self._set(digest, _without_tag(entry))
        return True

    def _has_tag(self, digest: str) -> bool:
        if self._tagged_here.get(digest):
            return True
        if not self.index.tag_count(digest):
            return False
        moved = sum(
            1
            for key in self.entries
            if (old := self.index.entries.get(key)) is not None
            and ":" not in key
            and old["digest"] == digest
        )
        return self.index.tag_count(digest) > moved


def _without_tag(entry: dict[str, Any]) -> dict[str, Any]:
    annotations = {key: value for key, value in entry["annotations"].items() if key != REF_NAME}
    rest = {key: value for key, value in entry.items() if key != "annotations"}
    return {**rest, "annotations": annotations} if annotations else rest


def page_of(items: list[str], last: str | None, size: int | None) -> tuple[list[str], bool]:
    """The items of a sorted list after `last`, at most `size`; and whether more items follow."""
    start = bisect_right(items, last) if last else 0
    end = len(items) if size is None else min(start + size, len(items))
    return items[start:end], end < len(items)
