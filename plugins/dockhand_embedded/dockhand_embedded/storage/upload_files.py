"""Uploads in progress, as files: they survive a restart, and other processes can continue them.

The file's name consists of the upload's id and a hash of the repository's name. So an id is valid
in one repository only, and the repository need not be stored elsewhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import threading
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

from dockhand_embedded.storage.base import UploadBusyError, UploadMissingError, UploadWriter
from dockhand_embedded.storage.files import CopyableHasher, hash_file, write_all

_UPLOAD_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9a-f]{32}")
_TEMPORARY_PREFIX = "tmp-"
# Seconds. A running process renames or deletes its temporary files within seconds, so older files
# are from a process that was killed. If no other process uses the folder, this age does not matter:
# all temporary files in the folder are then from processes that ended.
_TEMPORARY_AGE = 3600.0
# Number of unfinished uploads whose hash is kept between requests. To finish another upload, its
# whole file is read again.
_MAX_SAVED_HASHES = 1024


class UploadFiles:
    """The uploads in progress and temporary files in one folder."""

    def __init__(self, folder: Path, store: Callable[[Path, str, str], None]) -> None:
        """Keep uploads in `folder`; `store(file, repository, digest)` moves the finished file."""
        self._folder = folder
        self._lock_folder()
        self.store = store
        self._lock = threading.Lock()
        self._hashes: OrderedDict[str, tuple[int, str, CopyableHasher]] = OrderedDict()

    def _path(self, repository: str, upload_id: str) -> Path:
        repository_hash = hashlib.sha256(repository.encode()).hexdigest()[:32]
        return self._folder / f"{upload_id}.{repository_hash}"

    def start(self, repository: str, algorithm: str) -> str:
        """Begin an upload, and return its id."""
        upload_id = str(uuid.uuid4())
        self._path(repository, upload_id).touch(exist_ok=False)
        self.save_hash(upload_id, 0, algorithm, hashlib.new(algorithm))
        return upload_id

    def size(self, repository: str, upload_id: str) -> int:
        """The number of bytes in an upload."""
        try:
            return self._path(repository, upload_id).stat().st_size
        except FileNotFoundError:
            raise UploadMissingError(upload_id) from None

    def open(self, repository: str, upload_id: str) -> FileUploadWriter:
        """Open an upload as its only writer."""
        path = self._path(repository, upload_id)
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise UploadMissingError(upload_id) from None
        try:
            # A flock belongs to the open file, so it excludes other threads, too.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous writer may have turned the file into a blob, which must not change.
            if not os.path.samestat(path.stat(), os.fstat(fd)):
                raise UploadMissingError(upload_id)
        except BlockingIOError:
            os.close(fd)
            raise UploadBusyError(upload_id) from None
        except FileNotFoundError:
            os.close(fd)
            raise UploadMissingError(upload_id) from None
        except BaseException:
            os.close(fd)
            raise
        return FileUploadWriter(self, repository, upload_id, path, fd)

    def temporary_path(self) -> Path:
        """A new path for a temporary file, which must be renamed or deleted soon."""
        return self._folder / f"{_TEMPORARY_PREFIX}{uuid.uuid4()}"

    def _lock_folder(self) -> None:
        """Delete leftover temporary files, and take a shared lock on the folder.

        The lock shows other processes that the folder is in use.
        """
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # A storage has no `close` method: the descriptor is closed when this object is deleted.
        weakref.finalize(self, os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._remove_temporary_files(_TEMPORARY_AGE)
        else:
            self._remove_temporary_files(0)
        fcntl.flock(fd, fcntl.LOCK_SH)

    def _remove_temporary_files(self, age: float) -> None:
        for path in self._folder.glob(f"{_TEMPORARY_PREFIX}*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime >= age:
                    path.unlink()

    def _uploads(self) -> Iterator[Path]:
        for path in self._folder.iterdir():
            if _UPLOAD_NAME.fullmatch(path.name):
                yield path

    def count(self) -> int:
        """The number of uploads in progress."""
        return sum(1 for _ in self._uploads())

    def has_upload_to(self, repository: str) -> bool:
        """Whether an upload to this repository is in progress."""
        repository_hash = self._path(repository, "").name
        return any(path.name.endswith(repository_hash) for path in self._uploads())

    def remove_stale(self, age: float) -> int:
        """Delete uploads that got no byte for `age` seconds and have no writer; return how many."""
        self._remove_temporary_files(_TEMPORARY_AGE)
        removed = 0
        for path in self._uploads():
            with contextlib.suppress(OSError):  # finished in the meantime, or has a writer
                if time.time() - path.stat().st_mtime < age:
                    continue
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if time.time() - os.fstat(fd).st_mtime >= age:
                        path.unlink()
                        removed += 1
                finally:
                    os.close(fd)
        return removed

    def save_hash(self, upload_id: str, size: int, algorithm: str, hasher: CopyableHasher) -> None:
        """Keep the hash of the first `size` bytes of an upload for its next request."""
        with self._lock:
            self._hashes[upload_id] = size, algorithm, hasher
            while len(self._hashes) > _MAX_SAVED_HASHES:
                self._hashes.popitem(last=False)

    def take_hash(self, upload_id: str) -> tuple[int, str, CopyableHasher] | None:
        """Return the hash that `save_hash` kept, and forget it; None if there is none."""
        with self._lock:
            return self._hashes.pop(upload_id, None)


class FileUploadWriter(UploadWriter):
    """The writer of an upload's file; it holds the lock on the file."""

    def __init__(
        self, files: UploadFiles, repository: str, upload_id: str, path: Path, fd: int
    ) -> None:
        """Take over the locked file."""
        self._files, self._repository, self._id = files, repository, upload_id
        self._path, self._fd = path, fd
        self.size = os.fstat(fd).st_size
        self._start = self.size
        self._algorithm = "sha256"
        self._hasher: CopyableHasher | None = None
        saved = files.take_hash(upload_id)
        # If the size differs, another process has added bytes, and the saved hash is useless.
        if saved and saved[0] == self.size:
            _, self._algorithm, self._hasher = saved
        self._start_hasher = self._hasher.copy() if self._hasher else None
        self._file_gone = False

    def append(self, data: bytes) -> None:
        """Append bytes to the upload."""
        write_all(self._fd, data)
        self.size += len(data)
        if self._hasher:
            self._hasher.update(data)

    def rollback(self) -> None:
        """Truncate the file to the size that it had when this writer opened it.

        This also removes part of a piece, which may have been written to a full disk.
        """
        os.ftruncate(self._fd, self._start)
        self.size = self._start
        self._hasher = self._start_hasher.copy() if self._start_hasher else None

    def finish(self, digest: str) -> bool:
        """Verify the digest, and turn the file into a blob; return False for another digest."""
        algorithm, _, encoded = digest.partition(":")
        hasher = self._hasher
        if hasher is None or algorithm != self._algorithm:
            hasher = hash_file(self._fd, algorithm)
        if hasher.hexdigest() != encoded:
            self.discard()
            return False
        os.fsync(self._fd)
        self._files.store(self._path, self._repository, digest)
        self._file_gone = True
        return True

    def discard(self) -> None:
        """Delete the upload and its bytes."""
        self._path.unlink(missing_ok=True)
        self._file_gone = True

    def close(self) -> None:
        """Release the lock, so that other writers can open the upload."""
        if self._fd < 0:
            return
        if not self._file_gone and self._hasher:
            self._files.save_hash(self._id, self.size, self._algorithm, self._hasher)
        os.close(self._fd)  # this also releases the lock
        self._fd = -1
