"""Durable, atomic changes of `index.json` that take the same time for any number of manifests.

A reader never sees a part of a change: `index.json` is replaced by renaming a complete file over
it, never written in place. To write the new file whole at each push would take longer the more
manifests a repository has. So a large index has two files that take turns. After a push, the
previous file is kept under a temporary name. The next push applies to it the few changes that it
lacks (descriptors appended at the end, removed ones overwritten with spaces), syncs it, and renames
it over `index.json`.

The kept file is changed only if no process has it open any more, as a reader that opened it while
it was `index.json`: the kernel grants a write lease on a file only then. Otherwise, and where there
are no leases or hard links, the current file is copied instead.

After a crash or a power failure, `index.json` is either the old or the new file, both complete and
synced. The kept file may be lost or half changed; it is never read again, since only the process
that wrote it knows its name.

Follows: OCI Image Specification 1.1, "OCI Image Layout", "index.json file".
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockhand_embedded.storage.files import sync_folder, write_all
from dockhand_embedded.storage.index import IndexEdit, RepositoryIndex

# Bytes. A smaller index is written whole, since it fits into two blocks of the disk.
PATCH_THRESHOLD = 8 * 1024
_COPY_PIECE = 1024 * 1024
_TAIL = b"\n]}"
_SEPARATOR = b",\n"

FileStamp = tuple[int, int, int]


def file_stamp(status: os.stat_result) -> FileStamp:
    """Values that change whenever a file is replaced or rewritten: inode, time and size."""
    return status.st_ino, status.st_mtime_ns, status.st_size


@dataclass(frozen=True, slots=True)
class _Patch:
    offset: int
    data: bytes


class _Layout:
    """The positions of the descriptors in the bytes of an `index.json`.

    The bytes of a descriptor begin with its separator, so that it can be removed by spaces. Only
    the first descriptor has no separator.
    """

    def __init__(self, index: RepositoryIndex, edit: IndexEdit) -> None:
        document = index.document(edit)
        unparsed = len(index.unparsed)
        entries = document.pop("manifests")
        keys = [key for key in index.entries if key not in edit.entries]
        keys += [key for key, entry in edit.entries.items() if entry is not None]
        head = json.dumps(document).encode().removesuffix(b"}")
        pieces = [head + (b", " if document else b"") + b'"manifests": [\n']
        self.positions: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self.size = len(pieces[0])
        self.empty = True
        for number, entry in enumerate(entries):
            piece = self._piece(entry)
            if number >= unparsed:
                self.positions[keys[number - unparsed]] = self.size, len(piece)
            pieces.append(piece)
            self.size += len(piece)
        # Entries that other tools wrote and that have no digest come first and are never removed.
        self.first_fixed = unparsed > 0
        self.removed = 0
        self.data = b"".join([*pieces, _TAIL])
        self.size += len(_TAIL)

    def _piece(self, entry: Any) -> bytes:
        piece = json.dumps(entry).encode()
        if not self.empty:
            piece = _SEPARATOR + piece
        self.empty = False
        return piece

    def patch(self, entries: Mapping[str, dict[str, Any] | None]) -> list[_Patch]:
        """The changes of the bytes for these new descriptors; None removes a descriptor."""
        patches: list[_Patch] = []
        for key in entries:
            if key in self.positions:
                patches += self._remove(key)
        end = self.size - len(_TAIL)
        pieces: list[bytes] = []
        for key, entry in entries.items():
            if entry is not None:
                piece = self._piece(entry)
                self.positions[key] = end, len(piece)
                pieces.append(piece)
                end += len(piece)
        if pieces:
            patches.append(_Patch(self.size - len(_TAIL), b"".join([*pieces, _TAIL])))
            self.size = end + len(_TAIL)
        return patches

    def _remove(self, key: str) -> list[_Patch]:
        is_first = not self.first_fixed and next(iter(self.positions)) == key
        offset, length = self.positions.pop(key)
        self.removed += length
        patches = [_Patch(offset, b" " * length)]
        if is_first and self.positions:
            # The next descriptor becomes the first one, so it loses its comma.
            following = next(iter(self.positions))
            start, size = self.positions[following]
            self.positions[following] = start + 1, size - 1
            self.positions.move_to_end(following, last=False)
            patches.append(_Patch(start, b" "))
        elif is_first:
            self.empty = True
        return patches


@dataclass(slots=True)
class _Written:
    """An `index.json` that this process wrote, and the kept previous file.

    Attributes:
        stamp: the stamp of the current file.
        layout: the layout of the current file.
        patches: the changes from the previous file to the current one.
        kept: the path of the previous file; None if it was not kept.
        kept_stamp: the stamp of the previous file.
    """

    stamp: FileStamp
    layout: _Layout
    patches: list[_Patch]
    kept: Path | None = None
    kept_stamp: FileStamp | None = None

    def drop(self) -> None:
        """Delete the kept file."""
        if self.kept is not None:
            with contextlib.suppress(OSError):
                self.kept.unlink()
            self.kept = None


class IndexFile:
    """The `index.json` of one repository, as one process writes it.

    The caller must have locked the repository.
    """

    def __init__(self, path: Path) -> None:
        """Create the writer of the file at `path`, which need not exist yet."""
        self._path = path
        self._written: _Written | None = None
        self._last_stamp: FileStamp | None = None

    def drop(self) -> None:
        """Delete the kept file; the next change writes the whole file."""
        written, self._written = self._written, None
        if written:
            written.drop()

    def write(
        self,
        index: RepositoryIndex,
        edit: IndexEdit,
        stamp: FileStamp | None,
        temporary: Path,
        kept: Path,
        announce: Callable[[FileStamp], None],
    ) -> FileStamp:
        """Store an edit durably.

        Args:
            index: the index, as the file contains it.
            edit: the change of the index, which is not applied yet.
            stamp: the stamp of the file from which `index` was parsed or to which it was written;
                None if it is not known, or if there is no file.
            temporary: an unused path on the same file system.
            kept: another unused path there, at which the previous file is kept.
            announce: called with the stamp of the new file before the file replaces the old one.

        Returns:
            the stamp of the new file.
        """
        written = self._written
        if written and (stamp is None or written.stamp != stamp):  # another process wrote the file
            self.drop()
            written = None
        self._written = None  # until the change is complete
        try:
            if written and written.layout.removed <= max(PATCH_THRESHOLD, written.layout.size // 2):
                try:
                    return self._write_patches(written, edit, temporary, kept, announce)
                except _ChangedElsewhereError:
                    stamp = None
            # If processes take turns in writing, a layout would seldom be of use.
            again = stamp is not None and stamp == self._last_stamp
            return self._write_whole(index, edit, temporary, announce, with_layout=again)
        except BaseException:
            for path in (temporary, kept):
                path.unlink(missing_ok=True)
            raise
        finally:
            if written and self._written is not written:
                written.drop()

    def _write_whole(
        self,
        index: RepositoryIndex,
        edit: IndexEdit,
        temporary: Path,
        announce: Callable[[FileStamp], None],
        *,
        with_layout: bool,
    ) -> FileStamp:
        layout = None
        # No `indent`, because with it `json` uses its slow encoder in pure Python.
        data = json.dumps(index.document(edit)).encode()
        if with_layout and len(data) >= PATCH_THRESHOLD:
            layout = _Layout(index, edit)
            data, layout.data = layout.data, b""
        fd = _create(temporary)
        try:
            stamp = _write_synced(fd, [_Patch(0, data)])
        finally:
            os.close(fd)
        announce(stamp)
        temporary.replace(self._path)
        sync_folder(self._path.parent)
        self._last_stamp = stamp
        if layout:
            self._written = _Written(stamp, layout, [])
        return stamp

    def _write_patches(
        self,
        written: _Written,
        edit: IndexEdit,
        temporary: Path,
        kept: Path,
        announce: Callable[[FileStamp], None],
    ) -> FileStamp:
        missing = written.patches
        patches = written.layout.patch(edit.entries)
        stamp = None
        # Taken out of `written`, since another thread may call `drop`.
        earlier, written.kept = written.kept, None
        if earlier is not None and written.kept_stamp is not None:
            # FileNotFoundError: `drop`, or a cleanup of old temporary files, has deleted it.
            with contextlib.suppress(FileNotFoundError):
                earlier.rename(temporary)
                stamp = _change_kept(temporary, written.kept_stamp, [*missing, *patches])
                if stamp is None:
                    temporary.unlink()
        if stamp is None:
            stamp = self._copy(temporary, written.stamp, patches)
        previous: Path | None = kept
        try:
            os.link(self._path, kept)
        except OSError:  # the file system has no hard links
            previous = None
        announce(stamp)
        temporary.replace(self._path)
        sync_folder(self._path.parent)
        self._written = _Written(stamp, written.layout, patches, previous, written.stamp)
        return stamp

    def _copy(self, temporary: Path, stamp: FileStamp, patches: Iterable[_Patch]) -> FileStamp:
        with self._path.open("rb") as source, open(_create(temporary), "wb") as target:
            shutil.copyfileobj(source, target, _COPY_PIECE)
            target.flush()
            # Other tools know no lock. In a file that they have changed since the index was read,
            # the patches would be at wrong places.
            if file_stamp(os.fstat(source.fileno())) != stamp:
                temporary.unlink()
                raise _ChangedElsewhereError
            return _write_synced(target.fileno(), patches)


class _ChangedElsewhereError(Exception):
    """Another tool has changed the file in the moment before it was copied."""


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)


def _write_synced(fd: int, patches: Iterable[_Patch]) -> FileStamp:
    """Change an open file, sync it, and return its stamp."""
    for patch in patches:
        os.lseek(fd, patch.offset, os.SEEK_SET)
        write_all(fd, patch.data)
    # A file system's clock has ticks of milliseconds, so that a change by another tool could get
    # the same time. This time is not at a tick, so the stamp of every other change differs.
    now = time.time_ns()
    os.utime(fd, ns=(now, now))
    os.fsync(fd)
    return file_stamp(os.fstat(fd))


def _change_kept(path: Path, stamp: FileStamp, patches: Iterable[_Patch]) -> FileStamp | None:
    """Change a kept file, and return its new stamp; None if it must not be changed.

    That is the case if it is open elsewhere, has another name, or does not have this stamp.
    """
    if sys.platform != "linux":
        return None
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        status = os.fstat(fd)
        if file_stamp(status) != stamp or status.st_nlink != 1:
            return None
        try:
            # A process that opens the file from now on waits until the lease ends. The kernel then
            # sends a signal here: SIGURG, which is ignored, instead of SIGIO, which would end the
            # process.
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:  # the file is open elsewhere, or the file system has no leases
            return None
        return _write_synced(fd, patches)
    finally:
        os.close(fd)  # this also ends the lease
