"""The state of a file, by which a server notices that the file changed."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

__all__ = ["FileState"]

# A file system keeps times in ticks of its own, up to two seconds long (FAT).
_TICK = 2_000_000_000  # nanoseconds


class FileState(NamedTuple):
    """The inode, the times and the size of a file.

    Two writes in one tick of the file system's clock leave the same times, and possibly the same
    size. So if a file was written a moment ago, an equal state does not prove that it is unchanged:
    `is_settled` is false, and the reader reads the file again at its next check.

    Attributes:
        inode: the number of the inode; replacing a file by renaming another one changes it.
        modified: the time of the last write, in nanoseconds since 1970.
        changed: the time of the last change of the inode, in nanoseconds since 1970. Programs
            that preserve the time of the last write, such as `cp -p`, cannot preserve this one.
        size: the size in bytes.
        is_settled: whether a later write changes the state for certain.
    """

    inode: int
    modified: int
    changed: int
    size: int
    is_settled: bool

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        """The state in the result of `os.stat`, which was called just now, before reading."""
        latest = max(status.st_mtime_ns, status.st_ctime_ns)
        return cls(
            status.st_ino,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_size,
            latest + _TICK < time.time_ns(),
        )

    def shows_no_change_since(self, loaded: FileState | None) -> bool:
        """Whether the file is certainly the same as when the state `loaded` was taken."""
        return loaded is not None and loaded.is_settled and self[:4] == loaded[:4]
