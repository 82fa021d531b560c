"""Samples for the contracts: small images with fixed bytes, and functions that push them."""

from __future__ import annotations

import json

from dockhand_core import Descriptor, ImageIndex, ImageManifest, Platform, RegistryClient
from dockhand_core.models import media


def config_of(architecture: str = "amd64", **labels: str) -> bytes:
    """Return an image configuration as JSON."""
    return json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-02T03:04:05.678901234Z",
            "config": {"Env": ["PATH=/bin", "A=b=c"], "Entrypoint": ["/run"], "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [{"created_by": "test", "empty_layer": True}],
        }
    ).encode()


def push_blob(registry: RegistryClient, repository: str, data: bytes, kind: str) -> Descriptor:
    """Push a blob of the media type `kind`, and return its descriptor."""
    result = registry.upload_blob(repository, data)
    return Descriptor(media_type=kind, digest=result.digest, size=len(data))


def push_image(
    registry: RegistryClient, repository: str, tag: str, *, architecture: str = "amd64"
) -> ImageManifest:
    """Push an image with one small layer, and return its manifest."""
    config = push_blob(registry, repository, config_of(architecture), media.OCI_CONFIG)
    layer = push_blob(registry, repository, f"layer {architecture}".encode(), media.OCI_LAYER)
    manifest = ImageManifest(config=config, layers=(layer,), annotations={"made": "by a test"})
    registry.put_manifest(repository, tag, manifest)
    return manifest


def push_index(registry: RegistryClient, repository: str, tag: str) -> ImageIndex:
    """Push and return an index with images for linux/amd64 and linux/arm64/v8."""
    entries = []
    for architecture, variant in (("amd64", None), ("arm64", "v8")):
        manifest = push_image(registry, repository, architecture, architecture=architecture)
        platform = Platform(os="linux", architecture=architecture, variant=variant)
        entries.append(manifest.descriptor().model_copy(update={"platform": platform}))
    index = ImageIndex(manifests=tuple(entries))
    registry.put_manifest(repository, tag, index)
    return index
