"""The manifest endpoints (pull, push and delete, by tag or digest), and the referrers endpoint.

Follows: OCI Distribution Specification 1.1, "Pulling manifests", "Pushing Manifests", "Listing
Referrers", "Content Management".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from dockhand_embedded.protocol.manifest_parser import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_REFERRER_ANNOTATIONS,
    OCI_INDEX,
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
from dockhand_embedded.protocol.names import (
    check_digest,
    check_name,
    check_reference,
    check_tag,
    is_digest,
)
from dockhand_embedded.protocol.pagination import next_link, page_reply, requested_page_size
from dockhand_embedded.protocol.relation_scanner import RelationScanner
from dockhand_embedded.storage.base import Storage
from dockhand_embedded.storage.index import RepositoryIndex, page_of
from dockhand_embedded.storage.relations import ManifestRelations, StoredManifest

# Limits of one page of referrers: their number, and the bytes of their manifests, which are read
# for the page. A descriptor repeats the annotations of its manifest, so this limits the reply, too;
# clients read at most 4 MiB of it (oras).
_MAX_REFERRERS = 1000
_MAX_REFERRERS_SIZE = 1024 * 1024
# The number of errors in one reply.
_MAX_ERRORS = 100
# The number of tags in a push by digest. Each tag is an entry of the index and an event.
_MAX_TAGS = 50


class ManifestHandlers:
    """The manifest and referrers endpoints for one storage."""

    def __init__(self, storage: Storage, limit: int) -> None:
        """Accept manifests of at most `limit` bytes."""
        self._storage = storage
        self._limit = limit
        self._scanner = RelationScanner(storage)

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

    def list(self, request: RegistryRequest, name: str) -> RegistryReply:
        """Answer GET with the digests of all manifests in the index, in ASCII order, in pages.

        Raises:
            RequestRejectedError: 404 NAME_UNKNOWN, if the repository does not exist.
        """
        check_name(name)
        index = self._storage.index(name)
        if index is None:
            raise RequestRejectedError(404, "NAME_UNKNOWN", "no such repository", {"name": name})
        digests = sorted(index.manifests)  # copied at once, as other threads change it
        return page_reply(
            request, "manifests", lambda last, size: page_of(digests, last, size), {"name": name}
        )

    def put(self, request: RegistryRequest, name: str, reference: str) -> ReplyGenerator:
        """Answer PUT: check the manifest, then store its exact bytes and its media type."""
        check_name(name)
        check_reference(reference)
        # A push by digest can set several tags: not yet in the specification 1.1, but in its main
        # branch.
        tags = [check_tag(value) for key, value in request.query if key == "tag"]
        if len(tags) > _MAX_TAGS:
            raise RequestRejectedError(
                414,
                "TAG_INVALID",
                f"a push can set at most {_MAX_TAGS} tags, and this one has {len(tags)}: push the "
                "manifest again with the remaining tags",
            )
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
        relations = ManifestRelations(parsed.subject, parsed.artifact_type, parsed.children)
        with self._storage.edit_index(name) as edit:
            self._check_blobs(name, parsed)
            self._storage.write_blob(name, digest, data)
            edit.put(StoredManifest(digest, media_type, len(data)), tags, relations)
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
        sizes = self._storage.blob_sizes(name, filter(is_digest, parsed.blobs))
        for digest in parsed.blobs:
            if digest in sizes:
                continue
            error = "MANIFEST_BLOB_UNKNOWN", "a blob of the manifest is not in the repository"
            if rejection and len(rejection.errors) >= _MAX_ERRORS:
                break
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
        with self._storage.edit_index(name) as edit:
            if self._find_manifest(name, digest, edit.index) is None:
                raise manifest_unknown(digest)
            tags = edit.delete_manifest(digest)
        self._delete_bytes(name, digest)
        deleted = [RegistryAction("delete", name, digest)]
        deleted += [RegistryAction("delete", name, tag=tag) for tag in tags]
        return empty_reply(202, actions=deleted)

    def _delete_bytes(self, name: str, digest: str) -> None:
        """Delete the bytes of a manifest that was removed from the index.

        The index is written first, so that a crash in between leaves only an unused blob. In the
        other order, it would leave an index that lists a missing manifest.
        """
        with self._storage.edit_index(name) as edit:
            if edit.manifest(digest) is None:  # else it was pushed again in the meantime
                self._storage.delete_blob(name, digest)
                edit.index.relations.remove(digest)

    def referrers(self, request: RegistryRequest, name: str, digest: str) -> RegistryReply:
        """Answer GET with the manifests whose subject has this digest, or with an empty list.

        A long list is returned in pages, with a `Link` header. The parameters `n` and `last` are
        those of the list of tags; the specification has only the `Link`.
        """
        check_name(name)
        check_digest(digest)
        wanted = request.param("artifactType") or None
        size = min(requested_page_size(request, _MAX_REFERRERS), _MAX_REFERRERS)
        index = self._storage.index(name)
        candidates = []
        if index is not None and size:
            last = request.param("last") or ""
            candidates = self._scanner.referrers(name, index, digest, last, wanted, size + 1)
        entries: list[dict[str, Any]] = []
        total, position = 0, 0
        for stored in candidates[:size]:
            total += stored.size
            if total > _MAX_REFERRERS_SIZE and position:
                break
            position += 1
            entry = self._referrer_entry(name, stored)
            if entry:
                entries.append(entry)
        headers = [("OCI-Filters-Applied", "artifactType")] if wanted else []
        if position < len(candidates):
            query = {"last": candidates[position - 1].digest, "n": str(size)}
            if wanted:
                query["artifactType"] = wanted
            headers.append(next_link(request, query))
        return json_reply(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries},
            media_type=OCI_INDEX,
            headers=headers,
        )

    def _referrer_entry(self, name: str, stored: StoredManifest) -> dict[str, Any] | None:
        read = self._scanner.read(name, stored)
        if read is None:
            return None
        parsed, size = read
        entry: dict[str, Any] = {
            "mediaType": stored.media_type,
            "digest": stored.digest,
            "size": size,
        }
        if parsed.artifact_type:
            entry["artifactType"] = parsed.artifact_type
        # Another tool may have stored larger annotations than a push can have.
        if parsed.annotations and len(json.dumps(parsed.annotations)) <= MAX_REFERRER_ANNOTATIONS:
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
        return self._scanner.find_unlisted(name, index, reference)
