"""The manifest endpoints (pull, push and delete, by tag or digest), and the referrers endpoint.

Follows: OCI Distribution Specification 1.1, "Pulling manifests", "Pushing Manifests", "Listing
Referrers", "Content Management".
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from dockhand_embedded.protocol.manifest_parser import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    DescriptorRef,
    ParsedManifest,
    parse_manifest,
)
from dockhand_embedded.protocol.messages import (
    FileBody,
    RegistryAction,
    RegistryReply,
    RegistryRequest,
    ReplyGenerator,
    RequestRejectedError,
    empty_reply,
    json_reply,
    manifest_unknown,
    not_modified,
)
from dockhand_embedded.protocol.names import check_digest, check_name, check_reference, check_tag
from dockhand_embedded.storage.base import Storage
from dockhand_embedded.storage.index import RepositoryIndex, StoredManifest

_CACHE_SIZE = 8192  # entries
_MAX_CACHED_CHILDREN = 64
# Bytes. Other tools may put any file into a layout; a larger file is not read as a manifest.
_READ_LIMIT = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Relations:
    """The manifests that a manifest points to: its subject, and its children if it is an index."""

    subject: str | None
    children: tuple[DescriptorRef, ...]


class ManifestHandlers:
    """The manifest and referrers endpoints for one storage."""

    def __init__(self, storage: Storage, limit: int) -> None:
        """Accept manifests of at most `limit` bytes."""
        self._storage = storage
        self._limit = limit
        # A cache for all repositories. The keys are digest and media type, so entries never become
        # stale.
        self._relations: OrderedDict[tuple[str, str], _Relations] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, request: RegistryRequest, name: str, reference: str) -> RegistryReply:
        """Answer GET and HEAD with the stored manifest, regardless of `Accept`."""
        check_name(name)
        check_reference(reference)
        index = self._storage.index(name)
        stored = self._find_manifest(name, reference, index) if index else None
        size = self._storage.blob_size(name, stored.digest) if stored else None
        if stored is None or size is None:  # another tool's index may list missing manifests
            raise manifest_unknown(reference)
        headers = [("Docker-Content-Digest", stored.digest), ("ETag", f'"{stored.digest}"')]
        tag = "" if ":" in reference else reference
        pulled = [RegistryAction("pull", name, stored.digest, stored.media_type, size, tag)]
        if not_modified(request, stored.digest):
            return empty_reply(304, headers, pulled)
        headers += [("Content-Type", stored.media_type), ("Content-Length", str(size))]
        if request.method == "HEAD":
            return RegistryReply(200, headers, actions=pulled)
        file = self._storage.open_blob(name, stored.digest)
        if file is None:
            raise manifest_unknown(reference)
        return RegistryReply(200, headers, FileBody(file, 0, size), pulled)

    def put(self, request: RegistryRequest, name: str, reference: str) -> ReplyGenerator:
        """Answer PUT: check the manifest, then store its exact bytes and its media type."""
        check_name(name)
        check_reference(reference)
        # A push by digest can set several tags: not yet in the specification 1.1, but in its main
        # branch.
        tags = [check_tag(value) for key, value in request.query if key == "tag"]
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in MANIFEST_TYPES | INDEX_TYPES:
            raise RequestRejectedError(
                400,
                "MANIFEST_INVALID",
                "the Content-Type is not a media type of a manifest or an index",
                {"contentType": media_type[:200]},
            )
        data = yield from self._receive_body(request)
        if ":" in reference:
            algorithm = reference.partition(":")[0]
            digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
            if digest != reference:
                raise RequestRejectedError(
                    400, "DIGEST_INVALID", "the manifest has another digest", {"digest": digest}
                )
        else:
            digest, tags = f"sha256:{hashlib.sha256(data).hexdigest()}", [reference]
        parsed = parse_manifest(data, media_type)
        # The blobs are checked twice: before the lock, so that a failing push does not create a
        # repository; and under the lock, so that they still exist when the manifest is stored.
        self._check_blobs(name, parsed)
        with self._storage.edit_index(name) as index:
            self._check_blobs(name, parsed)
            self._storage.write_blob(name, digest, data)
            index.put(StoredManifest(digest, media_type, len(data)), tags)
        headers = [
            ("Location", f"/v2/{name}/manifests/{digest}"),
            ("Docker-Content-Digest", digest),
        ]
        if parsed.subject:
            headers.append(("OCI-Subject", parsed.subject))
        if ":" in reference:
            headers += [("OCI-Tag", tag) for tag in tags]
        pushed = RegistryAction("push", name, digest, media_type, len(data), manifest=data)
        return empty_reply(201, headers, [replace(pushed, tag=tag) for tag in tags or [""]])

    def _receive_body(self, request: RegistryRequest) -> Generator[None, bytes, bytes]:
        pieces, size = [], 0
        if (request.length or 0) > self._limit:
            raise self._too_large()
        while piece := (yield):
            size += len(piece)
            if size > self._limit:
                raise self._too_large()
            pieces.append(piece)
        return b"".join(pieces)

    def _too_large(self) -> RequestRejectedError:
        return RequestRejectedError(
            413, "SIZE_INVALID", f"the manifest is larger than the limit of {self._limit} bytes"
        )

    def _check_blobs(self, name: str, parsed: ParsedManifest) -> None:
        rejection = None
        for digest in parsed.blobs:
            if self._storage.blob_size(name, digest) is not None:
                continue
            error = "MANIFEST_BLOB_UNKNOWN", "a blob of the manifest is not in the repository"
            if rejection:
                rejection.add(*error, {"digest": digest})
            else:
                rejection = RequestRejectedError(400, *error, {"digest": digest})
        if rejection:
            raise rejection

    def delete(self, name: str, digest: str) -> RegistryReply:
        """Answer DELETE by digest: remove the manifest and all of its tags."""
        check_name(name)
        check_digest(digest)
        index = self._storage.index(name)
        if index is None or self._find_manifest(name, digest, index) is None:
            raise manifest_unknown(digest)
        with self._storage.edit_index(name) as index:
            if self._find_manifest(name, digest, index) is None:
                raise manifest_unknown(digest)
            tags = index.delete_manifest(digest)
        self._delete_bytes(name, digest)
        deleted = [RegistryAction("delete", name, digest)]
        deleted += [RegistryAction("delete", name, tag=tag) for tag in tags]
        return empty_reply(202, actions=deleted)

    def _delete_bytes(self, name: str, digest: str) -> None:
        """Delete the bytes of a manifest that was removed from the index.

        The index is written first, so that a crash in between leaves only an unused blob. In the
        other order, it would leave an index that lists a missing manifest.
        """
        with self._storage.edit_index(name) as index:
            if digest not in index.manifests:  # else it was pushed again in the meantime
                self._storage.delete_blob(name, digest)

    def referrers(self, request: RegistryRequest, name: str, digest: str) -> RegistryReply:
        """Answer GET with the manifests whose subject has this digest, or with an empty list."""
        check_name(name)
        check_digest(digest)
        wanted = request.param("artifactType")
        found = []
        index = self._storage.index(name)
        for stored in self._walk_manifests(name, index) if index else ():
            if self._relations_of(name, stored).subject != digest:
                continue
            entry = self._referrer_entry(name, stored)
            if entry and (not wanted or entry.get("artifactType") == wanted):
                found.append(entry)
        return json_reply(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found},
            media_type=OCI_INDEX,
            headers=[("OCI-Filters-Applied", "artifactType")] if wanted else (),
        )

    def _referrer_entry(self, name: str, stored: StoredManifest) -> dict[str, Any] | None:
        data = self._read_manifest(name, stored.digest)
        if data is None:
            return None
        parsed = parse_manifest(data, stored.media_type, strict=False)
        entry: dict[str, Any] = {
            "mediaType": stored.media_type,
            "digest": stored.digest,
            "size": len(data),
        }
        if parsed.artifact_type:
            entry["artifactType"] = parsed.artifact_type
        if parsed.annotations:
            entry["annotations"] = parsed.annotations
        return entry

    def _find_manifest(
        self, name: str, reference: str, index: RepositoryIndex
    ) -> StoredManifest | None:
        if ":" not in reference:
            return index.tagged(reference)
        stored = index.manifests.get(reference)
        if stored or self._storage.blob_size(name, reference) is None:
            return stored
        # In layouts of other tools, index.json may list only tagged manifests. The others are found
        # through the image indexes that list them.
        return next(
            (found for found in self._walk_manifests(name, index) if found.digest == reference),
            None,
        )

    def _walk_manifests(self, name: str, index: RepositoryIndex) -> Iterator[StoredManifest]:
        """Iterate over the manifests of a repository, including those that its indexes list."""
        seen = set(index.manifests)
        waiting = list(index.manifests.values())
        while waiting:
            stored = waiting.pop()
            yield stored
            for child in self._relations_of(name, stored).children:
                if child.digest in seen or child.media_type not in MANIFEST_TYPES | INDEX_TYPES:
                    continue
                seen.add(child.digest)
                size = self._stored_size(name, child.digest)
                if size is not None:
                    waiting.append(StoredManifest(child.digest, child.media_type, size))

    def _relations_of(self, name: str, stored: StoredManifest) -> _Relations:
        key = stored.digest, stored.media_type
        with self._lock:
            known = self._relations.get(key)
            if known:
                self._relations.move_to_end(key)
                return known
        data = self._read_manifest(name, stored.digest)
        if data is None:
            return _Relations(None, ())
        try:
            parsed = parse_manifest(data, stored.media_type, strict=False)
        except RequestRejectedError:  # another tool has stored a file that is not a manifest
            return _Relations(None, ())
        relations = _Relations(parsed.subject, parsed.children)
        # An index with thousands of children is not cached, since it would take too much memory.
        if len(relations.children) <= _MAX_CACHED_CHILDREN:
            with self._lock:
                self._relations[key] = relations
                while len(self._relations) > _CACHE_SIZE:
                    self._relations.popitem(last=False)
        return relations

    def _stored_size(self, name: str, digest: str) -> int | None:
        try:
            return self._storage.blob_size(name, check_digest(digest))
        except RequestRejectedError:  # the registry stores no blobs with this digest algorithm
            return None

    def _read_manifest(self, name: str, digest: str) -> bytes | None:
        file = self._storage.open_blob(name, digest)
        if file is None:
            return None
        with file:
            data = file.read(_READ_LIMIT)
        return data if len(data) < _READ_LIMIT else None
