"""Repositories in a folder, one OCI Image Layout each, which other tools read and write.

    <root>/library/nginx/oci-layout
    <root>/library/nginx/index.json
    <root>/library/nginx/blobs/sha256/<hex>
    <root>/.uploads/                          uploads on their way, temporary files

Repositories nest: `a` and `a/b` may both exist, and `blobs`, `index.json` and `oci-layout` are
legal components of a name. Where a name has one of these, its folder gets a leading underscore
(`a/blobs` is kept in `a/_blobs`). No legal component begins with an underscore or a dot, so two
names never share a folder, and neither do a repository and a layout's own files.

Blobs that several repositories have are hard links to one file: each folder stays a complete
layout that can be moved or archived alone, and a deletion needs no count of users.

Follows: OCI Image Specification 1.1, "OCI Image Layout".
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, ClassVar

from dockhand_embedded.protocol.names import is_name
from dockhand_embedded.storage.base import OutsideError, Storage, Upload
from dockhand_embedded.storage.files import link_file, make_folder, sync_folder, write_file
from dockhand_embedded.storage.index import Index
from dockhand_embedded.storage.upload_files import UPLOAD_AGE, Sessions

_OWN = frozenset({"blobs", "index.json", "oci-layout"})
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_LOCKS = 64
# Seconds. A blob that a client was told of gets no younger while it is of this age.
FRESH = 600
# Two changes within one tick of the file system's clock could look the same from outside.
_CLOCK_TICK = 50_000_000


@dataclass(frozen=True, slots=True)
class _Held:
    """An index that was read or written.

    Attributes:
        mark: the file's, as long as another content would have another one; else its bytes tell.
        data: its bytes.
        index: what they say.
    """

    mark: tuple[int, int, int] | None
    data: bytes
    index: Index


class LayoutStorage(Storage):
    """Repositories below one root folder; several processes may use it at once."""

    blocking: ClassVar[bool] = True

    def __init__(self, root: str | os.PathLike[str], upload_age: float = UPLOAD_AGE) -> None:
        """Use a folder; what processes that were killed left behind in it is swept.

        Args:
            root: the folder, created if it is not there.
            upload_age: uploads that got no byte for so many seconds are forgotten now.
        """
        self._uploads = Path(root).absolute() / ".uploads"
        make_folder(self._uploads)
        self.root = self._uploads.parent.resolve()
        self._uploads = self.root / ".uploads"
        self._sessions = Sessions(self._uploads, self._place)
        self._sessions.sweep(upload_age)
        self._cache: dict[str, _Held] = {}
        # flock separates threads by itself on a local disk; where a network file system turns it
        # into a lock per process, these do. A fixed number, since names are for anyone to invent.
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    # Paths

    def folder(self, repository: str) -> Path:
        """Where a repository is kept.

        Raises:
            OutsideError: a symbolic link on the way leads out of the root.
        """
        return self._inside(self._path(repository))

    def _path(self, repository: str) -> Path:
        parts = (f"_{part}" if part in _OWN else part for part in repository.split("/"))
        return self.root.joinpath(*parts)

    def _inside(self, path: Path) -> Path:
        real = os.path.realpath(path)
        if real != str(self.root) and not real.startswith(f"{self.root}{os.sep}"):
            raise OutsideError(f"{path.relative_to(self.root)} leads out of the root")
        return path

    def _blob(self, repository: str, digest: str) -> Path:
        algorithm, _, encoded = digest.partition(":")
        return self._inside(self._path(repository) / "blobs" / algorithm) / encoded

    # Repositories

    def every_repository(self) -> Iterator[str]:
        """All repositories, also those without manifests."""
        waiting: list[tuple[Path, str]] = [(self.root, "")]
        while waiting:
            folder, name = waiting.pop()
            try:
                found = list(os.scandir(folder))
            except OSError:  # removed meanwhile, or not ours to read
                continue
            if name and any(entry.name == "index.json" and entry.is_file() for entry in found):
                yield name
            for entry in found:
                if entry.name in _OWN or not entry.is_dir(follow_symlinks=False):
                    continue
                part = entry.name[1:] if entry.name[1:] in _OWN else entry.name
                child = f"{name}/{part}" if name else part
                if is_name(child):
                    waiting.append((Path(entry.path), child))

    def repositories(self) -> list[str]:
        """Names of the repositories with manifests, in ASCII order."""
        return sorted(
            name
            for name in self.every_repository()
            if (index := self.index(name)) and index.manifests
        )

    def index(self, repository: str) -> Index | None:
        """The manifests of a repository, read again when the file has changed."""
        path = self.folder(repository) / "index.json"
        held = self._cache.get(repository)
        if held and held.mark:
            try:
                if held.mark == _mark(path.stat()):
                    return held.index
            except FileNotFoundError:
                pass
        return self._load(repository, path)

    def fresh_index(self, repository: str) -> Index | None:
        """The index as it is on disk, for whoever has the repository's lock."""
        return self._load(repository, self.folder(repository) / "index.json")

    def _load(self, repository: str, path: Path) -> Index | None:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            self._cache.pop(repository, None)
            return None
        held = self._cache.get(repository)
        if held and held.data == data:
            index = held.index
        else:
            try:
                index = Index.parse(data)
            except (ValueError, RecursionError) as error:
                raise OSError(f"index.json of {repository} cannot be read: {error}") from error
        settled = time.time_ns() - status.st_mtime_ns > _CLOCK_TICK
        self._cache[repository] = _Held(_mark(status) if settled else None, data, index)
        return index

    @contextmanager
    def locked(self, repository: str) -> Iterator[Path]:
        """The folder of a repository, under a lock between threads and between processes.

        Raises:
            FileNotFoundError: there is no such repository.
        """
        folder = self.folder(repository)
        with self._locks[hash(repository) % _LOCKS]:
            # The folder itself is locked: index.json is replaced, so a lock on it would be lost.
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield folder
            finally:
                os.close(fd)

    @contextmanager
    def changing(self, repository: str) -> Iterator[Index]:
        """The index as it is on disk, under the repository's lock."""
        make_folder(self.folder(repository))
        with self.locked(repository) as folder:
            path = folder / "index.json"
            index = self.fresh_index(repository)
            missing = index is None
            index = index.copy() if index else Index()
            yield index
            if not (folder / "oci-layout").exists():
                write_file(folder / "oci-layout", _LAYOUT, self._sessions.temporary())
            if index.changed or missing:
                data = index.serialize()
                write_file(path, data, self._sessions.temporary())
                # The next of many pushes need not parse what this one wrote.
                self._cache[repository] = _Held(None, data, index)

    # Blobs

    def blob_size(self, repository: str, digest: str) -> int | None:
        """The size in bytes."""
        try:
            status = self._blob(repository, digest).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def open_blob(self, repository: str, digest: str) -> BinaryIO | None:
        """The blob's file; links and special files are not followed."""
        path = self._blob(repository, digest)
        if self.blob_size(repository, digest) is None:
            return None
        try:
            return FileIO(
                path, opener=_open_file
            )  # which knows its name, unlike one made of a number
        except FileNotFoundError:
            return None

    def write_blob(self, repository: str, digest: str, data: bytes) -> None:
        """Keep bytes, durably."""
        target = self._blob(repository, digest)
        make_folder(target.parent)
        write_file(target, data, self._sessions.temporary())

    def delete_blob(self, repository: str, digest: str) -> bool:
        """Remove a blob from one repository; other repositories have links of their own."""
        try:
            self._blob(repository, digest).unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def keep_blob(self, repository: str, digest: str) -> bool:
        """Make a blob look new, so that a collection counts its grace from now."""
        path = self._blob(repository, digest)
        try:
            # Once in a while is enough, so most calls change nothing and wait for nobody.
            if time.time() - path.lstat().st_ctime > FRESH:
                # Under the lock: a collection that is at it right now has taken it, or will not.
                with self.locked(repository):
                    os.utime(path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError:
            pass  # somebody else's file, or a file system without writing
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
        return True

    def link_blob(
        self, repository: str, digest: str, source: str | None, readable: Callable[[str], bool]
    ) -> bool:
        """Link a blob of another repository."""
        if self.blob_size(repository, digest) is not None and self.keep_blob(repository, digest):
            return True
        for name in self.every_repository() if source is None else [source]:
            if self.blob_size(name, digest) is None or not readable(name):
                continue
            target = self._prepare(repository, digest)
            try:
                link_file(self._blob(name, digest), target, self._sessions.temporary())
            except FileNotFoundError:  # deleted meanwhile
                continue
            return True
        return False

    def _prepare(self, repository: str, digest: str) -> Path:
        """Where a blob is to be put, in a folder that is a layout by then."""
        folder = self.folder(repository)
        if not (folder / "index.json").exists() or not (folder / "oci-layout").exists():
            with self.changing(repository):
                pass
        target = self._blob(repository, digest)
        make_folder(target.parent)
        return target

    def _place(self, file: Path, repository: str, digest: str) -> None:
        target = self._prepare(repository, digest)
        # Where one is there already, a collection may be about to take it for the old one.
        with self.locked(repository) if target.exists() else nullcontext():
            file.replace(target)
        sync_folder(target.parent)

    # Uploads

    def start_upload(self, repository: str, algorithm: str) -> str:
        """Begin an upload."""
        self.folder(repository)  # refuse early what could not be put anywhere later
        return self._sessions.start(repository, algorithm)

    def upload_size(self, repository: str, upload_id: str) -> int:
        """How many bytes an upload has."""
        return self._sessions.size(repository, upload_id)

    def open_upload(self, repository: str, upload_id: str) -> Upload:
        """Open an upload as its only writer."""
        return self._sessions.open(repository, upload_id)

    def upload_count(self) -> int:
        """How many uploads are on their way."""
        return self._sessions.count()

    def uploading(self, repository: str) -> bool:
        """Whether an upload to a repository is on its way."""
        return self._sessions.of(repository)

    def sweep(self, age: float) -> int:
        """Forget uploads that nobody goes on with."""
        return self._sessions.sweep(age)


def _open_file(path: str, _: int) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _mark(status: os.stat_result) -> tuple[int, int, int]:
    """What changes whenever a file is replaced or written again."""
    return status.st_ino, status.st_mtime_ns, status.st_size
