"""Packing of files and folders as the layers of an artifact.

Folders become tar files, compressed with gzip. Headers and order are those of `oras`: the tar file,
before its compression, is the same byte for byte, if all names are ASCII and not too long.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from dockhand_core.errors import ArtifactInvalid
from dockhand_core.flow import BLOCK
from dockhand_core.models import Digest, media
from dockhand_core.operations.artifacts.files import (
    CONTENT_DIGEST,
    MEMBERS,
    TITLE,
    UNPACK,
    ArtifactFile,
)
from dockhand_core.operations.artifacts.names import Parts, link_fault, split_name
from dockhand_core.operations.tar_headers import padding
from dockhand_core.text import shown

__all__ = ["PackedFile", "pack"]

_MODE = 0o777  # the bits of a mode that are packed: no setuid, setgid and sticky bits


@dataclass(frozen=True, slots=True)
class PackedFile:
    """The content of a layer, ready to be uploaded.

    Attributes:
        content: bytes, or the path of a file.
        media_type: media type of the layer.
        digest: digest of the content.
        size: size of the content in bytes.
        annotations: annotations of the layer.
    """

    content: bytes | Path
    media_type: str
    digest: Digest
    size: int
    annotations: dict[str, str]


def pack(file: ArtifactFile, temporary: Path) -> PackedFile:
    """Hash a file, or pack a folder into a temporary file.

    Args:
        file: the file or folder.
        temporary: the path of the temporary file.

    Raises:
        ArtifactInvalid: the file has a name that could not be pulled; or it is a device, a pipe or
            a socket, or the folder holds one, or a link that leads out of the folder.
        OSError: a file cannot be read.
    """
    content, parts = file.content, file.parts
    title = "/".join(parts) or "."
    annotations = {**file.annotations, TITLE: title}
    if isinstance(content, bytes):
        digest, size = Digest.of(content), len(content)
    elif content.is_dir():
        tar_digest = _pack_folder(content, title, temporary)
        annotations |= {CONTENT_DIGEST: tar_digest, UNPACK: "true"}
        content = temporary
        digest, size = _hash(content)
    elif stat.S_ISREG(content.stat().st_mode):
        digest, size = _hash(content)
    else:
        raise ArtifactInvalid(f"{shown(str(content))} is neither a file nor a folder")
    default = media.OCI_LAYER_GZIP if UNPACK in annotations else media.OCI_LAYER
    return PackedFile(content, file.media_type or default, digest, size, annotations)


def _hash(path: Path) -> tuple[Digest, int]:
    hasher, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as opened:
        while block := opened.read(BLOCK):
            hasher.update(block)
            size += len(block)
    return Digest.of_hash("sha256", hasher), size


def _pack_folder(folder: Path, title: str, temporary: Path) -> Digest:
    """Pack a folder into a tar file with gzip; return the digest of the tar file.

    The header of gzip has no name and no time, so that it is always the same.
    """
    with (
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
    ):
        hashed = _HashedWriter(packed)
        for number, parts in enumerate(_walk(folder), 1):
            if number > MEMBERS:
                raise ArtifactInvalid(
                    f"the folder {shown(title)} has more than {MEMBERS} files: push a tar file of "
                    "the folder instead"
                )
            _pack_member(hashed, folder, title, parts)
        hashed.write(bytes(2 * tarfile.BLOCKSIZE))
    return Digest.of_hash("sha256", hashed.hasher)


class _Writer(Protocol):
    def write(self, data: bytes, /) -> object: ...


class _HashedWriter:
    """A file that hashes the bytes written to it."""

    def __init__(self, file: _Writer) -> None:
        self._file = file
        self.hasher = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.hasher.update(data)
        self._file.write(data)


def _walk(folder: Path) -> Iterator[Parts]:
    """Iterate over a folder and all that it holds, each folder before its files, by name."""
    pending: list[Parts] = [()]
    while pending:
        parts = pending.pop()
        yield parts
        path = folder.joinpath(*parts)
        if not parts or stat.S_ISDIR(path.lstat().st_mode):
            names = [entry.name for entry in path.iterdir()]
            names.sort(key=os.fsencode, reverse=True)
            pending += [(*parts, name) for name in names]


def _pack_member(out: _HashedWriter, folder: Path, title: str, parts: Parts) -> None:
    path = folder.joinpath(*parts)
    name = "/".join((*(() if title == "." and parts else (title,)), *parts))
    split_name(name, f"the folder {shown(str(folder))}")
    entry = _Header(name)
    found = path.lstat() if parts else path.stat()
    if stat.S_ISREG(found.st_mode):
        with path.open("rb") as file:
            entry.size = os.fstat(file.fileno()).st_size
            out.write(entry.block(found))
            _copy(file, out, entry.size)
        return
    if stat.S_ISDIR(found.st_mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(found.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, _target(path) or ""
        fault = link_fault(parts, entry.linkname, lambda place: _target(folder.joinpath(*place)))
        if fault is not None:
            raise ArtifactInvalid(f"the target of the link {shown(name)}, {fault}")
    else:
        raise ArtifactInvalid(
            f"{shown(str(path))} is a device, a pipe or a socket, which an artifact cannot hold"
        )
    out.write(entry.block(found))


def _target(path: Path) -> str | None:
    """The target of a symbolic link, or None if the path is none."""
    try:
        return os.readlink(path)  # noqa: PTH115 - a `Path` would change the target
    except OSError:
        return None


def _copy(file: BinaryIO, out: _HashedWriter, size: int) -> None:
    left = size
    while left:
        block = file.read(min(BLOCK, left))
        if not block:
            raise OSError(f"{file.name} became shorter while it was read")
        out.write(block)
        left -= len(block)
    out.write(bytes(padding(size)))


class _Header(tarfile.TarInfo):
    """The header of a member, as the tar writer of Go's library makes it."""

    def get_info(self) -> dict[str, Any]:
        """The fields; the name of a folder gets no `/` at its end."""
        return {**super().get_info(), "name": self.name}

    def block(self, found: os.stat_result) -> bytes:
        """Make the bytes of the header, with mode and time of a file, rounded to seconds."""
        self.mode = stat.S_IMODE(found.st_mode) & _MODE
        self.mtime = (found.st_mtime_ns + 500_000_000) // 1_000_000_000
        try:
            made = self.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
        except ValueError:  # a name that is not ASCII, or something does not fit
            return self.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        block = bytearray(made)
        block[329:345] = b"0000000\0" * 2  # the numbers of a device, which Python leaves out
        block[148:156] = b" " * 8
        block[148:155] = b"%06o\0" % sum(block)
        return bytes(block)
