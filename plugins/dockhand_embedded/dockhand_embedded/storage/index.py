"""The index of a repository: its manifests and tags, as in the `index.json` of an OCI Image Layout.

The index has an entry for each tag, with the annotation `org.opencontainers.image.ref.name`, and an
entry without this annotation for each manifest without tags. Storage in memory and storage in a
folder use the same class `RepositoryIndex`, so they behave alike.

Follows: OCI Image Specification 1.1, "OCI Image Layout", "index.json file".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dockhand_embedded.protocol.manifest_parser import OCI_INDEX, OCI_MANIFEST
from dockhand_embedded.protocol.names import is_digest, is_tag

REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """The digest, media type and size of a manifest in the index."""

    digest: str
    media_type: str
    size: int


class RepositoryIndex:
    """The manifests and tags of a repository.

    A stored index is shared between threads and never modified; modify a `copy()`. Fields and
    annotations that another tool wrote are preserved.
    """

    def __init__(self) -> None:
        """Create an index without manifests."""
        self.changed = False
        self.manifests: dict[str, StoredManifest] = {}
        self._other_fields: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX}
        self._tagged: dict[str, dict[str, Any]] = {}
        self._untagged: dict[str, dict[str, Any]] = {}
        # Entries without a valid digest are written back unchanged, never dropped.
        self._unparsed: list[Any] = []

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
        index._other_fields = {key: value for key, value in document.items() if key != "manifests"}
        for entry in entries:
            index._add_entry(entry)
        return index

    def _add_entry(self, entry: Any) -> None:
        if not isinstance(entry, dict) or not is_digest(str(entry.get("digest"))):
            self._unparsed.append(entry)
            return
        digest, size = str(entry["digest"]), entry.get("size")
        self.manifests[digest] = StoredManifest(
            digest,
            str(entry.get("mediaType") or OCI_MANIFEST),
            size if isinstance(size, int) else 0,
        )
        annotations = entry.get("annotations")
        tag = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
        # Some tools write a full image name instead of a tag: the manifest then has no tag here.
        if isinstance(tag, str) and is_tag(tag):
            if tag in self._tagged:
                self._remove_tag(tag)
            self._tagged[tag] = entry
            return
        self._untagged.setdefault(digest, entry)

    def serialize(self) -> bytes:
        """The bytes of `index.json`."""
        entries = [*self._unparsed, *self._tagged.values(), *self._untagged.values()]
        # No `indent`, because with it `json` uses its slow encoder in pure Python.
        return json.dumps({**self._other_fields, "manifests": entries}).encode()

    def copy(self) -> RepositoryIndex:
        """A copy that can be modified. It shares the entries, since no method modifies an entry."""
        other = RepositoryIndex()
        other._other_fields = self._other_fields
        other.manifests = self.manifests.copy()
        other._tagged = self._tagged.copy()
        other._untagged = self._untagged.copy()
        other._unparsed = self._unparsed
        return other

    def tags(self) -> list[str]:
        """All tags, in ASCII order."""
        return sorted(self._tagged)

    def tagged(self, tag: str) -> StoredManifest | None:
        """The manifest that a tag points to; None if there is no such tag."""
        entry = self._tagged.get(tag)
        return None if entry is None else self.manifests[str(entry["digest"])]

    def put(self, manifest: StoredManifest, tags: Sequence[str]) -> None:
        """Add a manifest and point tags to it. A tag's previous manifest stays, without the tag."""
        self.changed = True
        entry: dict[str, Any] = {
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.size,
        }
        known = manifest.digest in self.manifests
        self.manifests[manifest.digest] = manifest
        for tag in tags:
            if tag in self._tagged:
                self._remove_tag(tag)
            self._tagged[tag] = {**entry, "annotations": {REF_NAME: tag}}
        if tags:
            self._untagged.pop(manifest.digest, None)
        elif not known:
            self._untagged[manifest.digest] = entry

    def delete_tag(self, tag: str) -> bool:
        """Remove a tag, and keep its manifest; return False if there is no such tag."""
        if tag not in self._tagged:
            return False
        self.changed = True
        self._remove_tag(tag)
        return True

    def delete_manifest(self, digest: str) -> list[str]:
        """Remove a manifest and its tags, if the index has the manifest; return the tags."""
        if self.manifests.pop(digest, None) is None:
            return []
        self.changed = True
        self._untagged.pop(digest, None)
        tags = [tag for tag, entry in self._tagged.items() if entry["digest"] == digest]
        for tag in tags:
            del self._tagged[tag]
        return tags

    def _remove_tag(self, tag: str) -> None:
        entry = self._tagged.pop(tag)
        digest = str(entry["digest"])
        if digest in self._untagged or any(e["digest"] == digest for e in self._tagged.values()):
            return
        annotations = {key: value for key, value in entry["annotations"].items() if key != REF_NAME}
        rest = {key: value for key, value in entry.items() if key != "annotations"}
        self._untagged[digest] = {**rest, "annotations": annotations} if annotations else rest
