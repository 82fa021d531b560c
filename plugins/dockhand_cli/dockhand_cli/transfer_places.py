"""The ends of a transfer: images of registries, and archives on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from dockhand_cli.exit_codes import NOT_FOUND, CommandFailed, UsageError
from dockhand_cli.image_places import ImagePlace, image_place
from dockhand_cli.session import is_file

if TYPE_CHECKING:
    from dockhand_cli.session import Session

__all__ = [
    "ArchiveFormat",
    "ArchivePlace",
    "archive_format",
    "archive_to_read",
    "archive_to_write",
    "transfer_place",
]

ArchiveFormat: TypeAlias = Literal["oci", "oci-archive", "docker-archive"]

_COMPRESSED = (".gz", ".tgz", ".zst", ".xz", ".bz2")


@dataclass(frozen=True)
class ArchivePlace:
    """An archive on disk, as an argument names it.

    Attributes:
        text: the argument.
        format: the format to write; any format is read.
        path: the file, or the folder of the format `oci`.
        name: the image's tag or name in the archive, or None.
    """

    text: str
    format: ArchiveFormat
    path: Path
    name: str | None = None

    def check_readable(self) -> None:
        """Raise `CommandFailed` if there is no such file or folder, `UsageError` if it is `-`."""
        self._check_path()
        if not self.path.exists():
            raise CommandFailed(f"{self.path}: there is no such file or folder", NOT_FOUND)

    def check_writable(self, *, overwrite: bool) -> None:
        """Raise an error if the archive would replace a file.

        An image is added to a folder. A file without content may be replaced: programs such as
        `mktemp` make one.

        Args:
            overwrite: whether a file may be replaced.
        """
        self._check_path()
        path = self.path
        if not path.parent.is_dir():
            raise CommandFailed(f"{path}: there is no folder {path.parent}")
        if not path.exists():
            return
        if self.format == "oci":
            if not path.is_dir():
                raise CommandFailed(
                    f"{path} is a file; the format oci is a folder (oci-archive is a file)"
                )
        elif path.is_dir():
            raise CommandFailed(f"{path} is a folder; the format {self.format} is a file")
        elif not path.is_file():
            raise CommandFailed(f"{path} is not a regular file")
        elif path.stat().st_size and not overwrite:
            raise CommandFailed(f"{path} exists; --overwrite replaces it")

    def _check_path(self) -> None:
        if str(self.path) == "-":
            raise UsageError(
                "-: an archive is not read or written as a stream; name a file or a folder"
            )


def transfer_place(session: Session, text: str) -> ImagePlace | ArchivePlace:
    """Parse an argument that is an image, or a file such as `oci-archive:nginx.tar`.

    Raises:
        UsageError: a file has no path.
        ReferenceInvalid: an image is malformed.
        ConfigError: there is no such connection.
    """
    return _file_place(text) if is_file(text) else image_place(session, text)


def _file_place(text: str) -> ArchivePlace:
    """Parse an argument that is a file such as `oci-archive:nginx.tar`."""
    prefix, _, rest = text.partition(":")
    path, _, name = rest.partition(":")
    if Path(rest).exists():  # a name with colons
        path, name = rest, ""
    if not path:
        raise UsageError(f"{text}: a path is missing, such as {prefix}:nginx.tar")
    return ArchivePlace(text, cast("ArchiveFormat", prefix), Path(path), name or None)


def archive_to_write(path: Path, format: ArchiveFormat | None = None) -> ArchivePlace:  # noqa: A002
    """The archive that an argument names: a path, or a file as in `dockhand cp`.

    Args:
        path: the argument.
        format: the format to write; None for the one that the path suggests.

    Raises:
        UsageError: a file has no path, or another format; or the path has an unknown extension.
    """
    if not is_file(str(path)):
        return ArchivePlace(str(path), format or archive_format(path), path)
    place = _file_place(str(path))
    if format not in (None, place.format):
        raise UsageError(f"{path}: the format is {place.format}, and --format says {format}")
    return place


def archive_to_read(path: Path) -> ArchivePlace:
    """The archive that an argument names: a path, or a file as in `dockhand cp`.

    Raises:
        UsageError: a file has no path.
    """
    if is_file(str(path)):
        return _file_place(str(path))
    return ArchivePlace(str(path), "oci-archive", path)  # the format read is that of the content


def archive_format(path: Path) -> ArchiveFormat:
    """The format for a path: `oci-archive` for a name that ends in `.tar`, else the folder `oci`.

    Raises:
        UsageError: the name is that of a compressed file.
    """
    if path.suffix in _COMPRESSED:
        raise UsageError(f"{path}: archives are written without compression; name it ….tar")
    return "oci-archive" if path.suffix == ".tar" else "oci"
