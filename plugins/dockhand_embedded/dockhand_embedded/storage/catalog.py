"""The sorted list of repositories, which is not read from the disk at each request.

Other processes and tools may add repositories at any time, and only a walk through all folders
finds them. If a walk takes long, its result is used for a multiple of that time, so that requests
for the catalog never keep the disk busy. Changes by this process are seen at once.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable

# A walk that takes less than `_QUICK` seconds is repeated at each request. The result of a longer
# one is used for `_REUSE_FACTOR` times its duration.
_QUICK = 0.1
_REUSE_FACTOR = 10


class Catalog:
    """The names of the repositories that have manifests; safe to use from many threads."""

    def __init__(self, walk: Callable[[], Iterable[str]]) -> None:
        """Create a catalog; `walk` finds the names on the disk when they are needed."""
        self._walk = walk
        self._walk_lock = threading.Lock()
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._valid_until = 0.0
        self._changes: dict[str, bool] = {}  # since the last walk began

    def names(self) -> list[str]:
        """The names in ASCII order. The caller must not modify the list."""
        with self._walk_lock:  # others wait for the result of a walk that is in progress
            if time.monotonic() >= self._valid_until:
                self._read()
            return self._names

    def _read(self) -> None:
        started = time.monotonic()
        with self._lock:
            self._changes = {}
        names = sorted(self._walk())
        duration = time.monotonic() - started
        with self._lock:
            for name, listed in self._changes.items():
                _change(names, name, listed=listed)
            self._names = names
            if duration >= _QUICK:
                self._valid_until = time.monotonic() + _REUSE_FACTOR * duration

    def note(self, name: str, *, listed: bool) -> None:
        """Note that a repository got its first manifest, or lost its last one."""
        with self._lock:
            self._changes[name] = listed
            names = self._names.copy()  # a reader may use the old list
            _change(names, name, listed=listed)
            self._names = names


def _change(names: list[str], name: str, *, listed: bool) -> None:
    position = bisect_left(names, name)
    present = position < len(names) and names[position] == name
    if listed and not present:
        insort(names, name)
    elif present and not listed:
        del names[position]
