"""Writing files so that a crash leaves the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import Protocol

from dockhand_embedded.protocol.messages import CHUNK


class Hasher(Protocol):
    """What `hashlib` gives."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> Hasher: ...


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable: a rename alone can be lost when the power goes."""
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
    """Replace a file as a whole.

    Args:
        target: what to write.
        data: its new content.
        temporary: a path on the same file system that nobody else uses.
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
    """Give a file a second name, or copy it where the file system has no hard links.

    Raises:
        FileNotFoundError: the source is gone.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise
    except OSError:  # another file system, no hard links, or too many of them
        try:
            with source.open("rb") as old, temporary.open("xb") as new:
                shutil.copyfileobj(old, new, CHUNK)
                new.flush()
                os.fsync(new.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_folder(target.parent)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; `os.write` may take only some."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def hash_file(fd: int, algorithm: str) -> Hasher:
    """Hash an open file from its start, in constant memory."""
    hasher = hashlib.new(algorithm)
    position = 0
    while piece := os.pread(fd, CHUNK, position):
        hasher.update(piece)
        position += len(piece)
    return hasher
