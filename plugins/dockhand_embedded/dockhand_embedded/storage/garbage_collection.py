"""Garbage collection: removes blobs that no manifest names, while the registry is in use.

Such blobs are left when a manifest is deleted, and when a push fails before its manifest is stored.
But a push in progress also has blobs that no manifest names yet. Therefore:

- A repository is locked while it is collected, so that no manifest can be pushed to it. Blobs that
  a manifest of the repository names are kept, also if the manifest is nested below an index.
- A repository is skipped while an upload to it is in progress. It is also skipped if, within the
  grace period, a blob was stored in it, or a client asked for a blob that it has. A push asks
  for each blob first, so a push in progress is detected even if its first blobs are old.

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
from dockhand_embedded.storage import GRACE
from dockhand_embedded.storage.index import RepositoryIndex
from dockhand_embedded.storage.layout import LayoutStorage

_ALL_MANIFEST_TYPES = MANIFEST_TYPES | INDEX_TYPES
# Bytes. Larger blobs are not manifests: the limit for pushed manifests is much lower.
_READ_LIMIT = 32 * 1024 * 1024


@dataclass(slots=True)
class GarbageReport:
    """The result of a garbage collection, or of a dry run.

    Attributes:
        removed: the repository and digest of each removed blob.
        freed_bytes: the freed disk space in bytes. Removing a blob from one repository frees no
            space while another repository has the blob, too.
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
        grace: the grace period in seconds. A repository is skipped if a blob was stored or found in
            it within this period before `now`. The period must be longer than any pause between two
            requests of a push. A period below `layout.TOUCH_INTERVAL` is safe only while nothing is
            pushed.
        dry_run: report the blobs, but remove none.
        now: the time at which the grace period ends, in seconds since 1970; by default the current
            time.
    """
    report = GarbageReport()
    removed_links: dict[tuple[int, int], int] = {}  # number of removed links, by device and inode
    for repository in storage.walk_repositories():
        since = (time.time() if now is None else now) - grace
        try:
            with storage.lock_repository(repository) as folder:
                _collect_repository(
                    storage, repository, folder, since, dry_run, report, removed_links
                )
        except _UnreadableManifestError:
            report.unreadable.append(repository)
        except FileNotFoundError:  # the repository was removed in the meantime
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
    index = storage.index(repository)
    if index is None:
        return
    unused: list[tuple[str, Path, os.stat_result]] = []
    used = _used_digests(folder, index)
    for digest, path, status in _stored_blobs(folder):
        # A new manifest is the end of a push, not a sign of a push in progress.
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
        # Only the removal of a file's last link frees space. In a dry run no link is removed, so
        # `st_nlink` still counts the links that were reported as removed.
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
            # Files that are not named by a digest are not blobs, and are kept.
            if is_digest(digest) and entry.is_file(follow_symlinks=False):
                yield digest, Path(entry.path), entry.stat(follow_symlinks=False)


def _used_digests(folder: Path, index: RepositoryIndex) -> set[str]:
    """All digests that the index names, directly or through manifests at any depth."""
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

    The whole document is searched for digests, so that the blobs of unknown kinds of manifests are
    kept, too.
    """
    algorithm, _, encoded = digest.partition(":")
    try:
        with (folder / "blobs" / algorithm / encoded).open("rb") as file:
            data = file.read(_READ_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return []  # an index may name manifests that the repository does not have
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
