"""The manifests and blobs that an image of an archive consists of, in the order of their push.

Everything here reads the archive, and no registry; it blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dockhand_core.errors import ArchiveInvalid, DigestInvalid, ManifestInvalid
from dockhand_core.flow import BytesSource, Source
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
from dockhand_core.operations.archive_files import ArchiveFiles, Region, read_file
from dockhand_core.operations.archive_images import blob_path
from dockhand_core.operations.archive_layers import Layer
from dockhand_core.operations.archive_tar import shown
from dockhand_core.operations.images import DEPTH
from dockhand_core.operations.platform_subset import check_platform, subset

__all__ = ["Blob", "Plan", "docker_config", "docker_plan", "layout_plan"]

MANIFESTS = 10_000  # manifests and indexes of one image
MANIFEST_BYTES = 32 << 20  # bytes of all of them

Document = ImageManifest | ImageIndex


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob of an archive.

    Attributes:
        member: name of the member that holds it.
        digest: its digest.
        source: its bytes.
        offset: offset in the archive, for archives that are read in order.
    """

    member: str
    digest: Digest
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


def layout_plan(
    files: ArchiveFiles,
    descriptor: Descriptor,
    platforms: Sequence[Platform],
) -> Plan:
    """Plan the push of an image in an image layout.

    Args:
        files: the files of the archive.
        descriptor: the descriptor of the image.
        platforms: the platforms to push; all of them if it is empty.

    Raises:
        ArchiveInvalid: a manifest or blob is missing or wrong; the message names the member, and
            the platforms that are complete.
        PlatformNotFound: the image lacks one of the platforms.
    """
    walk = _Walk(files)
    document = walk.document(descriptor)
    if document is None:
        path = blob_path(descriptor.digest)
        raise ArchiveInvalid(f"the archive lacks {path}, the manifest of its image", member=path)
    if platforms and isinstance(document, ImageIndex):
        document = subset(document, platforms)
    missing = walk.add(document, DEPTH)
    if missing:
        raise _incomplete(document, missing, walk)
    if platforms and isinstance(document, ImageManifest):
        config = files.find(blob_path(document.config.digest))
        check_platform(
            ImageConfig.parse(_verified(files, config, document.config)) if config else None,
            platforms,
            f"archive {files.path}",
        )
    return walk.plan


def _verified(files: ArchiveFiles, region: Region, descriptor: Descriptor) -> bytes:
    """Read a JSON document that a descriptor describes, and verify it."""
    _check_size(region, descriptor)
    raw = read_file(files, region)
    actual = Digest.of(raw, descriptor.digest.algorithm)
    if actual != descriptor.digest:
        raise ArchiveInvalid(
            f"member {shown(region.name)} has the digest {actual}", member=region.name
        )
    return raw


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

    def document(self, descriptor: Descriptor) -> Document | None:
        """Read a manifest or index; return None if the archive lacks it."""
        path = blob_path(descriptor.digest)
        region = self._files.find(path)
        if region is None:
            return None
        raw = _verified(self._files, region, descriptor)
        self._count += 1
        self._bytes += len(raw)
        if self._count > MANIFESTS or self._bytes > MANIFEST_BYTES:
            raise ArchiveInvalid(
                f"the image has more than {MANIFESTS} manifests, or {MANIFEST_BYTES} bytes of them"
            )
        try:
            return parse_manifest(raw, media_type=descriptor.media_type, digest=descriptor.digest)
        except ManifestInvalid as error:
            raise ArchiveInvalid(f"member {shown(path)}: {error}", member=path) from None

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
        document = self.document(entry)
        return [blob_path(entry.digest)] if document is None else self.add(document, depth)

    def _add_blob(self, descriptor: Descriptor, missing: list[str]) -> None:
        path = blob_path(descriptor.digest)
        region = self._files.find(path)
        if region is not None:
            _check_size(region, descriptor)
            blob = Blob(path, descriptor.digest, region, region.offset)
            self.plan.blobs.setdefault(descriptor.digest, blob)
        elif not descriptor.urls:  # layers with URLs need not be in a registry, nor in a layout
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
    if region.name in files.repeated or member in files.repeated:
        raise ArchiveInvalid(f"several members have the name {shown(member)}", member=member)
    raw = read_file(files, region)
    digest = Digest.of(raw)
    try:
        name = member.rpartition("/")[2].removesuffix(".json").removeprefix("sha256:")
        stated = Digest(f"sha256:{name}")
    except DigestInvalid:
        stated = digest  # the name is not a digest
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
        check_platform(config, platforms, f"archive {files.path}")
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
    plan.blobs[digest] = Blob(member, digest, BytesSource(config.raw))
    for layer in layers:
        blob = Blob(layer.member, layer.digest, layer.source, layer.offset)
        plan.blobs.setdefault(layer.digest, blob)
    return plan
