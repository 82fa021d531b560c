"""The ends of a transfer: images of registries, and archives on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from dockhand_cli.exit_codes import NOT_FOUND, CommandFailed, UsageError
from dockhand_cli.session import is_file

if TYPE_CHECKING:
    from dockhand_cli.session import Session
    from dockhand_core import RegistryClient

__all__ = [
    "ArchiveFormat",
    "ArchivePlace",
    "ImagePlace",
    "archive_format",
    "archive_place",
    "image_place",
    "platforms_of",
    "transfer_place",
]

ArchiveFormat: TypeAlias = Literal["oci", "oci-archive", "docker-archive"]

_COMPRESSED = (".gz", ".tgz", ".zst", ".xz", ".bz2")


@dataclass(frozen=True)
class ImagePlace:
    """An image of a registry, as an argument names it.

    Attributes:
        client: the client of the registry.
        repository: the repository's name at the registry.
        name: the repository as the argument writes it, such as `@staging/app`.
        tag: the tag that the argument states, or None.
        digest: the digest that the argument states, or None.
    """

    client: RegistryClient
    repository: str
    name: str
    tag: str | None
    digest: str | None

    @property
    def reference(self) -> str:
        """The digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    @property
    def named_tag(self) -> str | None:
        """The tag, which is `latest` by default; None if only a digest is stated."""
        return self.tag or (None if self.digest else "latest")

    def __str__(self) -> str:
        return _text(self.name, self.named_tag, self.digest)

    def with_reference(self, tag: str | None, digest: str | None = None) -> str:
        """Write a tag and a digest of the same repository as an argument."""
        return _text(self.name, tag, digest)


def _text(name: str, tag: str | None, digest: str | None) -> str:
    return name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


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
    if not is_file(text):
        return image_place(session, text)
    prefix, _, rest = text.partition(":")
    path, _, name = rest.partition(":")
    if Path(rest).exists():  # a name with colons
        path, name = rest, ""
    if not path:
        raise UsageError(f"{text}: a path is missing, such as {prefix}:nginx.tar")
    return ArchivePlace(text, cast("ArchiveFormat", prefix), Path(path), name or None)


def image_place(session: Session, text: str) -> ImagePlace:
    """Parse an argument that is an image.

    Raises:
        UsageError: it is a file.
        ReferenceInvalid: it is malformed.
        ConfigError: there is no such connection.
    """
    place = session.place(text)
    folder, slash, last = text.rpartition("/")
    last, _, digest = last.partition("@")
    last, _, tag = last.partition(":")
    return ImagePlace(
        place.client, place.repository, f"{folder}{slash}{last}", tag or None, digest or None
    )


def archive_place(path: Path, format: ArchiveFormat | None = None) -> ArchivePlace:  # noqa: A002
    """The archive at a path.

    Args:
        path: the file or folder.
        format: the format to write; None for the one that the path suggests.

    Raises:
        UsageError: the path has a prefix, as in `dockhand cp`, or an unknown extension.
    """
    if is_file(str(path)):
        prefix, _, rest = str(path).partition(":")
        raise UsageError(
            f"{path}: this command takes a path alone: {rest or 'PATH'} --format {prefix} "
            "(dockhand cp takes both in one)"
        )
    return ArchivePlace(str(path), format or archive_format(path), path)


def archive_format(path: Path) -> ArchiveFormat:
    """The format for a path: `oci-archive` for a name that ends in `.tar`, else the folder `oci`.

    Raises:
        UsageError: the name is that of a compressed file.
    """
    if path.suffix in _COMPRESSED:
        raise UsageError(f"{path}: archives are written without compression; name it ….tar")
    return "oci-archive" if path.suffix == ".tar" else "oci"


def platforms_of(values: Iterable[str]) -> list[str] | None:
    """Split the values of the option `--platforms` at commas; None if there are none."""
    platforms = [each.strip() for value in values for each in value.split(",") if each.strip()]
    return platforms or None
