"""The manifests and blobs that an image of an archive consists of, in the order of their push.

Everything here reads the archive, and no registry; it blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ArchiveInvalid, DigestInvalid, ManifestInvalid, PlatformNotFound
from dockhand_core.flow import BytesSource, Flow, Source, blocking
from dockhand_core.models import (
    Descriptor,
    Digest,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    Platform,
    media,
    parse_manifest,
)
from dockhand_core.operations.archives.files import ArchiveFiles, Region, read_file
from dockhand_core.operations.archives.images import blob_path
from dockhand_core.operations.archives.layers import Layer
from dockhand_core.operations.copies.blob_transfer import is_distributable
from dockhand_core.operations.image_tree import DEPTH, platform_key
from dockhand_core.text import shown

__all__ = [
    "ArchiveDriver",
    "Blob",
    "Plan",
    "docker_config",
    "docker_plan",
    "layout_plan",
    "read_manifest",
]

MANIFESTS = 10_000  # manifests and indexes of one image
MANIFEST_BYTES = 32 << 20  # bytes of all of them

Document = ImageManifest | ImageIndex


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob of an archive.

    Attributes:
        member: name of the member that holds it.
        descriptor: its descriptor.
        source: its bytes.
        offset: offset in the archive, for archives that are read in order.
    """

    member: str
    descriptor: Descriptor
    source: Source
    offset: int = 0


@dataclass(slots=True)
class Plan:
    """The manifests and blobs to push.

    Attributes:
        documents: the manifests and indexes, each after those that it lists; the last one is the
            image itself.
        blobs: the blobs by digest.
    """

    documents: dict[Digest, Document] = field(default_factory=dict)
    blobs: dict[Digest, Blob] = field(default_factory=dict)

    @property
    def top(self) -> Document:
        """The manifest or index that gets the tag."""
        return list(self.documents.values())[-1]


class ArchiveDriver(RegistryDriver):
    """A driver for flows that read manifests and configs, here of an image layout.

    Args:
        files: the files of the archive.
    """

    def __init__(self, files: ArchiveFiles) -> None:
        super().__init__(None)
        self._files = files

    def manifest(self, repository: str, reference: str | Descriptor) -> Flow[Document]:  # noqa: ARG002
        """Read a manifest or index; only descriptors are supported."""
        assert isinstance(reference, Descriptor)
        return (yield from blocking(read_manifest, self._files, reference))

    def image_config(
        self,
        repository: str,  # noqa: ARG002
        source: ImageManifest | Descriptor,
    ) -> Flow[ImageConfig]:
        """Read the config of an image."""
        descriptor = source.config if isinstance(source, ImageManifest) else source
        raw = yield from blocking(_read, self._files, descriptor)
        return ImageConfig.parse(raw)


def read_manifest(files: ArchiveFiles, descriptor: Descriptor) -> Document:
    """Read a manifest or index of an image layout.

    Raises:
        ArchiveInvalid: the archive lacks it, or it is malformed or not what its descriptor states.
    """
    raw = _read(files, descriptor)
    try:
        return parse_manifest(raw, media_type=descriptor.media_type, digest=descriptor.digest)
    except ManifestInvalid as error:
        path = blob_path(descriptor.digest)
        raise ArchiveInvalid(f"member {shown(path)}: {error}", member=path) from None


def _read(files: ArchiveFiles, descriptor: Descriptor) -> bytes:
    """Read a JSON document that a descriptor describes, and verify it."""
    path = blob_path(descriptor.digest)
    region = files.find(path)
    if region is None:
        raise ArchiveInvalid(f"the archive lacks the member {path}", member=path)
    _check_size(region, descriptor)
    raw = read_file(files, region)
    actual = Digest.of(raw, descriptor.digest.algorithm)
    if actual != descriptor.digest:
        raise ArchiveInvalid(f"member {shown(path)} has the digest {actual}", member=path)
    return raw


def layout_plan(files: ArchiveFiles, document: Document) -> Plan:
    """Plan the push of an image in an image layout.

    Args:
        files: the files of the archive.
        document: the manifest or index of the image.

    Raises:
        ArchiveInvalid: a manifest or blob is missing or wrong; the message names the member, and
            the platforms that are complete.
    """
    walk = _Walk(files)
    missing = walk.add(document, DEPTH)
    if missing:
        raise _incomplete(document, missing, walk)
    return walk.plan


def _check_size(region: Region, descriptor: Descriptor) -> None:
    if region.size != descriptor.size:
        raise ArchiveInvalid(
            f"member {shown(region.name)} has {region.size} bytes, but its descriptor states "
            f"{descriptor.size}",
            member=region.name,
        )


class _Walk:
    """The walk from an image down to its blobs."""

    def __init__(self, files: ArchiveFiles) -> None:
        self._files = files
        self.plan = Plan()
        self._count = self._bytes = 0
        self.missing: dict[Digest, list[str]] = {}  # the members that manifests lack

    def _document(self, descriptor: Descriptor) -> Document | None:
        """Read a manifest or index; return None if the archive lacks it."""
        if self._files.find(blob_path(descriptor.digest)) is None:
            return None
        document = read_manifest(self._files, descriptor)
        self._count += 1
        self._bytes += len(document.raw)
        if self._count > MANIFESTS or self._bytes > MANIFEST_BYTES:
            raise ArchiveInvalid(
                f"the image has more than {MANIFESTS} manifests, or {MANIFEST_BYTES} bytes of them"
            )
        return document

    def add(self, document: Document, depth: int) -> list[str]:
        """Add a manifest or index with everything below it to the plan.

        Returns:
            the names of the members that the archive lacks.
        """
        if document.digest in self.plan.documents:
            return []
        missing: list[str] = []
        if isinstance(document, ImageManifest):
            for descriptor in (document.config, *document.layers):
                self._add_blob(descriptor, missing)
        elif depth == 0:
            raise ArchiveInvalid(
                f"member {shown(blob_path(document.digest))}: indexes within indexes, more than "
                f"{DEPTH} deep",
                member=blob_path(document.digest),
            )
        else:
            for entry in document.manifests:
                lacking = self._add_entry(entry, depth - 1)
                missing += lacking
                if lacking:
                    self.missing[entry.digest] = lacking
        self.plan.documents[document.digest] = document
        return missing

    def _add_entry(self, entry: Descriptor, depth: int) -> list[str]:
        if entry.digest in self.plan.documents:
            return []
        if entry.media_type not in media.MANIFESTS | media.INDEXES:
            missing: list[str] = []  # an index may list any content, such as an SBOM
            self._add_blob(entry, missing)
            return missing
        document = self._document(entry)
        return [blob_path(entry.digest)] if document is None else self.add(document, depth)

    def _add_blob(self, descriptor: Descriptor, missing: list[str]) -> None:
        path = blob_path(descriptor.digest)
        region = self._files.find(path)
        if region is not None:
            _check_size(region, descriptor)
            blob = Blob(path, descriptor, region, region.offset)
            self.plan.blobs.setdefault(descriptor.digest, blob)
        elif not descriptor.urls and is_distributable(descriptor):
            missing.append(path)


def _incomplete(document: Document, missing: Sequence[str], walk: _Walk) -> ArchiveInvalid:
    """The error for an image of which the archive holds a part."""
    hint = ""
    if isinstance(document, ImageIndex):
        complete = [
            str(entry.platform)
            for entry in document.manifests
            if entry.platform
            and entry.platform.os != "unknown"
            and entry.digest not in walk.missing
        ]
        hint = f"; complete are the platforms: {', '.join(complete) or 'none'}"
        if complete:
            hint += f"; platforms={complete[:1]!r} takes one of them"
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return ArchiveInvalid(
        f"the archive lacks the member {missing[0]}{more}, which the image needs{hint}",
        member=missing[0],
    )


def docker_config(
    files: ArchiveFiles, member: str, layers: Sequence[str], platforms: Sequence[Platform]
) -> tuple[ImageConfig, Digest]:
    """Read the config of an image in a docker-archive.

    Args:
        files: the files of the archive.
        member: the name of the config.
        layers: the names of the layers.
        platforms: the platforms of which the image must have one; any if it is empty.

    Raises:
        ArchiveInvalid: the config is missing or malformed, or it has not the digest that its name
            states, or not as many layers as the archive.
        PlatformNotFound: the image has another platform.
    """
    region = files.find(member)
    if region is None:
        raise ArchiveInvalid(f"the archive lacks the config {shown(member)}", member=member)
    raw = read_file(files, region)
    digest = Digest.of(raw)
    try:
        name = member.rpartition("/")[2].removesuffix(".json").removeprefix("sha256:")
        stated = Digest(f"sha256:{name}")
    except DigestInvalid:
        stated = digest
        if member in files.repeated or region.name in files.repeated:  # and nothing verifies it
            raise ArchiveInvalid(
                f"several members have the name {shown(member)}", member=member
            ) from None
    if digest != stated:
        raise ArchiveInvalid(f"member {shown(member)} has the digest {digest}", member=member)
    try:
        config = ImageConfig.parse(raw)
        diff_ids = [Digest(text) for text in config.diff_ids]
    except (ManifestInvalid, DigestInvalid) as error:
        raise ArchiveInvalid(f"member {shown(member)}: {error}", member=member) from None
    if len(diff_ids) != len(layers):
        raise ArchiveInvalid(
            f"member {shown(member)} has {len(diff_ids)} layers (rootfs.diff_ids), but "
            f"manifest.json lists {len(layers)}",
            member=member,
        )
    if platforms:
        _check_platform(config, platforms, files)
    return config, digest


def docker_plan(member: str, config: ImageConfig, digest: Digest, layers: Sequence[Layer]) -> Plan:
    """Plan the push of an image in a docker-archive, with a new OCI manifest.

    Args:
        member: the name of the config.
        config: the config; its bytes are pushed unchanged.
        digest: the digest of the config.
        layers: the layers, as they are pushed.
    """
    manifest = ImageManifest(
        config=Descriptor(media_type=media.OCI_CONFIG, digest=digest, size=len(config.raw)),
        layers=tuple(
            Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.source.size)
            for layer in layers
        ),
    )
    plan = Plan({manifest.digest: manifest})
    plan.blobs[digest] = Blob(member, manifest.config, BytesSource(config.raw))
    for layer, descriptor in zip(layers, manifest.layers, strict=True):
        blob = Blob(layer.member, descriptor, layer.source, layer.offset)
        plan.blobs.setdefault(layer.digest, blob)
    return plan


def _check_platform(
    config: ImageConfig, platforms: Sequence[Platform], files: ArchiveFiles
) -> None:
    """Check that the image of a docker-archive has one of the platforms that are asked for."""
    found = config.platform
    if found is None or platform_key(found) not in map(platform_key, platforms):
        raise PlatformNotFound(
            f"archive {files.path}: no image for {', '.join(map(str, platforms))}; it has: "
            f"{found or 'none'}"
        )
