"""The images that an archive holds, and the choice of one of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dockhand_core.errors import ArchiveInvalid, ManifestInvalid
from dockhand_core.models import Descriptor, Digest, ImageIndex, Platform, media, parse_manifest
from dockhand_core.operations.archives.files import ArchiveFiles, read_document
from dockhand_core.text import printable, shown

__all__ = [
    "CONTAINERD_NAME",
    "REF_NAME",
    "ArchivedImage",
    "blob_path",
    "check_layout",
    "choose",
    "images_of",
]

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"  # the whole name; `docker save` and nerdctl write it
LISTED = 20  # images that an error message names

_DOCKER_HUB = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """An image in an archive.

    Attributes:
        names: the tags and names that the archive gives it.
        descriptor: the descriptor of its manifest or index, in an image layout; otherwise None.
        config: the member with its config, in a docker-archive.
        layers: the members with its layers, in a docker-archive.
    """

    names: tuple[str, ...]
    descriptor: Descriptor | None = None
    config: str = ""
    layers: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A text that is equal for two names of the same image."""
        return str(self.descriptor.digest) if self.descriptor else self.config

    def __str__(self) -> str:
        names = " = ".join(self.names) or "without a name"
        return printable(f"{names} ({self.key})")[:300]


def images_of(files: ArchiveFiles) -> list[ArchivedImage]:
    """List the images in an archive.

    An archive of `docker save` is an image layout and a docker-archive since Docker 25. Then it is
    read as an image layout, which has the manifests.

    Raises:
        ArchiveInvalid: the archive is neither, or its list of images is malformed.
    """
    index = read_document(files, "index.json")
    if index is not None and files.find("oci-layout") is not None:
        check_layout(files)
        return _layout_images(index)
    manifest = read_document(files, "manifest.json")
    if manifest is not None:
        return _docker_images(manifest)
    missing = "manifest.json" if files.find("repositories") is not None else "index.json"
    reason = "neither an image layout (oci-layout, index.json) nor a docker-archive (manifest.json)"
    if missing == "manifest.json":
        reason = "an archive of a Docker before 1.10, without manifest.json, which is not supported"
    raise ArchiveInvalid(f"{files.path} is {reason}", member=missing)


def check_layout(files: ArchiveFiles) -> None:
    """Check that an archive is an image layout of a version that is known.

    Raises:
        ArchiveInvalid: it has no file `oci-layout`, or one of another version.
    """
    raw = read_document(files, "oci-layout")
    if raw is None:
        raise ArchiveInvalid(
            f"{files.path} is no image layout: it has no file oci-layout", member="oci-layout"
        )
    version = _parsed("oci-layout", raw, dict).get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise ArchiveInvalid(
            f"member 'oci-layout': the layout's version is {shown(str(version))}, not 1.0.0",
            member="oci-layout",
        )


def blob_path(digest: Digest) -> str:
    """The path of a blob in an image layout.

    Raises:
        DigestInvalid: the digest's algorithm is neither sha256 nor sha512.
    """
    digest.hasher()  # refuses other algorithms, whose digests may have any characters
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def _layout_images(raw: bytes) -> list[ArchivedImage]:
    try:
        index = parse_manifest(raw, media_type=media.OCI_INDEX)
    except ManifestInvalid as error:
        raise ArchiveInvalid(f"member 'index.json': {error}", member="index.json") from None
    if not isinstance(index, ImageIndex):
        raise ArchiveInvalid("member 'index.json' is not an index", member="index.json")
    names: dict[Any, list[str]] = {}
    first: dict[Any, Descriptor] = {}
    for entry in index.manifests:
        first.setdefault(entry.digest, entry)
        found = names.setdefault(entry.digest, [])
        for key in (CONTAINERD_NAME, REF_NAME):
            name = entry.annotations.get(key)
            if name and name not in found:
                found.append(name)
    return [ArchivedImage(tuple(names[digest]), entry) for digest, entry in first.items()]


def _docker_images(raw: bytes) -> list[ArchivedImage]:
    images: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for entry in _parsed("manifest.json", raw, list):
        fields = entry if isinstance(entry, dict) else {}
        config = fields.get("Config")
        layers, tags = fields.get("Layers") or [], fields.get("RepoTags") or []
        if not isinstance(config, str) or not _texts(layers) or not _texts(tags):
            raise ArchiveInvalid(
                "member 'manifest.json': an entry needs Config, a name, and Layers and RepoTags, "
                "lists of names",
                member="manifest.json",
            )
        images.setdefault((config, tuple(layers)), []).extend(tags)
    return [
        ArchivedImage(tuple(dict.fromkeys(names)), None, config, layers)
        for (config, layers), names in images.items()
    ]


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _parsed(name: str, raw: bytes, kind: type[Any]) -> Any:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ArchiveInvalid(f"member {shown(name)} is not JSON: {error}", member=name) from None
    if not isinstance(document, kind):
        due = "an object" if kind is dict else "an array"
        raise ArchiveInvalid(f"member {shown(name)} is not {due} of JSON", member=name)
    return document


def choose(
    images: Sequence[ArchivedImage], source: str | None, platforms: Sequence[Platform]
) -> ArchivedImage:
    """Choose an image of an archive.

    Args:
        images: the images of the archive.
        source: a tag, a name or a digest; None if the archive has only one image.
        platforms: the platforms that are asked for. They decide between images of which the archive
            states the platform.

    Raises:
        ArchiveInvalid: no image or several images are meant; the message lists the images.
    """
    found = list(images) if source is None else _called(images, source)
    if len(found) > 1 and len(platforms) == 1:
        found = [image for image in found if _states(image, platforms[0])] or found
    if len(found) == 1:
        return found[0]
    held = ", ".join(str(image) for image in images[:LISTED]) or "none"
    if len(images) > LISTED:
        held += f" and {len(images) - LISTED} more"
    if not images:
        problem = "the archive holds no image"
    elif source is None:
        problem = f"the archive holds {len(images)} images; choose one with source=…"
    elif found:
        problem = f"{len(found)} images of the archive are called {shown(source)}"
    else:
        problem = f"no image of the archive is called {shown(source)}"
    raise ArchiveInvalid(f"{problem}: {held}" if images else problem)


def _states(image: ArchivedImage, platform: Platform) -> bool:
    stated = image.descriptor.platform if image.descriptor else None
    return stated is not None and stated.normalized() == platform.normalized()


def _called(images: Sequence[ArchivedImage], source: str) -> list[ArchivedImage]:
    """The images that a text names; an exact match counts more than one of the tag alone."""
    for matches in (_is_exact, _is_name, _is_tag, _is_repository):
        found = [image for image in images if matches(image, source)]
        if found:
            return found
    return []


def _is_exact(image: ArchivedImage, source: str) -> bool:
    return source in image.names or source == image.key


def _is_name(image: ArchivedImage, source: str) -> bool:
    return _full(source) in map(_full, image.names)


def _is_tag(image: ArchivedImage, source: str) -> bool:
    return source in (tag for _, tag in map(_split, image.names))


def _is_repository(image: ArchivedImage, source: str) -> bool:
    return _short(source) in (_short(name) for name, _ in map(_split, image.names))


def _split(name: str) -> tuple[str, str]:
    """Split a name into repository and tag; the tag may be empty."""
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "")


def _short(name: str) -> str:
    """A name without the host and the namespace that docker adds to short names."""
    for host in _DOCKER_HUB:
        name = name.removeprefix(host)
    return name.removeprefix("library/")


def _full(name: str) -> str:
    repository, tag = _split(name)
    return f"{_short(repository)}:{tag or 'latest'}"
