"""The partial file of a download: opened safely, locked, hashed, and renamed when it is verified.

The folder may be shared with other users, so the file's name may stand for something else: a link
to a file of this user's, a FIFO, a device. Nothing of the kind is followed or written to.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from dockhand_core.errors import DownloadFileRefused
from dockhand_core.flow import BLOCK, Background, Progress
from dockhand_core.models import Digest, check_hash
from dockhand_core.text import printable

__all__ = ["PartialFile"]

_LONGEST_NAME = 255  # bytes
_WRITE_BEHIND = 8 << 20  # bytes; after so many, the system begins to write them to the disk
_ATTEMPTS = 10  # to open the file, if other downloads finish or delete it in between
# Some of these flags do not exist on Windows.
_FLAGS = os.O_RDWR | os.O_CREAT
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)


class PartialFile:
    """The partial file of a download, and the hash of the bytes in it.

    Its name is `<destination>.<first 16 hex digits of the digest>.part`; of a long name of the
    destination, only the beginning. Only its owner can read it; the destination gets the usual mode
    of a new file.

    Args:
        destination: the path that the file gets when it is verified.
        digest: the expected digest of the whole blob.

    Attributes:
        path: the path of the partial file.
        size: the size of the partial file, in bytes.
        inherited: the number of bytes in it that an earlier download, or an earlier reply, left.
    """

    def __init__(self, destination: Path, digest: Digest) -> None:
        self._destination = destination
        self.path = destination.parent / _partial_name(destination.name, digest)
        self._digest = digest
        self._hasher, self._background = digest.hasher(), Background()
        self._flushing = 0  # bytes that the system was told to write to the disk
        self._file: BinaryIO | None = None
        self._mode = 0o600
        self._made_anew = False
        self.size = self.inherited = 0

    def open(self) -> None:
        """Open or create the file, lock it, and hash the bytes that an earlier download left.

        Raises:
            DownloadFileRefused: the path is not a regular file of this user with one name; another
                download is writing to it; the destination is a folder, a device or a FIFO; its
                folder does not exist or cannot be written to; or the file cannot be opened.
        """
        try:
            _check_destination(self._destination)
            self._mode = _usual_mode(self.path.parent)
            descriptor = self._open_any()
        except DownloadFileRefused:
            raise
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise _refused(self._destination, f"it cannot be written: {reason}") from error
        # Unbuffered, so that `size` counts only bytes that the operating system has received.
        self._file = file = os.fdopen(descriptor, "r+b", buffering=0)
        while block := file.read(BLOCK):
            self._background.call(len(block), self._hasher.update, block)
            self.size += len(block)
        self.inherited = self._flushing = self.size

    def _open_any(self) -> int:
        for _ in range(_ATTEMPTS):
            descriptor = self._open_locked()
            if descriptor is not None:
                return descriptor
        raise _refused(self.path, "other downloads replace it again and again")

    def _open_locked(self) -> int | None:
        """Open and lock the file; None if another download renamed or deleted it meanwhile."""
        try:
            descriptor = os.open(self.path, _FLAGS, 0o600)
        except OSError:
            with suppress(FileNotFoundError):
                self._check(os.lstat(self.path))
            raise
        try:
            found = os.fstat(descriptor)
            self._check(found)
            if not _lock(descriptor):
                raise _refused(self.path, "another download is writing to it")
            if not self._names(found):
                os.close(descriptor)
                return None
            if found.st_mode & 0o022 and not self._made_anew:
                # Another user may have opened it, and could write to it after the check. If the new
                # file is the same, the file system has no modes.
                self._made_anew = True
                self.path.unlink()
                os.close(descriptor)
                return None
            if stat.S_IMODE(found.st_mode) != 0o600 and hasattr(os, "fchmod"):
                with suppress(OSError):  # some file systems have no modes
                    os.fchmod(descriptor, 0o600)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _check(self, found: os.stat_result) -> None:
        kind = None
        if stat.S_ISLNK(found.st_mode):
            kind = "a symbolic link"
        elif not stat.S_ISREG(found.st_mode):
            kind = "not a regular file"
        elif hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            kind = "a file of another user"
        elif found.st_nlink > 1:
            kind = "a file with a second name (a hard link)"
        if kind:
            raise _refused(
                self.path,
                f"the partial file of the download is {kind}, and is not written to; delete it, or "
                "download to another folder",
            )

    def _names(self, found: os.stat_result) -> bool:
        """Whether the path still names this file."""
        try:
            return os.path.samestat(os.lstat(self.path), found)
        except FileNotFoundError:
            return False

    def sink(self, progress: Progress | None, total: int | None) -> Callable[[bytes], None]:
        """Return a function that appends a block to the file and reports the progress."""
        file = self._opened()

        def write(block: bytes) -> None:
            rest = memoryview(block)
            while rest:  # on a full disk, a write may store only a part; the next write then raises
                rest = rest[file.write(rest) :]
            self._background.call(len(block), self._hasher.update, block)
            self.size += len(block)
            if self.size - self._flushing >= _WRITE_BEHIND:
                self._begin_flush(file.fileno())
            if progress is not None:
                progress(self.size, total)

        return write

    def _begin_flush(self, descriptor: int) -> None:
        """Let the system begin to write the new bytes, so that the flush at the end is short."""
        begin, self._flushing = self._flushing, self.size
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # advice only; some file systems do not take it
                # Linux starts to write the pages, and drops none that is still to be written.
                os.posix_fadvise(descriptor, begin, self.size - begin, os.POSIX_FADV_DONTNEED)

    def matches(self) -> bool:
        """Whether the file is complete: the digest of its bytes is the digest of the blob."""
        self._background.settle()
        return Digest.of_hash(self._digest.algorithm, self._hasher) == self._digest

    def restart(self) -> None:
        """Empty the file, and start a new hash."""
        file = self._opened()
        file.seek(0)
        file.truncate()
        self._background.settle()
        self._hasher = self._digest.hasher()
        self.size = self.inherited = self._flushing = 0

    def verify(self, repository: str) -> None:
        """Compare the digest of the file with the digest of the blob.

        Raises:
            DigestMismatch: they differ.
        """
        self._background.settle()
        check_hash(self._digest, self._hasher, f"repository {repository}: the blob")

    def finish(self) -> None:
        """Give the file the usual mode of a new file, and rename it to its destination.

        Raises:
            DownloadFileRefused: the path names another file by now, or the destination became a
                folder.
        """
        descriptor = self._opened().fileno()
        if hasattr(os, "fchmod"):
            with suppress(OSError):
                os.fchmod(descriptor, self._mode)
        os.fsync(descriptor)
        if not self._names(os.fstat(descriptor)):
            raise _refused(self.path, "another program replaced the partial file")
        try:
            self.path.replace(self._destination)
        except OSError as error:
            reason = error.strerror or str(error)
            raise _refused(
                self._destination, f"{self.path.name} cannot be renamed to it: {reason}"
            ) from error

    def discard(self) -> None:
        """Delete the file, unless the path names another file by now."""
        if self._names(os.fstat(self._opened().fileno())):
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, and delete it if it is empty."""
        self._background.settle()
        if self._file is not None:
            try:
                if not self.size:
                    self.discard()
            finally:
                self._file.close()

    def _opened(self) -> BinaryIO:
        assert self._file is not None
        return self._file


def _refused(path: Path, why: str) -> DownloadFileRefused:
    return DownloadFileRefused(printable(f"{path}: {why}"))


def _partial_name(name: str, digest: Digest) -> str:
    suffix = f".{digest.encoded[:16]}.part"
    encoded = os.fsencode(name)
    if len(encoded) + len(suffix) > _LONGEST_NAME:
        suffix = f".{Digest.of(encoded).encoded[:16]}{suffix}"
        encoded = encoded[: _LONGEST_NAME - len(suffix)]
    return os.fsdecode(encoded) + suffix


def _check_destination(path: Path) -> None:
    """Check that a file can be renamed to a path, before its bytes are requested."""
    if path.is_dir():
        raise _refused(path, "the destination is a folder; give the path of a file in it")
    folder = path.parent
    try:
        found = folder.stat()
    except FileNotFoundError as error:
        raise _refused(path, f"there is no folder {folder}; create it first") from error
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(path, f"{folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refused(path, f"the folder {folder} cannot be written to")
    try:
        old = os.lstat(path)
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(old.st_mode) or stat.S_ISLNK(old.st_mode)):
        # a rename would delete a device
        raise _refused(path, "the destination exists, and is not a regular file")
    if found.st_mode & stat.S_ISVTX and hasattr(os, "geteuid"):
        me = os.geteuid()
        if me not in (0, old.st_uid, found.st_uid):  # the sticky bit, as of /tmp
            raise _refused(path, "the destination is a file of another user")


def _usual_mode(folder: Path) -> int:
    """The mode that a new file gets in a folder. Only the kernel knows the umask safely."""
    probe = folder / f".dockhand-{secrets.token_hex(8)}"
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        probe.unlink()


def _lock(descriptor: int) -> bool:
    """Lock a file, and return False if another download has locked it.

    Where there is no `fcntl`, or the file system has no locks, the result is True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
    return True
