"""Files to push as an artifact, and the annotations that `oras` gives them.

Follows: OCI Image Specification 1.1, "Guidelines for Artifact Usage"; the conventions of oras 1.3.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dockhand_core.errors import ArtifactInvalid
from dockhand_core.operations.artifacts.names import Parts, split_name
from dockhand_core.text import shown

__all__ = [
    "CONTENT_DIGEST",
    "CREATED",
    "MEMBERS",
    "TITLE",
    "UNPACK",
    "ArtifactFile",
]

TITLE = "org.opencontainers.image.title"  # the name of the file
CREATED = "org.opencontainers.image.created"
UNPACK = "io.deis.oras.content.unpack"  # "true" for a folder
CONTENT_DIGEST = "io.deis.oras.content.digest"  # of a folder's tar file before its compression

MEMBERS = 1 << 16  # files, folders and links in an artifact


@dataclass(frozen=True)
class ArtifactFile:
    """A file or folder to push as a layer of an artifact.

    Attributes:
        data_or_path: bytes, or the path (`Path` or `str`) of a file or folder.
        name: name in the artifact, with `/` between components; required for bytes. By default the
            path itself if it is relative and stays below the working directory, as with `oras`;
            otherwise its last component.
        media_type: media type of the layer; by default
            `application/vnd.oci.image.layer.v1.tar`, with `+gzip` for a folder.
        annotations: annotations of the layer, name to value, beside those for name and folder.
    """

    data_or_path: bytes | bytearray | memoryview | str | os.PathLike[str] = field(repr=False)
    name: str | None = None
    media_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes | Path:
        """The bytes, or the path of the file or folder.

        Raises:
            ArtifactInvalid: the content is neither bytes nor a path.
        """
        data = self.data_or_path
        if isinstance(data, bytes | bytearray | memoryview):
            return bytes(data)
        if isinstance(data, str | os.PathLike):
            return Path(data)
        raise ArtifactInvalid(
            f"a file of an artifact is bytes or a path, not {type(data).__name__}: "
            "ArtifactFile(data_or_path, name=…)"
        )

    @property
    def parts(self) -> Parts:
        """The components of the name in the artifact; none for the working directory itself.

        Raises:
            ArtifactInvalid: there is no name, or it is not allowed.
        """
        content = self.content
        name = self.name
        if name is None:
            if isinstance(content, bytes):
                raise ArtifactInvalid("bytes have no name: use ArtifactFile(data, name=…)")
            name = _name_of(content)
        elif not isinstance(name, str):
            raise ArtifactInvalid(f"the name of a file is a string, not {type(name).__name__}")
        parts = split_name(name, "the artifact to push")
        if not parts and not (isinstance(content, Path) and content.is_dir()):
            raise ArtifactInvalid(f"the name {shown(name)} names no file: use ArtifactFile(name=…)")
        return parts

    @classmethod
    def of(cls, file: str | os.PathLike[str] | ArtifactFile) -> ArtifactFile:
        """Make an `ArtifactFile` of a path; return an `ArtifactFile` unchanged."""
        if isinstance(file, bytes | bytearray | memoryview):
            raise ArtifactInvalid("bytes have no name: use ArtifactFile(data, name=…)")
        return file if isinstance(file, ArtifactFile) else cls(file)


def _name_of(path: Path) -> str:
    plain = Path(os.path.normpath(path))
    if plain.is_absolute() or plain.parts[:1] == ("..",):
        # without `resolve`, so that a symbolic link keeps its own name
        return Path(os.path.abspath(plain)).name or os.sep  # noqa: PTH100
    return plain.as_posix()
