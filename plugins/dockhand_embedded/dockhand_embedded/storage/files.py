"""Durable changes of files: after a crash, a file has either its old or its new content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import Protocol

from dockhand_core.models import Hasher
from dockhand_embedded.protocol.messages import PIECE_SIZE


class CopyableHasher(Hasher, Protocol):
    """A hash object that can be copied, such as those of `hashlib`."""

    def copy(self) -> CopyableHasher: ...


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that a power failure cannot undo new or changed file names in it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)


def write_file(target: Path, data: bytes, temporary: Path) -> None:
    """Replace a file atomically and durably.

    Args:
        target: the file.
        data: its new content.
        temporary: an unused path on the same file system.
    """
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def link_file(source: Path, target: Path, temporary: Path) -> None:
    """Add a hard link to a file, or copy the file if a hard link is not possible.

    Raises:
        FileNotFoundError: the source file does not exist any more.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise
    except OSError:  # hard links to `target` are not possible, or the file has too many links
        try:
            with source.open("rb") as old, temporary.open("xb") as new:
                shutil.copyfileobj(old, new, PIECE_SIZE)
                new.flush()
                os.fsync(new.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_folder(target.parent)


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes; `os.write` may write only some of them."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def hash_file(fd: int, algorithm: str) -> CopyableHasher:
    """Hash an open file from its start, in constant memory."""
    hasher = hashlib.new(algorithm)
    position = 0
    while piece := os.pread(fd, PIECE_SIZE, position):
        hasher.update(piece)
        position += len(piece)
    return hasher
