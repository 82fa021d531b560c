"""The indexes of repositories in memory, which are read again if their files have changed."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from dockhand_embedded.storage.index import RepositoryIndex
from dockhand_embedded.storage.index_file import FileStamp, file_stamp

# Nanoseconds. Two changes of a file within one tick of the file system's clock may have the same
# modification time.
_CLOCK_TICK = 50_000_000
# Limits of the indexes in memory: their number, and the number of their manifests and tags.
_CACHED_INDEXES = 1024
_CACHED_ENTRIES = 200_000
_DIGEST_FIELD = re.compile(rb'"digest"\s*:\s*"sha(?:256|512):')


@dataclass(frozen=True, slots=True)
class _CachedIndex:
    """The content of an `index.json` when it was last read or written.

    Attributes:
        stamp: values that identify the file's content; None if a later change could have the same
            values, so that the bytes have to be compared.
        data_hash: a hash of the bytes of the file; empty if this process wrote the file.
        index: the parsed index.
        size: the number of its entries when it was read or written.
        version: the version of the index when it was read or written.
    """

    stamp: FileStamp | None
    data_hash: bytes
    index: RepositoryIndex
    size: int
    version: int


class IndexCache:
    """The parsed indexes of the repositories that were used last. Threads may share it."""

    def __init__(self) -> None:
        self._cache: OrderedDict[str, _CachedIndex] = OrderedDict()
        self._entries = 0
        # The stamps of the index files that this process is about to rename over others.
        self._upcoming: dict[str, FileStamp] = {}
        self._lock = threading.Lock()

    def load(self, repository: str, path: Path) -> tuple[RepositoryIndex | None, FileStamp | None]:
        """Return a repository's index and the stamp of its file, which is read if it has changed.

        Args:
            repository: the repository's name.
            path: the path of its `index.json`.

        Returns:
            the index, and the stamp; no index if the file does not exist, and no stamp if a later
            change of the file could have the same one.

        Raises:
            OSError: the file cannot be read, or is no index.
        """
        cached = self._cache.get(repository)
        if cached and cached.stamp:
            try:
                stamp = file_stamp(path.stat())
                # The file may be newer than the index while a push to this process is completed.
                if stamp in {cached.stamp, self._upcoming.get(repository)}:
                    return cached.index, cached.stamp
            except (FileNotFoundError, NotADirectoryError):
                pass
        return self._read(repository, path)

    def _read(self, repository: str, path: Path) -> tuple[RepositoryIndex | None, FileStamp | None]:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            self._keep(repository, None)
            return None, None
        data_hash = hashlib.blake2b(data).digest()
        cached = self._cache.get(repository)
        if (
            cached
            and cached.data_hash == data_hash
            and cached.version == cached.index.version  # else a push has just changed the index
        ):
            index, version = cached.index, cached.version
        else:
            try:
                index = RepositoryIndex.parse(data)
            except (ValueError, RecursionError) as error:
                raise OSError(f"index.json of {repository} cannot be read: {error}") from error
            version = index.version
            if cached:
                index.relations.adopt(cached.index.relations)
        settled = time.time_ns() - status.st_mtime_ns > _CLOCK_TICK
        stamp = file_stamp(status) if settled else None
        self._keep(repository, _CachedIndex(stamp, data_hash, index, len(index.entries), version))
        return index, stamp

    def _keep(self, repository: str, cached: _CachedIndex | None) -> None:
        """Keep an index in memory, and forget the ones that were not used for the longest time."""
        with self._lock:
            old = self._cache.pop(repository, None)
            self._entries -= old.size if old else 0
            if cached is None:
                return
            self._cache[repository] = cached
            self._entries += cached.size
            while len(self._cache) > 1 and (
                len(self._cache) > _CACHED_INDEXES or self._entries > _CACHED_ENTRIES
            ):
                self._entries -= self._cache.popitem(last=False)[1].size

    def lists_manifests(self, repository: str, path: Path) -> bool:
        """Whether an index lists a manifest; an index that is not in memory is not parsed.

        Parsing all indexes, and keeping them in memory, would take much longer.

        Args:
            repository: the repository's name.
            path: the path of its `index.json`.

        Raises:
            OSError: the file cannot be read.
        """
        cached = self._cache.get(repository)
        if cached and cached.stamp and cached.stamp == file_stamp(path.stat()):
            return bool(cached.index.manifests)
        return _DIGEST_FIELD.search(path.read_bytes()) is not None

    def announce(self, repository: str, stamp: FileStamp) -> None:
        """Note the stamp that the file of an index will have when a write is complete."""
        self._upcoming[repository] = stamp

    def written(self, repository: str, index: RepositoryIndex, stamp: FileStamp | None) -> None:
        """Keep an index that this process has written to its file."""
        self._keep(repository, _CachedIndex(stamp, b"", index, len(index.entries), index.version))

    def write_ended(self, repository: str) -> None:
        """Forget the stamp that was announced, after the write or its failure."""
        self._upcoming.pop(repository, None)
