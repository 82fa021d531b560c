"""Writing of image layouts and tar files, under a temporary name until they are complete.

Follows: OCI Image Specification 1.1, "Image Layout".
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from dockhand_core.errors import ArchiveInvalid
from dockhand_core.models import Descriptor, Digest
from dockhand_core.operations.archives.files import open_archive, read_document
from dockhand_core.operations.archives.images import (
    REF_NAME,
    blob_path,
    check_layout,
    images_of,
)
from dockhand_core.operations.archives.tar import BLOCK_SIZE, tar_header
from dockhand_core.operations.tar_headers import padding

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LAYOUT", "LayoutFolder", "Sink", "TarWriter", "index_entry", "index_json"]

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class Sink(Protocol):
    """The place where the bytes of a blob are written."""

    def write(self, block: bytes) -> None:
        """Write the next bytes."""

    def commit(self) -> None:
        """Keep the blob, whose bytes were verified."""

    def close(self) -> None:
        """Close the files; a blob that was not committed is deleted."""


def index_json(entries: Sequence[dict[str, object]]) -> bytes:
    """Make the `index.json` of a layout.

    Args:
        entries: the descriptors of the images, as JSON objects.
    """
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": list(entries),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def index_entry(descriptor: Descriptor, name: str | None) -> dict[str, object]:
    """Make the descriptor of an image in an `index.json`."""
    entry: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    return {**entry, "annotations": {REF_NAME: name}} if name else entry


def temporary(path: Path) -> Path:
    """An unused path beside a path, for its new content."""
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.part")


def _write_synced(path: Path, data: bytes) -> None:
    """Write a file, which gets its name when its content is on the disk."""
    new = temporary(path)
    try:
        with new.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


class TarWriter:
    """A new tar file, whose members are known before any content is written.

    So the contents may be written in any order, and at the same time.

    Args:
        path: the path of the tar file; an existing file is replaced at the end.
        members: the names and sizes of the members, in order; a size of None is a folder.

    Nothing is done before `begin`; a caller that is stopped at any time calls `discard`.
    """

    def __init__(self, path: Path, members: Sequence[tuple[str, int | None]]) -> None:
        self.path, self._temporary = path, temporary(path)
        self._members = members
        self._offsets: dict[str, int] = {}

    def begin(self) -> None:
        """Create the file, with all headers; its contents are zeros."""
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path} is a folder; a tar file needs a file's path")
        with self._temporary.open("xb") as file:
            position = 0
            for name, size in self._members:
                header = tar_header(name, size or 0, folder=size is None)
                file.seek(position)
                file.write(header)
                self._offsets[name] = position + len(header)
                position += len(header) + (size or 0) + padding(size or 0)
            position += 2 * BLOCK_SIZE
            file.truncate(position + -position % (20 * BLOCK_SIZE))  # the record of tar

    def write(self, name: str, data: bytes) -> None:
        """Write the whole content of a member."""
        with self._temporary.open("r+b") as file:
            file.seek(self._offsets[name])
            file.write(data)

    def sink(self, name: str) -> Sink:
        """The place of a member's content, to write it block by block."""
        return _RegionSink(self._temporary, self._offsets[name])

    def finish(self) -> None:
        """Give the complete file its name."""
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        self._temporary.replace(self.path)

    def discard(self) -> None:
        """Delete the incomplete file."""
        self._temporary.unlink(missing_ok=True)


class _RegionSink:
    """A region of a file."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path, self._offset = path, offset
        self._file: BinaryIO | None = None

    def write(self, block: bytes) -> None:
        if self._file is None:
            self._file = self._path.open("r+b")
            self._file.seek(self._offset)
        self._file.write(block)

    def commit(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class LayoutFolder:
    """An image layout in a folder, to which an image is added.

    A new folder appears when it is complete. An empty folder is filled, since it may be a mount
    point. An existing layout keeps its images; its `index.json` is replaced at the end, when it has
    all blobs.

    Args:
        path: the folder.

    Nothing is done before `begin`; a caller that is stopped at any time calls `discard`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = False  # whether the folder does not exist
        self._empty = False  # whether it was empty
        self._written: list[Path] = []
        self._root = path
        self._index: bytes | None = None  # index.json before
        self._in_use: int | None = None  # the folder, with a shared lock as long as it is used

    def begin(self) -> None:
        """Read an existing layout, or create a folder.

        Raises:
            ArchiveInvalid: the folder has other content than an image layout.
            OSError: the folder cannot be written.
        """
        path = self.path
        if not path.exists():
            self._root, self._new = temporary(path), True
            self._root.mkdir()
            return
        if path.is_dir() and fcntl is not None:
            self._in_use = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(self._in_use, fcntl.LOCK_SH)
        if path.is_dir() and not any(path.iterdir()):
            self._empty, self._index = True, index_json([])
            _write_synced(path / "oci-layout", LAYOUT)
            _write_synced(path / "index.json", self._index)
        self._files = open_archive(path)
        check_layout(self._files)
        self._index = read_document(self._files, "index.json")
        if self._index is not None:
            images_of(self._files)  # refuses a malformed one, which could not be added to

    def _blob(self, digest: Digest) -> Path:
        path = self._root / blob_path(digest)
        if not path.parent.resolve().is_relative_to(self._root.resolve()):
            raise ArchiveInvalid(
                f"{path.parent} is a link that leads out of the folder", member=str(path.parent)
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def has(self, digest: Digest, size: int) -> bool:
        """Whether the layout has a blob already; its bytes are verified."""
        if self._new:
            return False
        region = self._files.find(blob_path(digest))
        if region is None or region.size != size:
            return False
        hasher = digest.hasher()
        for block in region.open():
            hasher.update(block)
        return Digest.of_hash(digest.algorithm, hasher) == digest

    def sink(self, digest: Digest) -> Sink:
        """The place of a new blob, to write its content block by block."""
        return _BlobSink(partial(self._blob, digest), self._written)

    def write(self, digest: Digest, data: bytes) -> None:
        """Write a whole blob."""
        if not self.has(digest, len(data)):
            with contextlib.closing(self.sink(digest)) as sink:
                sink.write(data)
                sink.commit()

    def finish(self, descriptor: Descriptor, name: str | None) -> None:
        """Add the image to `index.json`, in place of an entry with the same name."""
        entry = index_entry(descriptor, name)
        if self._new:
            _write_synced(self._root / "oci-layout", LAYOUT)
            _write_synced(self._root / "index.json", index_json([entry]))
            self._root.rename(self.path)
            return
        with (self._root / "oci-layout").open("rb") as lock:
            if fcntl is not None:  # so that no image is lost that another process adds
                fcntl.flock(lock, fcntl.LOCK_EX)
            raw = read_document(self._files, "index.json")
            document = json.loads(raw) if raw is not None else json.loads(index_json([]))
            entries = document["manifests"] = _others(document.get("manifests"), entry, name)
            entries.append(entry)
            data = json.dumps(document, separators=(",", ":")).encode()
            _write_synced(self._root / "index.json", data)
        self._written.clear()
        self._empty = False
        self._release()

    def discard(self) -> None:
        """Delete what was written, except blobs that another use of the layout may count on."""
        try:
            if self._new:
                shutil.rmtree(self._root, ignore_errors=True)
            elif not self._is_shared():
                for path in self._written:
                    path.unlink(missing_ok=True)
                if self._empty:
                    for name in ("index.json", "oci-layout"):
                        (self._root / name).unlink(missing_ok=True)
                    for path in (*(self._root / "blobs").glob("*"), self._root / "blobs"):
                        with contextlib.suppress(OSError):
                            path.rmdir()
        finally:
            self._release()

    def _is_shared(self) -> bool:
        """Whether another image is added at this time, or was added since `begin`."""
        if self._in_use is not None and fcntl is not None:
            try:
                fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:  # a file system without locks
                pass
        try:
            return (self._root / "index.json").read_bytes() != self._index
        except OSError:
            return False

    def _release(self) -> None:
        if self._in_use is not None:
            os.close(self._in_use)
            self._in_use = None


def _others(
    manifests: object, entry: dict[str, object], name: str | None
) -> list[dict[str, object]]:
    """The entries of an `index.json` that stay when an entry is added."""
    kept: list[dict[str, object]] = []
    for other in manifests if isinstance(manifests, list) else []:
        annotations = other.get("annotations") if isinstance(other, dict) else None
        other_name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
        same = isinstance(other, dict) and other.get("digest") == entry["digest"]
        if other_name == name and (name is not None or same):
            continue
        kept.append(other)
    return kept


class _BlobSink:
    """A new file of a layout, which gets its name when it is complete."""

    def __init__(self, make: Callable[[], Path], written: list[Path]) -> None:
        self._make, self._written = make, written
        self._file: BinaryIO | None = None

    def write(self, block: bytes) -> None:
        if self._file is None:
            self._path = self._make()
            self._temporary = temporary(self._path)
            self._file = self._temporary.open("xb")
        self._file.write(block)

    def commit(self) -> None:
        self.write(b"")
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        existed = self._path.exists()
        self._temporary.replace(self._path)
        if not existed:
            self._written.append(self._path)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)
