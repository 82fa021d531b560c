"""Builders: small images, indexes and artifacts, which a test can push to a registry.

The same arguments give the same bytes, and so the same digests.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from dockhand_core import (
    AsyncRegistryClient,
    Descriptor,
    Digest,
    ImageIndex,
    ImageManifest,
    Platform,
    RegistryClient,
)
from dockhand_core.models import media

__all__ = ["BuiltImage", "BuiltIndex", "build_artifact", "build_image", "build_index"]

M = TypeVar("M", ImageManifest, ImageIndex)

CREATED = "2026-01-02T03:04:05Z"
_TITLE = "org.opencontainers.image.title"


@dataclass(frozen=True)
class _Built(Generic[M]):
    manifest: M
    blobs: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return self.manifest.digest

    @property
    def raw(self) -> bytes:
        """The bytes of the manifest."""
        return self.manifest.raw

    def _parts(self) -> Sequence[BuiltImage]:
        return ()

    def push(self, client: RegistryClient, repository: str, *tags: str) -> Self:
        """Push everything to a repository; without a tag, the manifest is pushed by its digest."""
        for part in self._parts():
            part.push(client, repository)
        for digest, data in self.blobs.items():
            client.upload_blob(repository, data, digest=digest)
        for reference in tags or (self.digest,):
            client.put_manifest(repository, reference, self.manifest)
        return self

    async def async_push(self, client: AsyncRegistryClient, repository: str, *tags: str) -> Self:
        """Push like `push`, with an async client."""
        for part in self._parts():
            await part.async_push(client, repository)
        for digest, data in self.blobs.items():
            await client.upload_blob(repository, data, digest=digest)
        for reference in tags or (self.digest,):
            await client.put_manifest(repository, reference, self.manifest)
        return self


@dataclass(frozen=True)
class BuiltImage(_Built[ImageManifest]):
    """An image or artifact that was built.

    Attributes:
        manifest: the manifest; `digest` and `raw` are its digest and bytes.
        blobs: the configuration and the layers, by digest.
        platform: the platform of an image; None for an artifact.
    """

    platform: Platform | None = None

    def descriptor(self) -> Descriptor:
        """The descriptor of the manifest, as an index has it."""
        found = self.manifest.descriptor()
        return found.model_copy(update={"platform": self.platform}) if self.platform else found


@dataclass(frozen=True)
class BuiltIndex(_Built[ImageIndex]):
    """An index that was built.

    Attributes:
        manifest: the index; `digest` and `raw` are its digest and bytes.
        blobs: empty: the blobs belong to the images.
        images: the images of the index.
    """

    images: tuple[BuiltImage, ...] = ()

    def _parts(self) -> Sequence[BuiltImage]:
        return self.images


def build_image(
    platform: str = "linux/amd64",
    *,
    layers: Sequence[bytes | Mapping[str, bytes]] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    created: str = CREATED,
    config: Mapping[str, Any] | None = None,
) -> BuiltImage:
    """Build an image.

    Args:
        platform: the platform, such as `linux/arm64/v8`.
        layers: the layers: files by name, of which a compressed tar file is made, or the bytes of a
            tar file, compressed or not. By default one layer with a file `hello.txt`.
        labels: labels of the configuration.
        annotations: annotations of the manifest.
        created: time of creation in the configuration, as in RFC 3339.
        config: further fields of the configuration's table `config`, such as `Entrypoint`.
    """
    chosen = Platform.parse(platform)
    if layers is None:
        layers = [{"hello.txt": f"hello from {platform}\n".encode()}]
    blobs: dict[str, bytes] = {}
    described, diff_ids = [], []
    for layer in layers:
        data = layer if isinstance(layer, bytes) else gzip.compress(_tar(layer), mtime=0)
        packed = data.startswith(b"\x1f\x8b")
        kind = media.OCI_LAYER_GZIP if packed else media.OCI_LAYER
        described.append(_add(blobs, data, kind))
        diff_ids.append(str(Digest.of(gzip.decompress(data) if packed else data)))
    document: dict[str, Any] = {
        "architecture": chosen.architecture,
        "os": chosen.os,
        **({"variant": chosen.variant} if chosen.variant else {}),
        "created": created,
        "config": {**({"Labels": dict(labels)} if labels else {}), **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": created, "created_by": "dockhand_testing"} for _ in diff_ids],
    }
    manifest = ImageManifest(
        config=_add(blobs, json.dumps(document).encode(), media.OCI_CONFIG),
        layers=tuple(described),
        annotations=dict(annotations or {}),
    )
    return BuiltImage(manifest, blobs, chosen)


def build_index(
    *images: BuiltImage | str, annotations: Mapping[str, str] | None = None
) -> BuiltIndex:
    """Build an index.

    Args:
        images: its images, or platforms of which images are built; by default `linux/amd64` and
            `linux/arm64/v8`.
        annotations: annotations of the index.
    """
    built = tuple(
        build_image(image) if isinstance(image, str) else image
        for image in images or ("linux/amd64", "linux/arm64/v8")
    )
    index = ImageIndex(
        manifests=tuple(image.descriptor() for image in built), annotations=dict(annotations or {})
    )
    return BuiltIndex(index, {}, built)


def build_artifact(
    files: Mapping[str, bytes] | None = None,
    *,
    artifact_type: str = "application/vnd.example.artifact",
    media_type: str = "application/octet-stream",
    subject: BuiltImage | BuiltIndex | Descriptor | None = None,
    annotations: Mapping[str, str] | None = None,
) -> BuiltImage:
    """Build an artifact, which has a layer for each file.

    Args:
        files: the files by name; by default a file `hello.txt`.
        artifact_type: type of the artifact.
        media_type: media type of the files.
        subject: the manifest that the artifact refers to.
        annotations: annotations of the manifest.
    """
    blobs: dict[str, bytes] = {}
    layers = [
        _add(blobs, data, media_type, {_TITLE: name})
        for name, data in (files or {"hello.txt": b"hello\n"}).items()
    ]
    if isinstance(subject, BuiltImage | BuiltIndex):
        subject = subject.manifest.descriptor()
    manifest = ImageManifest(
        artifact_type=artifact_type,
        config=_add(blobs, b"{}", media.OCI_EMPTY),
        layers=tuple(layers),
        subject=subject,
        annotations=dict(annotations or {}),
    )
    return BuiltImage(manifest, blobs)


def _add(
    blobs: dict[str, bytes], data: bytes, kind: str, notes: Mapping[str, str] | None = None
) -> Descriptor:
    """Add a blob, and return its descriptor."""
    digest = Digest.of(data)
    blobs[str(digest)] = data
    return Descriptor(media_type=kind, digest=digest, size=len(data), annotations=dict(notes or {}))


def _tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()
