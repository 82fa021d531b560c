"""Garbage collection: removes blobs that no manifest names, while the registry is in use.

Deleting a manifest leaves its blobs, and so does a push that fails before its manifest. The blobs
of a push in progress look the same. Therefore:

- Each repository is collected under the lock that manifests are pushed under. Blobs stay that a
  manifest of the repository names, at any depth.
- A repository is skipped while an upload to it is in progress. It is also skipped while a blob in
  it is new, or was recently reported to a client as existing: both happened within the grace
  period. This detects a push in progress even if its first blobs are old.

Follows: OCI Image Specification 1.1, "OCI Image Layout", "OCI Image Index", "Descriptors".
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockhand_embedded.protocol.manifest_parser import INDEX_TYPES, MANIFEST_TYPES
from dockhand_embedded.protocol.names import ALGORITHMS, is_digest
from dockhand_embedded.storage.index import RepositoryIndex
from dockhand_embedded.storage.layout import LayoutStorage

GRACE = 3600.0
_ALL_MANIFEST_TYPES = MANIFEST_TYPES | INDEX_TYPES
# Larger blobs are not manifests; the limit for pushed manifests is much lower.
_READ_LIMIT = 32 * 1024 * 1024


@dataclass(slots=True)
class GarbageReport:
    """The result of a garbage collection, or of a dry run.

    Attributes:
        removed: repository and digest of each removed blob.
        freed_bytes: a blob that another repository has, too, frees none.
        in_use: repositories that were skipped because a push may be in progress.
        unreadable: repositories that were skipped because a manifest cannot be read, so that the
            blobs it names are not known.
    """

    removed: list[tuple[str, str]] = field(default_factory=list)
    freed_bytes: int = 0
    in_use: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


class _UnreadableManifestError(Exception):
    """A manifest exists but cannot be read."""


def collect_garbage(
    storage: LayoutStorage,
    *,
    grace: float = GRACE,
    dry_run: bool = False,
    now: float | None = None,
) -> GarbageReport:
    """Remove blobs that no manifest of their repository names.

    Args:
        storage: the registry's folder; servers may be running on it.
        grace: seconds; must be longer than any pause between two requests of a push. Below
            `layout.TOUCH_INTERVAL` it is safe only while nothing is being pushed.
        dry_run: report the blobs, but remove none.
        now: the time from which the grace period counts back, in seconds since 1970; by default
            the current time.
    """
    report = GarbageReport()
    removed_links: dict[tuple[int, int], int] = {}  # how many, by device and inode
    for repository in storage.walk_repositories():
        since = (time.time() if now is None else now) - grace
        try:
            with storage.lock_repository(repository) as folder:
                _collect_repository(
                    storage, repository, folder, since, dry_run, report, removed_links
                )
        except _UnreadableManifestError:
            report.unreadable.append(repository)
        except FileNotFoundError:  # removed in the meantime
            continue
    return report


def _collect_repository(
    storage: LayoutStorage,
    repository: str,
    folder: Path,
    since: float,
    dry_run: bool,
    report: GarbageReport,
    removed_links: dict[tuple[int, int], int],
) -> None:
    index = storage.load_index(repository)
    if index is None:
        return
    unused: list[tuple[str, Path, os.stat_result]] = []
    used = _used_digests(folder, index)
    for digest, path, status in _stored_blobs(folder):
        # A new manifest is the end of a push, not a sign of one in progress.
        if status.st_ctime > since and digest not in index.manifests:
            report.in_use.append(repository)
            return
        if digest not in used:
            unused.append((digest, path, status))
    if not unused:
        return
    if storage.has_upload(repository):
        report.in_use.append(repository)
        return
    for digest, path, status in unused:
        if not dry_run:
            path.unlink()
        report.removed.append((repository, digest))
        # The last link frees the space. `st_nlink` no longer counts removed links, except in a dry
        # run, which removes none.
        key = status.st_dev, status.st_ino
        removed_links[key] = removed_links.get(key, 0) + 1
        if status.st_nlink == (removed_links[key] if dry_run else 1):
            report.freed_bytes += status.st_size


def _stored_blobs(folder: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    for algorithm in ALGORITHMS:
        try:
            entries = list(os.scandir(folder / "blobs" / algorithm))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            digest = f"{algorithm}:{entry.name}"
            # Other files are left alone.
            if is_digest(digest) and entry.is_file(follow_symlinks=False):
                yield digest, Path(entry.path), entry.stat(follow_symlinks=False)


def _used_digests(folder: Path, index: RepositoryIndex) -> set[str]:
    """All digests that the index names, and those that its manifests name, at any depth."""
    used: set[str] = set()
    pending = [(stored.digest, stored.media_type) for stored in index.manifests.values()]
    seen: set[tuple[str, str | None]] = set(pending)
    while pending:
        digest, media_type = pending.pop()
        used.add(digest)
        for named in _digests_in(folder, digest, is_manifest=media_type in _ALL_MANIFEST_TYPES):
            if named not in seen:
                seen.add(named)
                used.add(named[0])
                if named[1] is not None:
                    pending.append((named[0], named[1]))
    return used


def _digests_in(folder: Path, digest: str, *, is_manifest: bool) -> list[tuple[str, str | None]]:
    """The digests in a manifest, each with a media type if it may be a manifest itself.

    Digests are found anywhere in the document, so that the blobs of unknown kinds of manifests
    stay.
    """
    algorithm, _, encoded = digest.partition(":")
    try:
        with (folder / "blobs" / algorithm / encoded).open("rb") as file:
            data = file.read(_READ_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return []  # an index may name manifests that are not here
    try:
        document = json.loads(data) if len(data) <= _READ_LIMIT else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        if is_manifest:
            raise _UnreadableManifestError(digest)
        return []
    found: list[tuple[str, str | None]] = []
    fields: list[tuple[str, Any]] = list(document.items())
    while fields:
        key, value = fields.pop()
        if isinstance(value, list):
            fields.extend((key, item) for item in value)
        elif isinstance(value, dict):
            if is_digest(str(value.get("digest"))):
                nested = key in {"manifests", "subject"}
                kind = str(value.get("mediaType") or "") if nested else None
                found.append((str(value["digest"]), kind))
            fields.extend(value.items())
    return found
