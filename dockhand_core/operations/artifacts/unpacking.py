"""Files of an artifact in a temporary folder, until all are there and can be moved to their places.

The temporary folder lies in the folder that the artifact is pulled into, so that moving a file is
renaming it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from dockhand_core.errors import (
    ArtifactFileExists,
    ArtifactInvalid,
    DownloadFileRefused,
)
from dockhand_core.operations.artifacts.files import MEMBERS
from dockhand_core.operations.artifacts.names import Parts, link_fault, split_name
from dockhand_core.operations.artifacts.tar import Member, TarReader
from dockhand_core.text import shown

__all__ = ["PulledFiles"]

# The errors of a system that has no files with such names.
_NAME_ERRORS = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP})


class PulledFiles:
    """The files of an artifact, in a temporary folder.

    Args:
        folder: the folder that the artifact is pulled into; it is made if it does not exist.
        limit: maximum number of bytes to write.
        subject: the start of error messages.

    Raises:
        DownloadFileRefused: `folder` is not a folder, or cannot be written to.
    """

    def __init__(self, folder: Path, limit: int, subject: str) -> None:
        self._folder, self._limit, self._subject = folder, limit, subject
        self._left = limit
        self._nodes = 0
        self._files: set[Parts] = set()
        self._links: dict[Parts, str] = {}
        self._link_roots: dict[Parts, Parts] = {}
        self._folders: dict[Parts, Member | None] = {(): None}
        self._made: list[Path] = []  # folders above and at `folder` that did not exist before
        self._placed = False
        self._temporary = folder / f".dockhand-{secrets.token_hex(8)}"
        try:
            self._make_folder(folder)
            self._temporary.mkdir(0o700)
            for name in ("files", "blobs", "replaced"):
                (self._temporary / name).mkdir()
        except OSError as error:
            self.remove()
            raise DownloadFileRefused(
                f"{shown(str(folder))}: no files can be written to the folder: "
                f"{error.strerror or error}"
            ) from error
        except BaseException:
            self.remove()
            raise

    def _make_folder(self, folder: Path) -> None:
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            try:
                path.mkdir()
            except FileExistsError:
                if not path.is_dir():
                    raise
            else:  # otherwise another pull made it meanwhile
                self._made.append(path)

    def blob_path(self, number: int) -> Path:
        """The path to download a layer to."""
        return self._temporary / "blobs" / str(number)

    def refuse(self, reason: str) -> NoReturn:
        """Raise `ArtifactInvalid` with a reason."""
        raise ArtifactInvalid(f"{self._subject}: {reason}")

    # -- the files -------------------------------------------------------------------------

    def add_file(self, parts: Parts, blob: Path) -> None:
        """Take over a layer that is a file."""
        with self._names_accepted(parts):
            path = self._new(parts)
            self._count_bytes(parts, blob.stat().st_size)
            if os.path.lexists(path):
                raise FileExistsError
            blob.rename(path)
        self._files.add(parts)

    def unpack(self, parts: Parts, blob: Path, digest: str | None) -> None:
        """Unpack a layer that is a folder, and delete the layer.

        Args:
            parts: the name of the folder, with which the members' names begin.
            blob: the compressed tar file.
            digest: the digest that the tar file must have, or None.
        """
        self._folder_at(parts)
        title = "/".join(parts) or "."
        subject = f"{self._subject}: the folder {shown(title)}"
        with blob.open("rb") as file:
            reader = TarReader(file, subject)
            if not blob.stat().st_size:
                reader.refuse("the layer is empty, instead of a gzip file")
            for member in reader.members():
                name = split_name(member.name, subject)
                if name[: len(parts)] != parts:
                    reader.refuse(f"the member {shown(member.name)} does not lie in the folder")
                with self._names_accepted(name):
                    self._add_member(reader, name, member, parts)
            if digest is not None and reader.digest != digest:
                reader.refuse(f"the tar file has the digest {reader.digest}, not {shown(digest)}")
        blob.unlink()

    def _add_member(self, reader: TarReader, name: Parts, member: Member, root: Parts) -> None:
        if member.kind == "folder":
            self._folder_at(name)
            if name:
                self._folders[name] = member
            return
        path = self._new(name)
        if member.kind == "symlink":
            self._links[name], self._link_roots[name] = member.target, root
            return
        if member.kind == "link":
            target = split_name(
                member.target, f"{self._subject}: the target of {shown('/'.join(name))}"
            )
            if target not in self._files or target[: len(root)] != root:
                reader.refuse(
                    f"the hard link {shown(member.name)} does not lead to a file before it"
                )
            path.hardlink_to(self._path(target))
        else:
            self._count_bytes(name, member.size)
            with path.open("xb", buffering=0) as file:
                for block in reader.content():
                    _write_all(file.write, block)
            path.chmod(member.mode)
            _set_time(path, member.mtime)
        self._files.add(name)

    def _path(self, parts: Parts) -> Path:
        return self._temporary.joinpath("files", *parts)

    def _new(self, parts: Parts) -> Path:
        """Check that a name is new, make the folders above it, and return its path."""
        if parts in self._folders or parts in self._files or parts in self._links:
            self.refuse(f"two files have the name {shown('/'.join(parts))}")
        self._folder_at(parts[:-1])
        self._count_node()
        return self._path(parts)

    def _folder_at(self, parts: Parts) -> None:
        """Make a folder and those above it, unless the artifact has them already."""
        for length in range(1, len(parts) + 1):
            above = parts[:length]
            if above in self._folders:
                continue
            if above in self._files or above in self._links:
                self.refuse(
                    f"{shown('/'.join(parts))} leads through {shown('/'.join(above))}, which is "
                    f"a {'file' if above in self._files else 'link'} of the artifact"
                )
            self._count_node()
            with self._names_accepted(above):
                self._path(above).mkdir()
            self._folders[above] = None

    def _count_node(self) -> None:
        self._nodes += 1
        if self._nodes > MEMBERS:
            self.refuse(f"it has more than {MEMBERS} files")

    def _count_bytes(self, parts: Parts, size: int) -> None:
        self._left -= size
        if self._left < 0:
            self.refuse(
                f"with {shown('/'.join(parts))}, it has more than {self._limit} bytes; max_size "
                "allows more"
            )

    @contextmanager
    def _names_accepted(self, parts: Parts) -> Iterator[None]:
        """Raise `ArtifactInvalid` if the file system cannot have a file with this name."""
        try:
            yield
        except FileExistsError:
            self.refuse(
                f"{shown('/'.join(parts))} and another name of the artifact name the same file, "
                "because this file system ignores case or the form of characters"
            )
        except OSError as error:
            if error.errno not in _NAME_ERRORS:
                raise
            self.refuse(f"{shown('/'.join(parts))} cannot be a file here: {error.strerror}")

    # -- the move --------------------------------------------------------------------------

    def place(self, *, overwrite: bool) -> None:
        """Move all files to their places; if one cannot be moved, move the others back.

        Raises:
            ArtifactFileExists: a file exists already, and `overwrite` is false.
            DownloadFileRefused: a link or a file stands in the place of a folder, or a folder in
                that of a file.
            ArtifactInvalid: a link leads out of its folder.
        """
        self._make_links()
        for parts, member in reversed(self._folders.items()):
            if member is not None:  # late, since a folder may be read-only, and gets files
                self._path(parts).chmod(member.mode | 0o700)
                _set_time(self._path(parts), member.mtime)
        moves = list(self._moves((), overwrite=overwrite))
        undo: list[Callable[[], object]] = []
        try:
            for number, (parts, replaces) in enumerate(moves):
                self._move(parts, self._temporary / "replaced" / str(number), replaces, undo)
        except BaseException:
            for step in reversed(undo):
                with suppress(OSError):
                    step()
            raise
        self._placed = True

    def _move(
        self, parts: Parts, old: Path, replaces: bool, undo: list[Callable[[], object]]
    ) -> None:
        source, target = self._path(parts), self._folder.joinpath(*parts)
        if replaces:
            try:  # the file never lacks, if the file system has hard links
                os.link(target, old, follow_symlinks=False)
            except (OSError, NotImplementedError):
                target.rename(old)
            undo.append(lambda: old.replace(target))
            source.replace(target)
            return
        if os.path.lexists(target):
            self._exists(parts)
        try:  # unlike a rename, a hard link never replaces what came meanwhile
            if parts in self._folders:
                raise NotImplementedError
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            self._exists(parts)
        except (OSError, NotImplementedError):
            source.rename(target)
            undo.append(lambda: target.rename(source))
        else:
            undo.append(target.unlink)

    def _moves(self, above: Parts, *, overwrite: bool) -> Iterator[tuple[Parts, bool]]:
        """Iterate over the files and whole folders to move, and whether they replace files."""
        for entry in sorted(os.scandir(self._path(above)), key=lambda entry: entry.name):
            parts = (*above, entry.name)
            target = self._folder.joinpath(*parts)
            try:
                found = os.lstat(target)
            except FileNotFoundError:
                yield parts, False
                continue
            if entry.is_dir(follow_symlinks=False):
                if stat.S_ISLNK(found.st_mode):
                    raise _refused(target, "is a symbolic link, which is not followed")
                if not stat.S_ISDIR(found.st_mode):
                    raise _refused(target, "is a file, where the artifact has a folder")
                yield from self._moves(parts, overwrite=overwrite)
            elif stat.S_ISDIR(found.st_mode):
                raise _refused(target, "is a folder, where the artifact has a file")
            elif overwrite:
                yield parts, True
            else:
                self._exists(parts)

    def check_absent(self, parts: Parts) -> None:
        """Check that a file does not exist yet.

        Raises:
            ArtifactFileExists: it exists.
        """
        if os.path.lexists(self._folder.joinpath(*parts)):
            self._exists(parts)

    def _exists(self, parts: Parts) -> None:
        path = shown(str(self._folder.joinpath(*parts)))
        raise ArtifactFileExists(
            f"{path} exists already; overwrite=True replaces the files that the artifact has"
        )

    def _make_links(self) -> None:
        """Make the symbolic links, when all files are there, so that none is written through one.

        Raises:
            ArtifactInvalid: a link leads out of its folder.
        """
        for parts, target in self._links.items():
            root = self._link_roots[parts]
            fault = link_fault(parts[len(root) :], target, self._lookup(root))
            if fault is not None:
                self.refuse(f"the target of the link {shown('/'.join(parts))}, {fault}")
        for parts, target in self._links.items():
            with self._names_accepted(parts):
                self._path(parts).symlink_to(target)

    def _lookup(self, root: Parts) -> Callable[[Parts], str | None]:
        """Make the function that finds links, among those of the artifact and those of before."""
        merged = os.path.lexists(self._folder.joinpath(*root))

        def target_of(place: Parts) -> str | None:
            parts = (*root, *place)
            found = self._links.get(parts)
            if found is None and merged and parts not in self._folders:
                with suppress(OSError, ValueError):
                    found = str(self._folder.joinpath(*parts).readlink())
            return found

        return target_of

    def remove(self) -> None:
        """Delete the temporary folder; and the folder itself, if it was made for nothing."""
        shutil.rmtree(self._temporary, ignore_errors=True)
        if not self._placed:
            for path in reversed(self._made):
                with suppress(OSError):
                    path.rmdir()


def _write_all(write: Callable[[memoryview], int | None], block: bytes) -> None:
    rest = memoryview(block)
    while rest:  # on a full disk, a write may store only a part; the next write then raises
        rest = rest[write(rest) or 0 :]


def _set_time(path: Path, mtime: float) -> None:
    with suppress(OSError, ValueError, OverflowError):  # a time that this file system cannot have
        os.utime(path, (mtime, mtime))


def _refused(path: Path, reason: str) -> DownloadFileRefused:
    return DownloadFileRefused(f"{shown(str(path))} {reason}; move it away, or pull elsewhere")
