"""Repositories in memory; they are lost when the process ends."""

from __future__ import annotations

import hashlib
import io
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, ClassVar

from dockhand_embedded.storage.base import (
    MOUNT_SEARCH_LIMIT,
    Storage,
    UploadBusyError,
    UploadMissingError,
    UploadWriter,
)
from dockhand_embedded.storage.index import IndexEdit, RepositoryIndex


@dataclass(slots=True)
class _Repository:
    index: RepositoryIndex = field(default_factory=RepositoryIndex)
    blobs: dict[str, bytes] = field(default_factory=dict)


class _MemoryUpload:
    def __init__(self, repository: str, algorithm: str) -> None:
        self.repository = repository
        self.algorithm = algorithm
        self.hasher = hashlib.new(algorithm)
        self.buffer = io.BytesIO()
        self.size = 0
        self.last_write = time.monotonic()
        self.lock = threading.Lock()


class MemoryStorage(Storage):
    """Repositories in dictionaries. Mounting a blob does not copy its bytes."""

    blocking: ClassVar[bool] = False

    def __init__(self) -> None:
        """Create a storage without repositories."""
        # One lock for all repositories is enough: no holder of the lock waits for a disk.
        self._lock = threading.RLock()
        self._repositories: dict[str, _Repository] = {}
        self._uploads: dict[str, _MemoryUpload] = {}

    def repositories(self) -> list[str]:
        """Names of the repositories that have manifests, in ASCII order."""
        with self._lock:
            return sorted(name for name, r in self._repositories.items() if r.index.manifests)

    def index(self, repository: str) -> RepositoryIndex | None:
        """The current index of a repository."""
        stored = self._repositories.get(repository)
        return stored.index if stored else None

    @contextmanager
    def edit_index(self, repository: str) -> Iterator[IndexEdit]:
        """Lock all repositories, and yield a change of an index, which is applied after the block.

        All repositories can be locked, since no holder of the lock waits for a disk.
        """
        with self._lock:
            edit = (self.index(repository) or RepositoryIndex()).edit()
            yield edit
            self._repository(repository).index = edit.index
            edit.apply()

    def _repository(self, name: str) -> _Repository:
        with self._lock:
            return self._repositories.setdefault(name, _Repository())

    def blob_size(self, repository: str, digest: str) -> int | None:
        """The size of a blob in bytes; None if the repository does not have the blob."""
        data = self._blob(repository, digest)
        return None if data is None else len(data)

    def blob_sizes(self, repository: str, digests: Iterable[str]) -> dict[str, int]:
        """The sizes in bytes of those blobs that the repository has."""
        stored = self._repositories.get(repository)
        blobs = stored.blobs if stored else {}
        found = ((digest, blobs.get(digest)) for digest in digests)
        return {digest: len(data) for digest, data in found if data is not None}

    def open_blob(self, repository: str, digest: str) -> BinaryIO | None:
        """Open a file object that shares the stored bytes."""
        data = self._blob(repository, digest)
        return None if data is None else io.BytesIO(data)

    def _blob(self, repository: str, digest: str) -> bytes | None:
        stored = self._repositories.get(repository)
        return stored.blobs.get(digest) if stored else None

    def write_blob(self, repository: str, digest: str, data: bytes) -> None:
        """Store a blob."""
        with self._lock:
            self._repository(repository).blobs[digest] = data

    def delete_blob(self, repository: str, digest: str) -> bool:
        """Remove a blob from one repository."""
        with self._lock:
            stored = self._repositories.get(repository)
            return stored is not None and stored.blobs.pop(digest, None) is not None

    def protect_blob(self, repository: str, digest: str) -> bool:
        """Return whether the repository has the blob; memory has no garbage collection."""
        return self._blob(repository, digest) is not None

    def mount_blob(
        self, repository: str, digest: str, source: str | None, may_read: Callable[[str], bool]
    ) -> bool:
        """Add a blob of another repository to `repository`; the repositories share its bytes."""
        with self._lock:
            if self._blob(repository, digest) is not None:
                return True
            for name in (
                list(self._repositories)[:MOUNT_SEARCH_LIMIT] if source is None else [source]
            ):
                data = self._blob(name, digest)
                if data is not None and may_read(name):
                    self.write_blob(repository, digest, data)
                    return True
            return False

    def start_upload(self, repository: str, algorithm: str) -> str:
        """Begin an upload, and return its id."""
        upload_id = str(uuid.uuid4())
        with self._lock:
            self._uploads[upload_id] = _MemoryUpload(repository, algorithm)
        return upload_id

    def _find_upload(self, repository: str, upload_id: str) -> _MemoryUpload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.repository != repository:
            raise UploadMissingError(upload_id)
        return upload

    def upload_size(self, repository: str, upload_id: str) -> int:
        """The number of bytes in an upload."""
        return self._find_upload(repository, upload_id).size

    def open_upload(self, repository: str, upload_id: str) -> UploadWriter:
        """Open an upload as its only writer."""
        upload = self._find_upload(repository, upload_id)
        if not upload.lock.acquire(blocking=False):
            raise UploadBusyError(upload_id)
        if self._uploads.get(upload_id) is not upload:  # finished after the look-up
            upload.lock.release()
            raise UploadMissingError(upload_id)
        return _MemoryUploadWriter(self, upload_id, upload)

    def upload_count(self) -> int:
        """The number of uploads in progress."""
        return len(self._uploads)

    def remove_stale_uploads(self, age: float) -> int:
        """Delete uploads that got no byte for `age` seconds and have no writer; return how many."""
        removed = 0
        with self._lock:
            cutoff = time.monotonic() - age
            for upload_id, upload in list(self._uploads.items()):
                if upload.last_write <= cutoff and upload.lock.acquire(blocking=False):
                    del self._uploads[upload_id]
                    upload.lock.release()
                    removed += 1
        return removed

    def _forget(self, upload_id: str) -> None:
        with self._lock:
            self._uploads.pop(upload_id, None)


class _MemoryUploadWriter(UploadWriter):
    def __init__(self, storage: MemoryStorage, upload_id: str, upload: _MemoryUpload) -> None:
        self._storage, self._id, self._upload = storage, upload_id, upload
        self.size = upload.size
        self._at_start = upload.size, upload.hasher.copy()
        self._open = True

    def append(self, data: bytes) -> None:
        self._upload.buffer.write(data)
        self._upload.hasher.update(data)
        self.size += len(data)
        self._upload.size = self.size
        self._upload.last_write = time.monotonic()

    def rollback(self) -> None:
        size, hasher = self._at_start
        self._upload.buffer.seek(size)
        self._upload.buffer.truncate()
        self._upload.hasher = hasher.copy()
        self._upload.size = self.size = size

    def finish(self, digest: str) -> bool:
        data = self._upload.buffer.getvalue()
        algorithm, _, encoded = digest.partition(":")
        hasher = self._upload.hasher
        if algorithm != self._upload.algorithm:
            hasher = hashlib.new(algorithm, data)
        matches = hasher.hexdigest() == encoded
        if matches:
            self._storage.write_blob(self._upload.repository, digest, data)
        self.discard()
        return matches

    def discard(self) -> None:
        self._storage._forget(self._id)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._upload.lock.release()
