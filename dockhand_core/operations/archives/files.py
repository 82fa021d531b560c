"""The files in an archive of images: a tar file, a tar file in gzip, or a folder.

Nothing is unpacked. The content of a member is a region of the tar file. In a tar file in gzip,
regions can only be read one after the other, so its blobs are read in the order of the members.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from dockhand_core.errors import ArchiveInvalid
from dockhand_core.flow import BLOCK, JSON_LIMIT
from dockhand_core.operations.archives.tar import Member, TarMembers, scan
from dockhand_core.text import shown

__all__ = [
    "ArchiveFiles",
    "Region",
    "open_archive",
    "read_document",
    "read_file",
    "uncompressed",
]

# A gzip file is refused as a bomb if it expands to more than both limits.
EXPANSION = 200  # times its own size; deflate reaches 1032
EXPANDED = 1 << 30  # bytes
KEPT_DOCUMENT = 1 << 20  # bytes; JSON documents of a gzip file up to this size are kept in memory
KEPT = 24 << 20  # bytes of all documents that are kept

_GZIP = b"\x1f\x8b"
_COMPRESSED = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}


class Region:
    """A region of a file, as the body of a request; a `Source`.

    Args:
        name: the name of the member, for messages.
        reading: opens the file.
        offset: offset of the first byte in the file.
        size: number of bytes.

    Raises:
        ArchiveInvalid: (raised by the iteration) the file ends within the region, or cannot be
            decompressed.
    """

    def __init__(
        self, name: str, reading: Callable[[], Iterator[BinaryIO]], offset: int, size: int
    ) -> None:
        self.name, self.size, self.offset = name, size, offset
        self._reading = reading

    def skip(self, count: int) -> Region:
        """The same region without its first `count` bytes."""
        return Region(self.name, self._reading, self.offset + count, self.size - count)

    def open(self) -> Generator[bytes, None, None]:
        """Iterate over the bytes in blocks."""
        with contextmanager(self._reading)() as file, _errors_of(self.name):
            file.seek(self.offset)
            left = self.size
            while left:
                block = file.read(min(BLOCK, left))
                if not block:
                    raise ArchiveInvalid(
                        f"member {shown(self.name)}: the archive ends {left} bytes before its end",
                        member=self.name,
                    )
                left -= len(block)
                yield block

    def __iter__(self) -> Iterator[bytes]:
        return self.open()


class ArchiveFiles:
    """The files in an archive.

    Args:
        path: the path of the archive.

    Attributes:
        path: the path of the archive.
        sequential: whether files can only be read one after the other, in order of their offsets.
        repeated: names that several members have, so that they are ambiguous.
        kept: the contents of JSON documents that are in memory already, by name.
    """

    sequential = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repeated: set[str] = set()
        self.kept: dict[str, bytes] = {}

    def find(self, name: str) -> Region | None:
        """Find a file by its name in the archive; None if the archive lacks it.

        Raises:
            ArchiveInvalid: the name leads out of the archive, or is not that of a regular file.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the archive."""


def read_file(files: ArchiveFiles, region: Region, limit: int = JSON_LIMIT) -> bytes:
    """Read a whole file of an archive.

    Args:
        files: the files of the archive.
        region: the file.
        limit: maximum size in bytes.

    Raises:
        ArchiveInvalid: the file is larger than the limit.
    """
    if region.size > limit:
        raise ArchiveInvalid(
            f"member {shown(region.name)} has {region.size} bytes; a JSON document may have "
            f"{limit}",
            member=region.name,
        )
    found = files.kept.get(region.name)
    return found if found is not None else b"".join(region.open())


def read_document(files: ArchiveFiles, name: str) -> bytes | None:
    """Read a JSON document whose content no digest verifies; None if the archive lacks it.

    Raises:
        ArchiveInvalid: several members have this name, or the document is too large.
    """
    region = files.find(name)
    if region is None:
        return None
    if name in files.repeated:
        raise ArchiveInvalid(f"several members have the name {shown(name)}", member=name)
    return read_file(files, region)


def open_archive(path: Path) -> ArchiveFiles:
    """Open an archive: read the headers of a tar file, or check that a folder is an image layout.

    Raises:
        ArchiveInvalid: the path is neither of them, or a member is not allowed.
        OSError: the file cannot be read.
    """
    if path.is_dir():
        return _Folder(path)
    with _open_regular(path) as file:
        start = file.read(6)
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise ArchiveInvalid(
                f"{path} is compressed with {name}; gzip is supported, so decompress it first"
            )
    if start.startswith(_GZIP):
        return _GzipTar(path)
    return _PlainTar(path)


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file; a pipe is not waited for."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ArchiveInvalid(
                f"{path} is not a regular file; an archive is read more than once, so save it to a "
                "file first"
            )
        return os.fdopen(fd, "rb", buffering=0)
    except BaseException:
        os.close(fd)
        raise


@contextmanager
def _errors_of(name: str | Path) -> Iterator[None]:
    """Raise the errors of decompression as `ArchiveInvalid`."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        where = f"member {shown(name)}" if isinstance(name, str) else str(name)
        raise ArchiveInvalid(
            f"{where}: the gzip data is damaged: {error}",
            member=name if isinstance(name, str) else None,
        ) from None


class _TarFiles(ArchiveFiles):
    """The files in a tar file."""

    _members: TarMembers

    def _reading(self) -> Iterator[BinaryIO]:
        """Provide the file to read; a generator for `contextmanager`."""
        raise NotImplementedError

    def find(self, name: str) -> Region | None:
        """Find a file by its name in the archive."""
        member = self._members.find(name)
        if member is None:
            return None
        return Region(member.name, self._reading, member.offset, member.size)


class _PlainTar(_TarFiles):
    """The files in a tar file that is not compressed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with _open_regular(path) as file:
            self._end = os.fstat(file.fileno()).st_size
            # The buffer is small, because contents lie between the headers.
            buffered = cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", file), 4096))
            self._members = scan(buffered, lambda member, end: self._skip(buffered, member, end))
        self.repeated = self._members.repeated

    def _skip(self, file: BinaryIO, member: Member, end: int) -> None:
        if member.offset + member.size > self._end:
            raise _cut(member)
        file.seek(end)

    def _reading(self) -> Iterator[BinaryIO]:
        with _open_regular(self.path) as file:
            yield file


def _cut(member: Member) -> ArchiveInvalid:
    return ArchiveInvalid(
        f"member {shown(member.name)} states {member.size} bytes, but the archive ends before",
        member=member.name,
    )


class _GzipTar(_TarFiles):
    """The files in a tar file that is compressed with gzip.

    The file is open once: to read on behind the last region decompresses nothing twice.
    """

    sequential = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._raw = _open_regular(path)
        self._room = KEPT
        try:
            self._limit = max(EXPANDED, EXPANSION * os.fstat(self._raw.fileno()).st_size)
            self._file = gzip.GzipFile(fileobj=self._raw, mode="rb")
            with _errors_of(path):
                self._members = scan(cast("BinaryIO", self._file), self._skip)
        except BaseException:
            self._raw.close()
            raise
        self.repeated = self._members.repeated

    def _skip(self, member: Member, end: int) -> None:
        if end > self._limit:
            raise ArchiveInvalid(
                f"member {shown(member.name)}: the gzip file expands to more than {self._limit} "
                f"bytes, {EXPANSION} times its size; decompress it yourself if this is intended",
                member=member.name,
            )
        document = b""
        if member.size <= min(KEPT_DOCUMENT, self._room):
            document = self._file.read(member.size)
            if document[:1] in (b"{", b"["):
                self._room -= len(document)
                self.kept.setdefault(member.name, document)
        left = end - member.offset - len(document)
        while left and (block := self._file.read(min(BLOCK, left))):
            left -= len(block)
        if left > end - member.offset - member.size:
            raise _cut(member)

    def _reading(self) -> Iterator[BinaryIO]:
        yield cast("BinaryIO", self._file)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


class _Folder(ArchiveFiles):
    """The files of an image layout in a folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._root = path.resolve()

    def find(self, name: str) -> Region | None:
        """Find a file by its path in the folder."""
        path = self.path / name
        try:
            real = path.resolve(strict=True)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, ValueError) as error:
            # a link that leads in a circle, or a name that no file can have
            raise ArchiveInvalid(f"{shown(str(path))}: {error}", member=name) from None
        if not real.is_relative_to(self._root):
            raise ArchiveInvalid(f"{path} is a link that leads out of the folder", member=name)
        status = real.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ArchiveInvalid(f"{path} is not a regular file", member=name)

        def reading() -> Iterator[BinaryIO]:
            with _open_regular(real) as file:
                yield file

        return Region(name, reading, 0, status.st_size)


def uncompressed(name: str, size: int, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Iterate over the content of a member that is compressed with gzip, after decompression.

    Args:
        name: name of the member.
        size: size of the member in bytes.
        blocks: the bytes of the member.

    Raises:
        ArchiveInvalid: the gzip data is damaged, or expands as only a bomb does.
    """
    limit = max(EXPANDED, EXPANSION * size)
    total = 0
    with _errors_of(name):
        for block in _inflated(blocks):
            total += len(block)
            if total > limit:
                raise ArchiveInvalid(
                    f"member {shown(name)}: its gzip data expands to more than {limit} bytes",
                    member=name,
                )
            yield block


def _inflated(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress gzip data, which may consist of several gzip members, in blocks of limited size.

    Zeros behind the last gzip member are padding.
    """
    inflate = zlib.decompressobj(31)
    started = False
    for block in blocks:
        data = block
        while data:
            if inflate.eof:
                data = data.lstrip(b"\0")
                if not data:
                    break
                inflate, started = zlib.decompressobj(31), False
            yield inflate.decompress(data, BLOCK)
            started = True
            data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    while not inflate.eof:  # the output of the last block was limited
        rest = inflate.decompress(b"", BLOCK)
        if not rest:
            raise EOFError("it ends too early" if started else "it is empty")
        yield rest
