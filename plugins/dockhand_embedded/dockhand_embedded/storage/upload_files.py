"""Uploads on their way, as files: they survive a restart and other processes can carry them on.

The file's name holds the upload's id and a hash of the repository, so that an id is good in one
repository only and nothing else has to be kept beside the bytes.
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

from dockhand_embedded.storage.base import Upload, UploadBusyError, UploadMissingError
from dockhand_embedded.storage.files import Hasher, hash_file, write_all

_UPLOAD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9a-f]{32}")
# Seconds without a byte until an upload is forgotten.
UPLOAD_AGE = 24 * 3600.0
_TEMPORARY = "tmp-"
# Temporary files of a process that lives are gone in seconds. Those of one that was killed are
# known as such only where nobody else uses the folder; elsewhere their age tells.
_TEMPORARY_AGE = 3600.0
# Of so many uploads the hash so far is remembered; of others the file is read again at the end.
_REMEMBERED = 1024


class Sessions:
    """The uploads in one folder."""

    def __init__(self, folder: Path, place: Callable[[Path, str, str], None]) -> None:
        """Keep uploads in `folder`; `place(file, repository, digest)` takes a finished one over."""
        self._folder = folder
        self._lock_users()
        self.place = place
        self._lock = threading.Lock()
        self._hashes: OrderedDict[str, tuple[int, str, Hasher]] = OrderedDict()

    def _path(self, repository: str, upload_id: str) -> Path:
        owner = hashlib.sha256(repository.encode()).hexdigest()[:32]
        return self._folder / f"{upload_id}.{owner}"

    def start(self, repository: str, algorithm: str) -> str:
        """Begin an upload."""
        upload_id = str(uuid.uuid4())
        self._path(repository, upload_id).touch(exist_ok=False)
        self.remember(upload_id, 0, algorithm, hashlib.new(algorithm))
        return upload_id

    def size(self, repository: str, upload_id: str) -> int:
        """How many bytes an upload has."""
        try:
            return self._path(repository, upload_id).stat().st_size
        except FileNotFoundError:
            raise UploadMissingError(upload_id) from None

    def open(self, repository: str, upload_id: str) -> FileUpload:
        """Open an upload as its only writer."""
        path = self._path(repository, upload_id)
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise UploadMissingError(upload_id) from None
        try:
            # Each open file has a lock of its own, so this holds between threads, too.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held the lock may have made the file a blob, where no byte may be added.
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
        return FileUpload(self, repository, upload_id, path, fd)

    def temporary(self) -> Path:
        """A path for a file that is renamed in a moment."""
        return self._folder / f"{_TEMPORARY}{uuid.uuid4()}"

    def _lock_users(self) -> None:
        """Say that this folder is in use; who finds nobody else there clears it first."""
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # With the storage itself: a storage is never closed by whoever has it.
        weakref.finalize(self, os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._sweep_temporary(_TEMPORARY_AGE)
        else:
            self._sweep_temporary(0)
        fcntl.flock(fd, fcntl.LOCK_SH)

    def _sweep_temporary(self, age: float) -> None:
        for path in self._folder.glob(f"{_TEMPORARY}*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime >= age:
                    path.unlink()

    def _uploads(self) -> Iterator[Path]:
        for path in self._folder.iterdir():
            if _UPLOAD.fullmatch(path.name):
                yield path

    def count(self) -> int:
        """How many uploads are on their way."""
        return sum(1 for _ in self._uploads())

    def of(self, repository: str) -> bool:
        """Whether an upload to this repository is on its way."""
        owner = self._path(repository, "").name
        return any(path.name.endswith(owner) for path in self._uploads())

    def sweep(self, age: float) -> int:
        """Forget uploads that got no byte for `age` seconds and have no writer; how many."""
        self._sweep_temporary(_TEMPORARY_AGE)
        swept = 0
        for path in self._uploads():
            with contextlib.suppress(OSError):  # finished meanwhile, or being written to
                if time.time() - path.stat().st_mtime < age:
                    continue
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if time.time() - os.fstat(fd).st_mtime >= age:
                        path.unlink()
                        swept += 1
                finally:
                    os.close(fd)
        return swept

    def remember(self, upload_id: str, size: int, algorithm: str, hasher: Hasher) -> None:
        """Keep the hash of an upload's first `size` bytes for its next request."""
        with self._lock:
            self._hashes[upload_id] = size, algorithm, hasher
            while len(self._hashes) > _REMEMBERED:
                self._hashes.popitem(last=False)

    def recall(self, upload_id: str) -> tuple[int, str, Hasher] | None:
        """What `remember` kept, once: an upload has one writer."""
        with self._lock:
            return self._hashes.pop(upload_id, None)


class FileUpload(Upload):
    """An upload whose file this writer has locked."""

    def __init__(
        self, sessions: Sessions, repository: str, upload_id: str, path: Path, fd: int
    ) -> None:
        """Take over the locked file."""
        self._sessions, self._repository, self._id = sessions, repository, upload_id
        self._path, self._fd = path, fd
        self.size = os.fstat(fd).st_size
        self._start = self.size
        self._algorithm = "sha256"
        self._hasher: Hasher | None = None
        known = sessions.recall(upload_id)
        # Another process may have added bytes; then what is remembered is of no use.
        if known and known[0] == self.size:
            _, self._algorithm, self._hasher = known
        self._start_hasher = self._hasher.copy() if self._hasher else None
        self._gone = False

    def append(self, data: bytes) -> None:
        """Add bytes at the end."""
        write_all(self._fd, data)
        self.size += len(data)
        if self._hasher:
            self._hasher.update(data)

    def rollback(self) -> None:
        """Cut off what this writer added, counted or not (a full disk takes half a piece)."""
        os.ftruncate(self._fd, self._start)
        self.size = self._start
        self._hasher = self._start_hasher.copy() if self._start_hasher else None

    def finish(self, digest: str) -> bool:
        """Verify, and make the file a blob."""
        algorithm, _, encoded = digest.partition(":")
        hasher = self._hasher
        if hasher is None or algorithm != self._algorithm:
            hasher = hash_file(self._fd, algorithm)
        if hasher.hexdigest() != encoded:
            self.discard()
            return False
        os.fsync(self._fd)
        self._sessions.place(self._path, self._repository, digest)
        self._gone = True
        return True

    def discard(self) -> None:
        """Forget the upload and its bytes."""
        self._path.unlink(missing_ok=True)
        self._gone = True

    def close(self) -> None:
        """Let other writers in."""
        if self._fd < 0:
            return
        if not self._gone and self._hasher:
            self._sessions.remember(self._id, self.size, self._algorithm, self._hasher)
        os.close(self._fd)  # this also gives the lock back
        self._fd = -1
