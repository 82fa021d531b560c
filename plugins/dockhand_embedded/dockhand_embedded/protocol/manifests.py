"""Manifests by tag and digest, tag lists, and referrers.

Follows: OCI Distribution Specification 1.1, "Pulling manifests", "Pushing Manifests", "Listing
Tags", "Listing Referrers", "Content Management".
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from dockhand_embedded.protocol import manifest_parser as documents
from dockhand_embedded.protocol.manifest_parser import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX
from dockhand_embedded.protocol.messages import (
    FileBody,
    Happening,
    Refused,
    Reply,
    Request,
    Steps,
    empty_reply,
    json_reply,
    not_modified,
)
from dockhand_embedded.protocol.names import check_digest, check_name, check_reference, check_tag
from dockhand_embedded.storage.base import Storage
from dockhand_embedded.storage.index import Index, Stored

_REMEMBERED = 8192
_FEW = 64
# Other tools may put anything into a layout; nothing over this size is read as a manifest.
_READ_LIMIT = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Links:
    """Where a manifest points: all that has to be known of each when referrers are listed."""

    subject: str | None
    children: tuple[documents.Child, ...]


class Manifests:
    """The manifest endpoints over one storage."""

    def __init__(self, storage: Storage, limit: int) -> None:
        """Take manifests of at most `limit` bytes."""
        self._storage = storage
        self._limit = limit
        # By digest and type, so it never becomes wrong and may be shared by all repositories.
        self._links: OrderedDict[tuple[str, str], _Links] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, request: Request, name: str, reference: str) -> Reply:
        """GET and HEAD: always what is stored, whatever `Accept` says."""
        check_name(name)
        check_reference(reference)
        index = self._storage.index(name)
        stored = self._find(name, reference, index) if index else None
        size = self._storage.blob_size(name, stored.digest) if stored else None
        if stored is None or size is None:  # another tool may have left a name without bytes
            raise _unknown(reference)
        headers = [("Docker-Content-Digest", stored.digest), ("ETag", f'"{stored.digest}"')]
        tag = "" if ":" in reference else reference
        pulled = [Happening("pull", name, stored.digest, stored.media_type, size, tag)]
        if not_modified(request, stored.digest):
            return empty_reply(304, headers, pulled)
        headers += [("Content-Type", stored.media_type), ("Content-Length", str(size))]
        if request.method == "HEAD":
            return Reply(200, headers, happened=pulled)
        file = self._storage.open_blob(name, stored.digest)
        if file is None:
            raise _unknown(reference)
        return Reply(200, headers, FileBody(file, 0, size), pulled)

    def put(self, request: Request, name: str, reference: str) -> Steps:
        """PUT: check, then keep the exact bytes and their media type."""
        check_name(name)
        check_reference(reference)
        # Several tags in one push by digest, as the specification's main branch has it.
        tags = [check_tag(value) for key, value in request.query if key == "tag"]
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in MANIFEST_TYPES | INDEX_TYPES:
            raise Refused(
                400,
                "MANIFEST_INVALID",
                "the Content-Type is not that of a manifest or an index",
                {"contentType": media_type[:200]},
            )
        data = yield from self._receive(request)
        if ":" in reference:
            algorithm = reference.partition(":")[0]
            digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
            if digest != reference:
                raise Refused(
                    400, "DIGEST_INVALID", "the manifest has another digest", {"digest": digest}
                )
        else:
            digest, tags = f"sha256:{hashlib.sha256(data).hexdigest()}", [reference]
        document = documents.read(data, media_type)
        # Asked twice: a push that fails leaves no empty repository, and one that succeeds has its
        # blobs still there when the manifest is kept.
        self._check_blobs(name, document)
        with self._storage.changing(name) as index:
            self._check_blobs(name, document)
            self._storage.write_blob(name, digest, data)
            index.put(Stored(digest, media_type, len(data)), tags)
        headers = [
            ("Location", f"/v2/{name}/manifests/{digest}"),
            ("Docker-Content-Digest", digest),
        ]
        if document.subject:
            headers.append(("OCI-Subject", document.subject))
        if ":" in reference:
            headers += [("OCI-Tag", tag) for tag in tags]
        pushed = Happening("push", name, digest, media_type, len(data), manifest=data)
        return empty_reply(201, headers, [replace(pushed, tag=tag) for tag in tags or [""]])

    def _receive(self, request: Request) -> Generator[None, bytes, bytes]:
        pieces, size = [], 0
        if (request.length or 0) > self._limit:
            raise self._too_large()
        while piece := (yield):
            size += len(piece)
            if size > self._limit:
                raise self._too_large()
            pieces.append(piece)
        return b"".join(pieces)

    def _too_large(self) -> Refused:
        return Refused(413, "SIZE_INVALID", f"manifests have at most {self._limit} bytes here")

    def _check_blobs(self, name: str, document: documents.Document) -> None:
        refusal = None
        for digest in document.blobs:
            if self._storage.blob_size(name, digest) is not None:
                continue
            error = "MANIFEST_BLOB_UNKNOWN", "the manifest names a blob that is not here"
            if refusal:
                refusal.add(*error, {"digest": digest})
            else:
                refusal = Refused(400, *error, {"digest": digest})
        if refusal:
            raise refusal

    def delete(self, name: str, reference: str) -> Reply:
        """DELETE: by tag only the tag, by digest the manifest with all of its tags."""
        check_name(name)
        check_reference(reference)
        known = self._storage.index(name)
        if known is None or self._find(name, reference, known) is None:
            raise _unknown(reference)
        with self._storage.changing(name) as index:
            if ":" not in reference:
                found, tags = index.delete_tag(reference), [reference]
            else:
                found = self._find(name, reference, index) is not None
                tags = index.delete_manifest(reference)
            if not found:
                raise _unknown(reference)
        deleted = [Happening("delete", name, tag=tag) for tag in tags]
        if ":" in reference:
            self._sweep(name, reference)
            deleted.insert(0, Happening("delete", name, reference))
        return empty_reply(202, happened=deleted)

    def _sweep(self, name: str, digest: str) -> None:
        """Remove a deleted manifest's bytes.

        After the index was written: a crash in between leaves bytes that nothing names, where the
        other order would leave a name without bytes.
        """
        with self._storage.changing(name) as index:
            if digest not in index.manifests:  # else it was pushed again meanwhile
                self._storage.delete_blob(name, digest)

    def tags(self, name: str) -> list[str]:
        """All tags of a repository.

        Raises:
            Refused: 404 NAME_UNKNOWN.
        """
        check_name(name)
        index = self._storage.index(name)
        if index is None:
            raise Refused(404, "NAME_UNKNOWN", "no such repository", {"name": name})
        return index.tags()

    def referrers(self, request: Request, name: str, digest: str) -> Reply:
        """GET: who names this digest as its subject; an unknown digest has no referrers."""
        check_name(name)
        check_digest(digest)
        wanted = request.param("artifactType")
        found = []
        index = self._storage.index(name)
        for stored in self._all(name, index) if index else ():
            if self._links_of(name, stored).subject != digest:
                continue
            entry = self._describe(name, stored)
            if entry and (not wanted or entry.get("artifactType") == wanted):
                found.append(entry)
        return json_reply(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found},
            media_type=OCI_INDEX,
            headers=[("OCI-Filters-Applied", "artifactType")] if wanted else (),
        )

    def _describe(self, name: str, stored: Stored) -> dict[str, Any] | None:
        data = self._bytes(name, stored.digest)
        if data is None:
            return None
        document = documents.read(data, stored.media_type, strict=False)
        entry: dict[str, Any] = {
            "mediaType": stored.media_type,
            "digest": stored.digest,
            "size": len(data),
        }
        if document.artifact_type:
            entry["artifactType"] = document.artifact_type
        if document.annotations:
            entry["annotations"] = document.annotations
        return entry

    def _find(self, name: str, reference: str, index: Index) -> Stored | None:
        if ":" not in reference:
            return index.tagged(reference)
        stored = index.manifests.get(reference)
        if stored or self._storage.blob_size(name, reference) is None:
            return stored
        # Other tools list only what has a tag in index.json; the rest hangs below an index.
        return next((found for found in self._all(name, index) if found.digest == reference), None)

    def _all(self, name: str, index: Index) -> Iterator[Stored]:
        """The manifests of a repository, and what is found below its indexes."""
        seen = set(index.manifests)
        waiting = list(index.manifests.values())
        while waiting:
            stored = waiting.pop()
            yield stored
            for child in self._links_of(name, stored).children:
                if child.digest in seen or child.media_type not in MANIFEST_TYPES | INDEX_TYPES:
                    continue
                seen.add(child.digest)
                size = self._size(name, child.digest)
                if size is not None:
                    waiting.append(Stored(child.digest, child.media_type, size))

    def _links_of(self, name: str, stored: Stored) -> _Links:
        key = stored.digest, stored.media_type
        with self._lock:
            known = self._links.get(key)
            if known:
                self._links.move_to_end(key)
                return known
        data = self._bytes(name, stored.digest)
        if data is None:
            return _Links(None, ())
        try:
            document = documents.read(data, stored.media_type, strict=False)
        except Refused:  # another tool's file, of a kind that is not known here
            return _Links(None, ())
        links = _Links(document.subject, document.children)
        # Few children are worth remembering; thousands of them would only cost memory.
        if len(links.children) <= _FEW:
            with self._lock:
                self._links[key] = links
                while len(self._links) > _REMEMBERED:
                    self._links.popitem(last=False)
        return links

    def _size(self, name: str, digest: str) -> int | None:
        try:
            return self._storage.blob_size(name, check_digest(digest))
        except Refused:  # an algorithm that nothing is stored by
            return None

    def _bytes(self, name: str, digest: str) -> bytes | None:
        file = self._storage.open_blob(name, digest)
        if file is None:
            return None
        with file:
            data = file.read(_READ_LIMIT)
        return data if len(data) < _READ_LIMIT else None


def _unknown(reference: str) -> Refused:
    return Refused(404, "MANIFEST_UNKNOWN", "manifest unknown", {"reference": reference})
