"""Repositories that live as long as the process does."""

from __future__ import annotations

import hashlib
import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, ClassVar

from dockhand_embedded.storage.base import Storage, Upload, UploadBusyError, UploadMissingError
from dockhand_embedded.storage.index import Index


@dataclass(slots=True)
class _Repository:
    index: Index = field(default_factory=Index)
    blobs: dict[str, bytes] = field(default_factory=dict)


class _Session:
    def __init__(self, repository: str, algorithm: str) -> None:
        self.repository = repository
        self.algorithm = algorithm
        self.hasher = hashlib.new(algorithm)
        self.buffer = io.BytesIO()
        self.size = 0
        self.touched = time.monotonic()
        self.lock = threading.Lock()


class MemoryStorage(Storage):
    """Everything in dictionaries; repositories that share a blob share its bytes."""

    blocking: ClassVar[bool] = False

    def __init__(self) -> None:
        """Begin without repositories."""
        # One lock is enough: nobody waits for a disk while holding it.
        self._lock = threading.RLock()
        self._repositories: dict[str, _Repository] = {}
        self._sessions: dict[str, _Session] = {}

    def repositories(self) -> list[str]:
        """Names of the repositories with manifests, in ASCII order."""
        with self._lock:
            return sorted(name for name, r in self._repositories.items() if r.index.manifests)

    def index(self, repository: str) -> Index | None:
        """The manifests of a repository as they are now."""
        held = self._repositories.get(repository)
        return held.index if held else None

    @contextmanager
    def changing(self, repository: str) -> Iterator[Index]:
        """A copy that replaces the index at the end."""
        with self._lock:
            index = (self.index(repository) or Index()).copy()
            yield index
            if index.changed:
                self._repository(repository).index = index

    def _repository(self, name: str) -> _Repository:
        with self._lock:
            return self._repositories.setdefault(name, _Repository())

    def blob_size(self, repository: str, digest: str) -> int | None:
        """The size in bytes."""
        data = self._blob(repository, digest)
        return None if data is None else len(data)

    def open_blob(self, repository: str, digest: str) -> BinaryIO | None:
        """A file object over the stored bytes, which it does not copy."""
        data = self._blob(repository, digest)
        return None if data is None else io.BytesIO(data)

    def _blob(self, repository: str, digest: str) -> bytes | None:
        held = self._repositories.get(repository)
        return held.blobs.get(digest) if held else None

    def write_blob(self, repository: str, digest: str, data: bytes) -> None:
        """Keep bytes."""
        with self._lock:
            self._repository(repository).blobs[digest] = data

    def delete_blob(self, repository: str, digest: str) -> bool:
        """Remove a blob from one repository."""
        with self._lock:
            held = self._repositories.get(repository)
            return held is not None and held.blobs.pop(digest, None) is not None

    def keep_blob(self, repository: str, digest: str) -> bool:
        """Nothing to do: nothing is collected here."""
        return self._blob(repository, digest) is not None

    def link_blob(
        self, repository: str, digest: str, source: str | None, readable: Callable[[str], bool]
    ) -> bool:
        """Share the bytes of another repository."""
        with self._lock:
            if self._blob(repository, digest) is not None:
                return True
            for name in list(self._repositories) if source is None else [source]:
                data = self._blob(name, digest)
                if data is not None and readable(name):
                    self.write_blob(repository, digest, data)
                    return True
            return False

    def start_upload(self, repository: str, algorithm: str) -> str:
        """Begin an upload."""
        upload_id = str(uuid.uuid4())
        with self._lock:
            self._sessions[upload_id] = _Session(repository, algorithm)
        return upload_id

    def _session(self, repository: str, upload_id: str) -> _Session:
        session = self._sessions.get(upload_id)
        if session is None or session.repository != repository:
            raise UploadMissingError(upload_id)
        return session

    def upload_size(self, repository: str, upload_id: str) -> int:
        """How many bytes an upload has."""
        return self._session(repository, upload_id).size

    def open_upload(self, repository: str, upload_id: str) -> Upload:
        """Open an upload as its only writer."""
        session = self._session(repository, upload_id)
        if not session.lock.acquire(blocking=False):
            raise UploadBusyError(upload_id)
        if self._sessions.get(upload_id) is not session:  # finished since it was looked up
            session.lock.release()
            raise UploadMissingError(upload_id)
        return _MemoryUpload(self, upload_id, session)

    def upload_count(self) -> int:
        """How many uploads are on their way."""
        return len(self._sessions)

    def sweep(self, age: float) -> int:
        """Forget uploads that nobody goes on with."""
        swept = 0
        with self._lock:
            before = time.monotonic() - age
            for upload_id, session in list(self._sessions.items()):
                if session.touched <= before and session.lock.acquire(blocking=False):
                    del self._sessions[upload_id]
                    session.lock.release()
                    swept += 1
        return swept

    def _forget(self, upload_id: str) -> None:
        with self._lock:
            self._sessions.pop(upload_id, None)


class _MemoryUpload(Upload):
    def __init__(self, storage: MemoryStorage, upload_id: str, session: _Session) -> None:
        self._storage, self._id, self._session = storage, upload_id, session
        self.size = session.size
        self._before = session.size, session.hasher.copy()
        self._open = True

    def append(self, data: bytes) -> None:
        self._session.buffer.write(data)
        self._session.hasher.update(data)
        self.size += len(data)
        self._session.size = self.size
        self._session.touched = time.monotonic()

    def rollback(self) -> None:
        size, hasher = self._before
        self._session.buffer.seek(size)
        self._session.buffer.truncate()
        self._session.hasher = hasher.copy()
        self._session.size = self.size = size

    def finish(self, digest: str) -> bool:
        data = self._session.buffer.getvalue()
        algorithm, _, encoded = digest.partition(":")
        hasher = self._session.hasher
        if algorithm != self._session.algorithm:
            hasher = hashlib.new(algorithm, data)
        right = hasher.hexdigest() == encoded
        if right:
            self._storage.write_blob(self._session.repository, digest, data)
        self.discard()
        return right

    def discard(self) -> None:
        self._storage._forget(self._id)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._session.lock.release()
