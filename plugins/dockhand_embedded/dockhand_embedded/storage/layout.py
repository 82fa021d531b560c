"""Repositories in a folder: one OCI Image Layout each, which other tools can read and write.

    <root>/library/nginx/oci-layout
    <root>/library/nginx/index.json
    <root>/library/nginx/blobs/sha256/<hex>
    <root>/.uploads/                          uploads in progress, temporary files

Repositories nest: `a` and `a/b` may both exist, and `blobs`, `index.json` and `oci-layout` are
legal components of a repository name. Such a component gets a leading underscore in the file system
(`a/blobs` is kept in `a/_blobs`). No legal component begins with an underscore or a dot, so two
names never share a folder, and a repository never collides with the files of a layout.

A blob that several repositories have is one file with a hard link in each of their folders. So each
folder is a complete layout that can be moved or archived alone, and blobs are deleted without a
count of their references.

Follows: OCI Image Specification 1.1, "OCI Image Layout".
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO, ClassVar

from dockhand_embedded.protocol.names import is_name
from dockhand_embedded.storage import UPLOAD_AGE
from dockhand_embedded.storage.base import (
    MOUNT_SEARCH_LIMIT,
    OutsideRootError,
    Storage,
    UploadWriter,
)
from dockhand_embedded.storage.catalog import Catalog
from dockhand_embedded.storage.files import link_file, make_folder, sync_folder, write_file
from dockhand_embedded.storage.index import IndexEdit, RepositoryIndex, page_of
from dockhand_embedded.storage.index_cache import IndexCache
from dockhand_embedded.storage.index_file import FileStamp, IndexFile
from dockhand_embedded.storage.upload_files import UploadFiles

_LAYOUT_NAMES = frozenset({"blobs", "index.json", "oci-layout"})
_LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
_LOCK_COUNT = 64
# Seconds. `protect_blob` renews the change time of a blob only if the time is older.
TOUCH_INTERVAL = 600
# Number of repositories whose previous index file is kept (`index_file.IndexFile`).
_KEPT_INDEX_FILES = 64


class LayoutStorage(Storage):
    """Repositories below a root folder, which several processes may use at once."""

    blocking: ClassVar[bool] = True

    def __init__(self, root: str | os.PathLike[str], upload_age: float = UPLOAD_AGE) -> None:
        """Open a folder, and delete files that killed processes have left in it.

        Args:
            root: the folder; created if it does not exist.
            upload_age: delete uploads that got no byte for this many seconds.
        """
        uploads = Path(root).absolute() / ".uploads"
        make_folder(uploads)
        self.root = uploads.parent.resolve()
        self._upload_files = UploadFiles(self.root / ".uploads", self._store_upload)
        self._upload_files.remove_stale(upload_age)
        self._indexes = IndexCache()
        self._catalog = Catalog(self._repositories_with_manifests)
        self._index_files: OrderedDict[str, IndexFile] = OrderedDict()
        self._index_files_lock = threading.Lock()
        # Locks between threads, in addition to flock: a network file system may turn flock into a
        # lock of the whole process. The number of locks is fixed, since clients can invent any
        # number of repository names.
        self._locks = [threading.Lock() for _ in range(_LOCK_COUNT)]

    # Paths

    def folder(self, repository: str) -> Path:
        """The folder of a repository.

        Raises:
            OutsideRootError: a symbolic link in the path leads out of the root.
        """
        return self._check_inside(self._repository_path(repository))

    def _repository_path(self, repository: str) -> Path:
        parts = (f"_{part}" if part in _LAYOUT_NAMES else part for part in repository.split("/"))
        return self.root.joinpath(*parts)

    def _check_inside(self, path: Path) -> Path:
        real = os.path.realpath(path)
        if real != str(self.root) and not real.startswith(f"{self.root}{os.sep}"):
            raise OutsideRootError(f"{path.relative_to(self.root)} leads out of the root")
        return path

    def _blob_path(self, repository: str, digest: str) -> Path:
        algorithm, _, encoded = digest.partition(":")
        return self._check_inside(self._repository_path(repository) / "blobs" / algorithm) / encoded

    # Repositories

    def walk_repositories(self) -> Iterator[str]:
        """Iterate over the names of all repositories, including those without manifests."""
        return (name for name, _ in self._walk())

    def _walk(self) -> Iterator[tuple[str, Path]]:
        waiting: list[tuple[Path, str]] = [(self.root, "")]
        while waiting:
            folder, name = waiting.pop()
            try:
                found = list(os.scandir(folder))
            except OSError:  # the folder was removed in the meantime, or is not readable
                continue
            if name and any(entry.name == "index.json" and entry.is_file() for entry in found):
                yield name, folder
            for entry in found:
                if entry.name in _LAYOUT_NAMES or not entry.is_dir(follow_symlinks=False):
                    continue
                part = entry.name[1:] if entry.name[1:] in _LAYOUT_NAMES else entry.name
                child = f"{name}/{part}" if name else part
                if is_name(child):
                    waiting.append((Path(entry.path), child))

    def repositories(self) -> list[str]:
        """Names of the repositories that have manifests, in ASCII order."""
        return list(self._catalog.names())

    def repository_page(self, last: str | None, size: int | None) -> tuple[list[str], bool]:
        """A part of `repositories`."""
        return page_of(self._catalog.names(), last, size)

    def _repositories_with_manifests(self) -> Iterator[str]:
        for name, folder in self._walk():
            try:
                has_manifests = self._indexes.lists_manifests(name, folder / "index.json")
            except OSError:  # removed in the meantime, or not readable
                continue
            if has_manifests:
                yield name

    def index(self, repository: str) -> RepositoryIndex | None:
        """The index of a repository, which is read again if the file has changed."""
        return self._indexes.load(repository, self.folder(repository) / "index.json")[0]

    @contextmanager
    def lock_repository(self, repository: str) -> Iterator[Path]:
        """Lock a repository against other threads and processes, and yield its folder.

        Raises:
            FileNotFoundError: the repository does not exist.
        """
        folder = self.folder(repository)
        with self._locks[hash(repository) % _LOCK_COUNT]:
            # The folder is locked, not index.json: each change replaces that file, so a lock on it
            # would be lost.
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield folder
            finally:
                os.close(fd)

    @contextmanager
    def edit_index(self, repository: str) -> Iterator[IndexEdit]:
        """Lock a repository, and yield a change of its index, which is then stored durably."""
        make_folder(self.folder(repository))
        with self.lock_repository(repository) as folder:
            path = folder / "index.json"
            index, stamp = self._indexes.load(repository, path)
            missing = index is None
            index = index or RepositoryIndex()
            edit = index.edit()
            yield edit
            if not (folder / "oci-layout").exists():
                write_file(folder / "oci-layout", _LAYOUT_FILE, self._upload_files.temporary_path())
            if edit.changed or missing:
                self._write_index(repository, path, edit, stamp)
            else:
                edit.apply()

    def _write_index(
        self, repository: str, path: Path, edit: IndexEdit, stamp: FileStamp | None
    ) -> None:
        index = edit.index

        def announce(new_stamp: FileStamp) -> None:
            self._indexes.announce(repository, new_stamp)

        try:
            new_stamp = self._index_file(repository, path).write(
                index,
                edit,
                stamp,
                self._upload_files.temporary_path(),
                self._upload_files.temporary_path(),
                announce,
            )
            was_listed = bool(index.manifests)
            edit.apply()
            self._indexes.written(repository, index, new_stamp)
        finally:
            self._indexes.write_ended(repository)
        if bool(index.manifests) != was_listed:
            self._catalog.note(repository, listed=not was_listed)

    def _index_file(self, repository: str, path: Path) -> IndexFile:
        with self._index_files_lock:
            file = self._index_files.pop(repository, None) or IndexFile(path)
            self._index_files[repository] = file
            oldest = None
            if len(self._index_files) > _KEPT_INDEX_FILES:
                oldest = self._index_files.popitem(last=False)[1]
        if oldest:
            oldest.drop()
        return file

    # Blobs

    def blob_size(self, repository: str, digest: str) -> int | None:
        """The size of a blob in bytes; None if the repository does not have the blob."""
        try:
            status = self._blob_path(repository, digest).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def blob_sizes(self, repository: str, digests: Iterable[str]) -> dict[str, int]:
        """The sizes in bytes of those blobs that the repository has."""
        sizes: dict[str, int] = {}
        folders: dict[str, str] = {}  # the symbolic links in a path are checked only once
        for digest in digests:
            algorithm, _, encoded = digest.partition(":")
            if algorithm not in folders:
                folders[algorithm] = str(self._blob_path(repository, digest).parent)
            try:
                status = os.lstat(f"{folders[algorithm]}/{encoded}")
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.S_ISREG(status.st_mode):
                sizes[digest] = status.st_size
        return sizes

    def open_blob(self, repository: str, digest: str) -> BinaryIO | None:
        """Open a blob's file; symbolic links and special files are not opened."""
        path = self._blob_path(repository, digest)
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                return None
            # Opened by path, so that the file object has a name, which `FileBody.path` needs.
            return FileIO(path, opener=_open_file)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write_blob(self, repository: str, digest: str, data: bytes) -> None:
        """Store a blob durably."""
        target = self._blob_path(repository, digest)
        make_folder(target.parent)
        write_file(target, data, self._upload_files.temporary_path())

    def delete_blob(self, repository: str, digest: str) -> bool:
        """Remove a blob from one repository; other repositories have their own links to it."""
        try:
            self._blob_path(repository, digest).unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def protect_blob(self, repository: str, digest: str) -> bool:
        """Renew the change time of a blob, and with it the grace period of `collect_garbage`."""
        path = self._blob_path(repository, digest)
        try:
            # Usually the time is recent, so that no lock is needed.
            if time.time() - path.lstat().st_ctime > TOUCH_INTERVAL:
                # Locked, so that a running collection either has already removed the blob or will
                # see its new time.
                with self.lock_repository(repository):
                    os.utime(path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError:
            pass  # the file belongs to another user, so its time cannot be changed
        except OSError as error:
            if error.errno != errno.EROFS:  # on a read-only file system, times cannot be changed
                raise
        return True

    def mount_blob(
        self, repository: str, digest: str, source: str | None, may_read: Callable[[str], bool]
    ) -> bool:
        """Link a blob of another repository into `repository`."""
        if self.blob_size(repository, digest) is not None and self.protect_blob(repository, digest):
            return True
        everywhere = islice(self.walk_repositories(), MOUNT_SEARCH_LIMIT)
        for name in everywhere if source is None else [source]:
            # Most repositories do not have the blob; this check is the quickest.
            path = self._repository_path(name) / "blobs" / digest.replace(":", "/")
            if not path.exists():
                continue
            if self.blob_size(name, digest) is None or not may_read(name):
                continue
            target = self._prepare_blob_path(repository, digest)
            try:
                link_file(
                    self._blob_path(name, digest), target, self._upload_files.temporary_path()
                )
            except FileNotFoundError:  # the blob was deleted in the meantime
                continue
            return True
        return False

    def _prepare_blob_path(self, repository: str, digest: str) -> Path:
        """Return the path for a new blob; create the missing files of the layout around it."""
        folder = self.folder(repository)
        if not (folder / "index.json").exists() or not (folder / "oci-layout").exists():
            with self.edit_index(repository):
                pass
        target = self._blob_path(repository, digest)
        make_folder(target.parent)
        return target

    def _store_upload(self, file: Path, repository: str, digest: str) -> None:
        target = self._prepare_blob_path(repository, digest)
        # If the blob already exists, a running garbage collection may be about to remove it: the
        # collection may have read the time of the old file.
        with self.lock_repository(repository) if target.exists() else nullcontext():
            file.replace(target)
        sync_folder(target.parent)

    # Uploads

    def start_upload(self, repository: str, algorithm: str) -> str:
        """Begin an upload, and return its id."""
        self.folder(repository)  # raises if the blob could not be stored later
        return self._upload_files.start(repository, algorithm)

    def upload_size(self, repository: str, upload_id: str) -> int:
        """The number of bytes in an upload."""
        return self._upload_files.size(repository, upload_id)

    def open_upload(self, repository: str, upload_id: str) -> UploadWriter:
        """Open an upload as its only writer."""
        return self._upload_files.open(repository, upload_id)

    def upload_count(self) -> int:
        """The number of uploads in progress."""
        return self._upload_files.count()

    def has_upload(self, repository: str) -> bool:
        """Whether an upload to a repository is in progress."""
        return self._upload_files.has_upload_to(repository)

    def remove_stale_uploads(self, age: float) -> int:
        """Delete uploads that got no byte for `age` seconds and have no writer; return how many."""
        return self._upload_files.remove_stale(age)


def _open_file(path: str, _: int) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
