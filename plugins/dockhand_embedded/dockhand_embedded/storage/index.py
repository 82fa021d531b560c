"""The manifests and tags of one repository, as the `index.json` of an OCI Image Layout holds them.

One entry per tag (annotation `org.opencontainers.image.ref.name`), and one without it for a
manifest that has no tag. Both storages keep their manifests so, hence they cannot differ.

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
class Stored:
    """A manifest as its descriptor describes it."""

    digest: str
    media_type: str
    size: int


class Index:
    """The manifests of a repository.

    A finished index is shared between threads, so it is never changed: `copy()` is.
    Entries keep whatever another tool wrote into them.
    """

    def __init__(self) -> None:
        """An index without manifests."""
        self.changed = False
        self.manifests: dict[str, Stored] = {}
        self._head: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX}
        self._tagged: dict[str, dict[str, Any]] = {}
        self._untagged: dict[str, dict[str, Any]] = {}
        # What is not understood (no digest, say) is carried along, never dropped.
        self._foreign: list[Any] = []

    @classmethod
    def parse(cls, data: bytes) -> Index:
        """Read an `index.json`, whoever wrote it.

        Raises:
            ValueError: it is not a JSON object with a list of manifests.
        """
        document = json.loads(data)
        entries = document.get("manifests", []) if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise ValueError("index.json has no list of manifests")
        index = cls()
        index._head = {key: value for key, value in document.items() if key != "manifests"}
        for entry in entries:
            index._take(entry)
        return index

    def _take(self, entry: Any) -> None:
        if not isinstance(entry, dict) or not is_digest(str(entry.get("digest"))):
            self._foreign.append(entry)
            return
        digest, size = str(entry["digest"]), entry.get("size")
        self.manifests[digest] = Stored(
            digest,
            str(entry.get("mediaType") or OCI_MANIFEST),
            size if isinstance(size, int) else 0,
        )
        notes = entry.get("annotations")
        tag = notes.get(REF_NAME) if isinstance(notes, dict) else None
        # Some tools write a whole image name there. Such a manifest is served by digest.
        if isinstance(tag, str) and is_tag(tag):
            if tag in self._tagged:
                self._release(tag)
            self._tagged[tag] = entry
            return
        self._untagged.setdefault(digest, entry)

    def serialize(self) -> bytes:
        """The bytes of `index.json`."""
        entries = [*self._foreign, *self._tagged.values(), *self._untagged.values()]
        # Without `indent`, which the encoder that is written in Python would have to do.
        return json.dumps({**self._head, "manifests": entries}).encode()

    def copy(self) -> Index:
        """An index of its own, to be changed; entries are shared, as no method alters one."""
        other = Index()
        other._head = self._head
        other.manifests = self.manifests.copy()
        other._tagged = self._tagged.copy()
        other._untagged = self._untagged.copy()
        other._foreign = self._foreign
        return other

    def tags(self) -> list[str]:
        """All tags in ASCII order."""
        return sorted(self._tagged)

    def tagged(self, tag: str) -> Stored | None:
        """What a tag points to."""
        entry = self._tagged.get(tag)
        return None if entry is None else self.manifests[str(entry["digest"])]

    def put(self, manifest: Stored, tags: Sequence[str]) -> None:
        """Add a manifest and point tags to it; what a tag pointed to before stays, untagged."""
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
                self._release(tag)
            self._tagged[tag] = {**entry, "annotations": {REF_NAME: tag}}
        if tags:
            self._untagged.pop(manifest.digest, None)
        elif not known:
            self._untagged[manifest.digest] = entry

    def delete_tag(self, tag: str) -> bool:
        """Remove a tag and leave its manifest; False if there is no such tag."""
        if tag not in self._tagged:
            return False
        self.changed = True
        self._release(tag)
        return True

    def delete_manifest(self, digest: str) -> list[str]:
        """Remove a manifest, if it is here, with all of its tags, which it gives."""
        if self.manifests.pop(digest, None) is None:
            return []
        self.changed = True
        self._untagged.pop(digest, None)
        tags = [tag for tag, entry in self._tagged.items() if entry["digest"] == digest]
        for tag in tags:
            del self._tagged[tag]
        return tags

    def _release(self, tag: str) -> None:
        entry = self._tagged.pop(tag)
        digest = str(entry["digest"])
        if digest in self._untagged or any(e["digest"] == digest for e in self._tagged.values()):
            return
        notes = {key: value for key, value in entry["annotations"].items() if key != REF_NAME}
        rest = {key: value for key, value in entry.items() if key != "annotations"}
        self._untagged[digest] = {**rest, "annotations": notes} if notes else rest
