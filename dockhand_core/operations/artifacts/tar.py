"""Reading of the tar files in artifacts, which are not trusted: strict, and in constant memory.

`tarfile` parses the single headers. It does not read the file, because it holds extended headers of
any size in memory, and takes a damaged header for the end of the file.

Follows: POSIX.1-2017, "pax Interchange Format"; GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from dockhand_core.errors import ArtifactInvalid
from dockhand_core.flow import BLOCK
from dockhand_core.models import Digest
from dockhand_core.operations.artifacts.names import LONGEST_NAME
from dockhand_core.operations.tar_headers import REFUSED_KINDS, padding, pax_fields
from dockhand_core.text import shown

__all__ = ["Member", "TarReader"]

EXTENSION = 64 << 10  # bytes of one extended header
EXTENSIONS = 128 << 20  # bytes of all extended headers
IN_A_ROW = 4  # extended headers of one member
TRAILER = 1 << 20  # bytes of zeros at the end, with which programs fill up their last block

_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "link",
}
_LONG_NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_PLACES = ("path", "linkpath", "size")  # pax fields that say where the bytes of a member go


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar file.

    Attributes:
        kind: `file`, `folder`, `symlink` or `link` (a hard link).
        name: the name, as it stands in the file.
        target: the target of a link, or an empty string.
        size: size of a file in bytes.
        mode: the permission bits, without setuid, setgid and sticky bits.
        mtime: time of the last change, in seconds since 1970.
    """

    kind: str
    name: str
    target: str
    size: int
    mode: int
    mtime: float


class TarReader:
    """A tar file that is compressed with gzip.

    Iterate over `members`, and over `content` for each file among them.

    Args:
        file: the compressed file.
        subject: the start of error messages.

    Raises:
        ArtifactInvalid: (raised by the iteration) the file is damaged, or has a member that is not
            allowed.
    """

    def __init__(self, file: BinaryIO, subject: str) -> None:
        self._gzip = gzip.GzipFile(fileobj=file, mode="rb")
        self._subject = subject
        self._hasher = hashlib.sha256()
        self._unread = 0  # bytes of the last member's content
        self._extended = 0

    @property
    def digest(self) -> Digest:
        """The digest of the tar file, without its compression; available after the last member."""
        return Digest.of_hash("sha256", self._hasher)

    def refuse(self, reason: str) -> NoReturn:
        """Raise `ArtifactInvalid` with a reason."""
        raise ArtifactInvalid(f"{self._subject}: {reason}")

    def members(self) -> Iterator[Member]:
        """Iterate over the members, up to the end of the file."""
        fields: dict[str, str] = {}
        extensions = 0
        while True:
            for _ in self.content():
                pass  # the caller did not read it
            entry = self._header()
            if entry is None:
                break
            if entry.type in _LONG_NAMES or entry.type in (tarfile.XHDTYPE, tarfile.XGLTYPE):
                extensions += 1
                if extensions > IN_A_ROW:
                    self.refuse("the tar file has too many extended headers in a row")
                fields |= self._extension(entry)
                continue
            yield self._member(entry, fields)
            fields, extensions = {}, 0
        if fields:
            self.refuse("the tar file ends after an extended header")
        self._check_end()

    def content(self) -> Iterator[bytes]:
        """Iterate over the content of the last member, in blocks."""
        rest = padding(self._unread)
        if not self._unread:
            return
        while self._unread:
            block = self._read(min(BLOCK, self._unread))
            if not block:
                self.refuse("the tar file ends within a member")
            self._unread -= len(block)
            yield block
        self._exactly(rest)

    def _read(self, count: int) -> bytes:
        try:
            block = self._gzip.read(count)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            self.refuse(f"the layer is not a whole gzip file: {error}")
        self._hasher.update(block)
        return block

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            block = self._read(count - len(found))
            if not block:
                self.refuse("the tar file is cut off")
            found += block
        return found

    def _header(self) -> tarfile.TarInfo | None:
        """Read the next header; None at the end."""
        first = self._read(1)
        if not first:
            return None  # without the mark for the end, which programs accept
        block = first + self._exactly(tarfile.BLOCKSIZE - 1)
        if not block.strip(b"\0"):
            return None
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            self.refuse(f"the tar file has a damaged header: {error}")
        if entry.size < 0:
            self.refuse(f"{shown(entry.name)} has a negative size")
        return entry

    def _extension(self, entry: tarfile.TarInfo) -> dict[str, str]:
        """Read an extended header: the fields that replace those of the next header."""
        self._extended += entry.size
        if entry.size > EXTENSION or self._extended > EXTENSIONS:
            self.refuse("the tar file has too large extended headers")
        data = self._exactly(entry.size)
        self._exactly(padding(entry.size))
        if entry.type in _LONG_NAMES:
            name = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            return {_LONG_NAMES[entry.type]: name}
        fields = pax_fields(data)
        if fields is None:
            self.refuse("the tar file has a damaged extended header")
        if any(key.startswith("GNU.sparse.") for key in fields):
            self.refuse("the tar file has a sparse file, which an artifact must not have")
        if entry.type == tarfile.XGLTYPE:
            if not fields.keys().isdisjoint(_PLACES):
                self.refuse("a global extended header gives the same name or size to all members")
            return {}
        return fields

    def _member(self, entry: tarfile.TarInfo, fields: dict[str, str]) -> Member:
        name = fields.get("path", entry.name)
        size, mtime = entry.size, float(entry.mtime)
        if "size" in fields:
            text = fields["size"]
            if not (text.isascii() and text.isdigit() and len(text) < 19):
                self.refuse(f"{shown(name)} has a damaged size")
            size = int(text)
        if "mtime" in fields:
            try:
                mtime = float(fields["mtime"])
            except ValueError:
                self.refuse(f"{shown(name)} has a damaged time")
        kind = _KINDS.get(entry.type)
        if kind is None:
            is_a = REFUSED_KINDS.get(entry.type, f"of an unknown kind {ascii(entry.type)[1:]}")
            self.refuse(f"{shown(name)} is {is_a}, which an artifact must not have")
        if kind == "file" and name.endswith("/"):
            kind = "folder"  # as programs before POSIX wrote it
        if kind == "file":
            self._unread = size
        elif size:
            self.refuse(f"{shown(name)} has content, but is not a file")
        target = fields.get("linkpath", entry.linkname) if kind in ("symlink", "link") else ""
        if len(name) > LONGEST_NAME:
            self.refuse(f"the name {shown(name)} has more than {LONGEST_NAME} bytes")
        return Member(kind, name, target, size, entry.mode & 0o777, mtime)

    def _check_end(self) -> None:
        """Read to the end of the file; nothing but zeros may follow the members."""
        left = TRAILER
        while block := self._read(min(BLOCK, left + 1)):
            left -= len(block)
            if left < 0 or block.strip(b"\0"):
                self.refuse("the tar file has bytes behind its end")
