"""Headers of tar files: the members that a tar file has, and the headers of a new one.

Nothing is unpacked. A member is known by its name, and by the offset and size of its content in the
file. `tarfile` parses the single headers; the extended headers are read here, within limits.

Follows: POSIX.1-2017, "pax Interchange Format"; GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

from dockhand_core.errors import ArchiveInvalid
from dockhand_core.operations.tar_headers import REFUSED_KINDS, padding, pax_fields
from dockhand_core.text import shown

__all__ = ["BLOCK_SIZE", "Member", "TarMembers", "scan", "tar_header"]

BLOCK_SIZE = 512  # bytes; headers have this size, and contents are padded to it
MEMBERS = 1 << 16  # number of members; an archive of images has some hundreds
NAMES = 16 << 20  # characters of all names together
LONGEST_NAME = 4096  # characters
EXTENSION = 1 << 20  # bytes of an extended header
EXTENSIONS = 4  # extended headers in front of one member: global, pax, long name and long link
LINKS = 16  # links that lead from one to the next

_FILES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_PAX = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE})
_MEANINGFUL = ("path", "linkpath", "size")  # fields of a pax header that replace those of a header


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar file.

    Attributes:
        name: its name, without `./` in front.
        offset: offset of its content in the tar file, in bytes.
        size: size of its content in bytes.
    """

    name: str
    offset: int
    size: int


@dataclass(slots=True)
class TarMembers:
    """The members of a tar file.

    Attributes:
        files: the regular files by name; of several with one name, the first.
        links: the names that links refer to, by the names of the links.
        repeated: names that several members have.
    """

    files: dict[str, Member] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)

    def find(self, name: str) -> Member | None:
        """Find a file by name, through links, or return None.

        Raises:
            ArchiveInvalid: links lead in a circle, or more than 16 lead from one to the next.
        """
        link = name
        for _ in range(LINKS):
            found = self.files.get(name)
            if found is not None or name not in self.links:
                return found
            name = self.links[name]
        raise ArchiveInvalid(f"member {shown(link)}: its links lead to no file", member=link)

    def add(self, name: str, value: Member | str) -> None:
        """Add a file, or the name that a link refers to."""
        if name in self.files or name in self.links:
            self.repeated.add(name)
        elif isinstance(value, Member):
            self.files[name] = value
        else:
            self.links[name] = value


def tar_header(name: str, size: int, *, folder: bool = False) -> bytes:
    """Make the header of a member, without times and owners, so that it is always the same.

    Args:
        name: the name; it may be of any length.
        size: size of the content in bytes; sizes of 8 GiB and more are written as GNU tar does.
        folder: whether the member is a folder.
    """
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = size, 0
    entry.mode = 0o755 if folder else 0o644
    entry.type = tarfile.DIRTYPE if folder else tarfile.REGTYPE
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def scan(
    file: BinaryIO,
    skip: Callable[[Member, int], None],
) -> TarMembers:
    """Read the headers of a tar file, from the current position to its end.

    Args:
        file: the tar file, after decompression.
        skip: moves the file from the start of a member's content to an offset behind it; raises
            `ArchiveInvalid` if the file ends before.

    Raises:
        ArchiveInvalid: the file is not a tar file, or a member is not allowed in an archive of
            images; the message names the member.
    """
    return _Scan(file, skip).run()


class _Scan:
    """One reading of all headers of a tar file."""

    def __init__(self, file: BinaryIO, skip: Callable[[Member, int], None]) -> None:
        self._file, self._skip = file, skip
        self._position = 0
        self._last: str | None = None  # name of the last member so far
        self._members = TarMembers()
        self._extended: dict[str, str] = {}

    def run(self) -> TarMembers:
        count = names = extensions = 0
        while (entry := self._header()) is not None:
            if self._is_extension(entry):
                extensions += 1
                if extensions > EXTENSIONS:
                    self._refuse(entry.name, "has too many extended headers in front")
                continue
            extensions = 0
            count += 1
            name = self._take_name(entry)
            names += len(name)
            if count > MEMBERS:
                raise ArchiveInvalid(f"the archive has more than {MEMBERS} members")
            if names > NAMES:
                raise ArchiveInvalid(f"the names of the members have more than {NAMES} characters")
            self._add(entry, name)
            self._last = name
        if not count:
            raise ArchiveInvalid("the archive is an empty tar file")
        return self._members

    def _header(self) -> tarfile.TarInfo | None:
        """Read the next header, or return None at the end of the archive."""
        block = self._file.read(BLOCK_SIZE)
        if not block or not block.strip(b"\0"):
            if self._extended:
                raise self._damaged("the archive ends after an extended header")
            return None
        self._position += BLOCK_SIZE
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            if self._last is None:
                raise ArchiveInvalid(f"not a tar file ({error})") from None
            raise self._damaged(f"no valid header follows: {error}") from None
        if entry.size < 0:
            self._refuse(entry.name, f"states a size of {entry.size} bytes")
        return entry

    def _damaged(self, reason: str) -> ArchiveInvalid:
        after = "" if self._last is None else f" after the member {shown(self._last)}"
        return ArchiveInvalid(f"the tar file is damaged{after}: {reason}", member=self._last)

    def _refuse(self, name: str, reason: str) -> NoReturn:
        raise ArchiveInvalid(f"member {shown(name)} {reason}", member=name)

    def _is_extension(self, entry: tarfile.TarInfo) -> bool:
        """Take over an extended header; return False for the header of a member."""
        if entry.type in _PAX or entry.type == tarfile.XGLTYPE:
            fields = pax_fields(self._extension(entry))
            if fields is None:
                self._refuse(entry.name, "is a malformed pax header")
            if any(key.startswith("GNU.sparse") for key in fields):
                self._refuse(entry.name, "describes a sparse file, which is not supported")
            meaningful = {key: fields[key] for key in _MEANINGFUL if key in fields}
            if entry.type == tarfile.XGLTYPE and meaningful:
                self._refuse(entry.name, "is a global header that renames or resizes all members")
            self._extended |= meaningful
        elif entry.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            text = self._extension(entry).partition(b"\0")[0].decode("utf-8", "surrogateescape")
            key = "path" if entry.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
            self._extended[key] = text
        else:
            return False
        return True

    def _extension(self, entry: tarfile.TarInfo) -> bytes:
        """Read the content of an extended header."""
        if entry.size > EXTENSION:
            self._refuse(entry.name, f"is an extended header of more than {EXTENSION} bytes")
        whole = entry.size + padding(entry.size)
        data = self._file.read(whole)
        if len(data) < entry.size:
            raise self._damaged("the file ends within an extended header")
        self._position += whole
        return data[: entry.size]

    def _take_name(self, entry: tarfile.TarInfo) -> str:
        """Apply the extended headers to the header that they precede, and return its name."""
        extended, self._extended = self._extended, {}
        entry.name = extended.get("path", entry.name)
        entry.linkname = extended.get("linkpath", entry.linkname)
        if (size := extended.get("size")) is not None:
            if not (size.isascii() and size.isdigit() and len(size) < 20):
                self._refuse(entry.name, f"states a size of {shown(size)}")
            entry.size = int(size)
        return self._checked(entry.name, entry.name)

    def _checked(self, name: str, member: str) -> str:
        """Check a name that must lie in the archive, and return it without `./`.

        Args:
            name: the name, or the target of a link.
            member: the name of the member, for the message.
        """
        if len(name) > LONGEST_NAME:
            self._refuse(member, f"has a name of more than {LONGEST_NAME} characters")
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "\0" in name:
            self._refuse(member, "has a name that leads out of the archive")
        return "/".join(part for part in parts if part not in ("", "."))

    def _add(self, entry: tarfile.TarInfo, name: str) -> None:
        if entry.type in _FILES:
            if not name:
                self._refuse(entry.name, "has no name")
            member = Member(name, self._position, entry.size)
            self._position += entry.size + padding(entry.size)
            self._skip(member, self._position)
            self._members.add(name, member)
        elif entry.issym():
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.linkname))
            self._members.add(name, self._checked(target, name))
        elif entry.islnk():
            self._members.add(name, self._checked(entry.linkname, name))
        elif not entry.isdir():
            kind = REFUSED_KINDS.get(entry.type, f"of the unknown type {entry.type!r}")
            self._refuse(name, f"is {kind}, which is not allowed in an archive of images")
