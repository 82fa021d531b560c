"""Collection of blobs that no manifest names, while the registry is in use.

A manifest can be deleted by itself, and a push can break off before its manifest: both leave
blobs that only cost room. What a push under way needs looks just the same, so

- each repository is worked on under the lock that manifests are pushed under, and what a manifest
  of the repository names, however deep, stays;
- a repository that an upload is on its way to is left alone, and so is one with a blob that came,
  or that a client was told of, within the grace: a push that is not over yet shows itself so, even
  if its first blobs are old.

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
from dockhand_embedded.storage.index import Index
from dockhand_embedded.storage.layout import LayoutStorage

GRACE = 3600.0
_KNOWN = MANIFEST_TYPES | INDEX_TYPES
# Larger blobs are no manifests; what is pushed here is limited to much less.
_READ_LIMIT = 32 * 1024 * 1024


@dataclass(slots=True)
class Collected:
    """What a collection did, or would do.

    Attributes:
        blobs: repository and digest of each blob that was removed.
        freed: bytes. A blob that another repository has, too, frees none.
        busy: repositories that are being pushed to, and were left alone.
        unclear: repositories that were left alone since a manifest cannot be read: what it names
            is not known.
    """

    blobs: list[tuple[str, str]] = field(default_factory=list)
    freed: int = 0
    busy: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


class _Unclear(Exception):
    """A manifest is there and cannot be read."""


def collect(
    storage: LayoutStorage,
    *,
    grace: float = GRACE,
    dry_run: bool = False,
    now: float | None = None,
) -> Collected:
    """Remove blobs that no manifest of their repository names.

    Args:
        storage: the registry's folder; servers may be running on it.
        grace: seconds; longer than any pause between two requests of a push. Below
            `layout.FRESH` it is safe only while nothing is being pushed.
        dry_run: only say what would be removed.
        now: a time to count the grace from, in seconds since 1970.
    """
    result = Collected()
    names: dict[tuple[int, int], int] = {}  # how often a file was removed, by device and inode
    for repository in storage.every_repository():
        since = (time.time() if now is None else now) - grace
        try:
            with storage.locked(repository) as folder:
                _collect(storage, repository, folder, since, dry_run, result, names)
        except _Unclear:
            result.unclear.append(repository)
        except FileNotFoundError:  # removed meanwhile
            continue
    return result


def _collect(
    storage: LayoutStorage,
    repository: str,
    folder: Path,
    since: float,
    dry_run: bool,
    result: Collected,
    names: dict[tuple[int, int], int],
) -> None:
    index = storage.fresh_index(repository)
    if index is None:
        return
    unused: list[tuple[str, Path, os.stat_result]] = []
    used = _used(folder, index)
    for digest, path, status in _blobs(folder):
        # A manifest is the end of a push, not a sign of one under way.
        if status.st_ctime > since and digest not in index.manifests:
            result.busy.append(repository)
            return
        if digest not in used:
            unused.append((digest, path, status))
    if not unused:
        return
    if storage.uploading(repository):
        result.busy.append(repository)
        return
    for digest, path, status in unused:
        if not dry_run:
            path.unlink()
        result.blobs.append((repository, digest))
        # Its room is free with the last of its names. Removed names are gone from the count that
        # the file system gives, except in a dry run.
        key = status.st_dev, status.st_ino
        names[key] = names.get(key, 0) + 1
        if status.st_nlink == (names[key] if dry_run else 1):
            result.freed += status.st_size


def _blobs(folder: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    for algorithm in ALGORITHMS:
        try:
            entries = list(os.scandir(folder / "blobs" / algorithm))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            digest = f"{algorithm}:{entry.name}"
            # Whatever else lies there is not ours to judge.
            if is_digest(digest) and entry.is_file(follow_symlinks=False):
                yield digest, Path(entry.path), entry.stat(follow_symlinks=False)


def _used(folder: Path, index: Index) -> set[str]:
    """Every digest that is named by the index, or by what it names."""
    used: set[str] = set()
    waiting = [(stored.digest, stored.media_type) for stored in index.manifests.values()]
    seen: set[tuple[str, str | None]] = set(waiting)
    while waiting:
        digest, media_type = waiting.pop()
        used.add(digest)
        for named in _named(folder, digest, known=media_type in _KNOWN):
            if named not in seen:
                seen.add(named)
                used.add(named[0])
                if named[1] is not None:
                    waiting.append((named[0], named[1]))
    return used


def _named(folder: Path, digest: str, *, known: bool) -> list[tuple[str, str | None]]:
    """The digests in a manifest, with the media types of those that may be manifests themselves.

    Wherever in the document they are: what a kind of manifest means that is not known here, its
    blobs stay.
    """
    algorithm, _, encoded = digest.partition(":")
    try:
        with (folder / "blobs" / algorithm / encoded).open("rb") as file:
            data = file.read(_READ_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return []  # an index may name what is not here
    try:
        document = json.loads(data) if len(data) <= _READ_LIMIT else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        if known:
            raise _Unclear(digest)
        return []
    found: list[tuple[str, str | None]] = []
    places: list[tuple[str, Any]] = list(document.items())
    while places:
        key, value = places.pop()
        if isinstance(value, list):
            places.extend((key, item) for item in value)
        elif isinstance(value, dict):
            if is_digest(str(value.get("digest"))):
                nested = key in {"manifests", "subject"}
                kind = str(value.get("mediaType") or "") if nested else None
                found.append((str(value["digest"]), kind))
            places.extend(value.items())
    return found
