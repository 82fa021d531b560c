"""Images with real layers, and archives of images as `docker save` writes them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockhand_testing.contracts.samples import push_blob

from dockhand_core import ImageIndex, ImageManifest, Platform, RegistryClient
from dockhand_core.models import media


@dataclass(frozen=True)
class Image:
    """The contents of an image.

    Attributes:
        config: the bytes of the config.
        layers: the layers, each a tar file without compression.
    """

    config: bytes
    layers: tuple[bytes, ...]

    @property
    def id(self) -> str:
        """The digest of the config, in hex digits."""
        return sha256(self.config)


def sha256(data: bytes) -> str:
    """The SHA-256 of some bytes, in hex digits."""
    return hashlib.sha256(data).hexdigest()


def tar_of(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Make a tar file of regular files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def make_image(architecture: str = "amd64", *, layers: int = 3, size: int = 20_000) -> Image:
    """Make an image whose layers have random contents, always the same for the same arguments.

    Args:
        architecture: the processor architecture in the config.
        layers: number of layers.
        size: size of the file in each layer in bytes.
    """
    noise = random.Random(f"{architecture} {layers} {size}")
    tars = tuple(tar_of([(f"file{n}", noise.randbytes(size))]) for n in range(layers))
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "config": {"Cmd": ["/run"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(tar)}" for tar in tars]},
        "history": [{"created_by": f"layer {n}"} for n in range(layers)],
    }
    return Image(json.dumps(config).encode(), tars)


def push(registry: RegistryClient, repository: str, tag: str, image: Image) -> ImageManifest:
    """Push an image with layers in gzip, and return its manifest."""
    layers = tuple(
        push_blob(registry, repository, gzip.compress(tar, mtime=0), media.OCI_LAYER_GZIP)
        for tar in image.layers
    )
    config = push_blob(registry, repository, image.config, media.OCI_CONFIG)
    manifest = ImageManifest(config=config, layers=layers)
    registry.put_manifest(repository, tag, manifest)
    return manifest


def push_platforms(registry: RegistryClient, repository: str, tag: str) -> ImageIndex:
    """Push an index with images for amd64 and arm64, each with an attestation."""
    entries = []
    for architecture in ("amd64", "arm64"):
        manifest = push(registry, repository, architecture, make_image(architecture))
        platform = Platform("linux", architecture)
        entry = manifest.descriptor().model_copy(update={"platform": platform})
        statement = push(registry, repository, f"about-{architecture}", make_image("unknown"))
        statement = statement.model_copy(update={"annotations": {"of": architecture}})
        registry.put_manifest(repository, statement.digest, statement)
        about = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": str(manifest.digest),
        }
        unknown = {"platform": Platform("unknown", "unknown"), "annotations": about}
        entries += [entry, statement.descriptor().model_copy(update=unknown)]
    index = ImageIndex(manifests=tuple(entries), annotations={"made": "by a test"})
    registry.put_manifest(repository, tag, index)
    return index


Member = tuple[str, bytes | str | None]  # a file's content, a link's target, or None for a folder


def write_tar(path: Path, members: Iterable[Member], *, compressed: bool = False) -> Path:
    """Write a tar file with files, symbolic links and folders."""
    with tarfile.open(path, "w:gz" if compressed else "w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            else:
                entry.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE
                entry.linkname = content or ""
                tar.addfile(entry)
    return path


def old_docker_save(images: Mapping[str, Image]) -> list[Member]:
    """The members of an archive as `docker save` wrote it before Docker 25, by RepoTag.

    Each layer has a folder, named by an id that is not a digest; a layer that occurs a second time
    is a symbolic link. `manifest.json` and `repositories` are at the end.
    """
    members: list[Member] = []
    seen: dict[str, str] = {}
    manifest: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for tag, image in images.items():
        paths = []
        layer_id = ""
        for number, tar in enumerate(image.layers):
            layer_id = sha256(f"{tag} {number}".encode())
            link = seen.get(sha256(tar))
            seen.setdefault(sha256(tar), f"{layer_id}/layer.tar")
            members += [
                (f"{layer_id}/", None),
                (f"{layer_id}/VERSION", b"1.0"),
                (f"{layer_id}/json", json.dumps({"id": layer_id}).encode()),
                (f"{layer_id}/layer.tar", f"../{link}" if link else tar),
            ]
            paths.append(f"{layer_id}/layer.tar")
        members.append((f"{image.id}.json", image.config))
        manifest.append({"Config": f"{image.id}.json", "RepoTags": [tag], "Layers": paths})
        repository, _, version = tag.rpartition(":")
        repositories.setdefault(repository, {})[version] = layer_id
    members.append(("manifest.json", json.dumps(manifest).encode()))
    members.append(("repositories", json.dumps(repositories).encode()))
    return members


def new_docker_save(
    tag: str, images: Mapping[str, Image], *, missing: Iterable[str] = ()
) -> tuple[list[Member], ImageIndex]:
    """The members of an archive as `docker save` writes it since Docker 25, and the image's index.

    It is an image layout with a `manifest.json`. Docker's image store of containerd lists all
    platforms in the index, but writes only the platforms that were pulled.

    Args:
        tag: the RepoTag.
        images: the images by architecture.
        missing: the architectures that are only listed.
    """
    blobs: dict[str, bytes] = {}
    entries, manifest = [], []
    for architecture, image in images.items():
        parts = {sha256(data): data for data in (image.config, *image.layers)}
        document = {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": _descriptor(media.OCI_CONFIG, image.config),
            "layers": [_descriptor(media.OCI_LAYER, tar) for tar in image.layers],
        }
        raw = json.dumps(document).encode()
        platform = {"os": "linux", "architecture": architecture}
        entries.append({**_descriptor(media.OCI_MANIFEST, raw), "platform": platform})
        if architecture in missing:
            continue
        blobs |= {**parts, sha256(raw): raw}
        manifest.append(
            {
                "Config": f"blobs/sha256/{image.id}",
                "RepoTags": [tag],
                "Layers": [f"blobs/sha256/{sha256(tar)}" for tar in image.layers],
            }
        )
    index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}
    raw = json.dumps(index).encode()
    blobs[sha256(raw)] = raw
    annotations = {
        "io.containerd.image.name": f"docker.io/library/{tag}",
        "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
    }
    top = {**_descriptor(media.OCI_INDEX, raw), "annotations": annotations}
    layout = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [top]}
    members: list[Member] = [("blobs/", None), ("blobs/sha256/", None)]
    members += [(f"blobs/sha256/{digest}", data) for digest, data in sorted(blobs.items())]
    members += [
        ("index.json", json.dumps(layout).encode()),
        ("manifest.json", json.dumps(manifest).encode()),
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
    ]
    return members, ImageIndex.model_validate(index)


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{sha256(data)}", "size": len(data)}
