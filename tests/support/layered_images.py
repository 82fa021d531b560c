"""Images with random layers of given sizes, and functions that push them."""

from __future__ import annotations

import os

from dockhand_testing.contracts.samples import config_of, push_blob

from dockhand_core import ImageManifest, RegistryClient, connect
from dockhand_core.models import media

__all__ = ["push_layers", "push_layers_at"]


def push_layers(
    registry: RegistryClient, sizes: list[int], tag: str = "v1", *, kind: str = media.OCI_LAYER
) -> ImageManifest:
    """Push an image with random layers to the repository `app`.

    Args:
        registry: the client to push with.
        sizes: the size of each layer in bytes.
        tag: the tag.
        kind: the media type of the layers.
    """
    config = push_blob(registry, "app", config_of(), media.OCI_CONFIG)
    layers = [push_blob(registry, "app", os.urandom(size), kind) for size in sizes]
    manifest = ImageManifest(config=config, layers=tuple(layers))
    registry.put_manifest("app", tag, manifest)
    return manifest


def push_layers_at(url: str, sizes: list[int], tag: str = "v1") -> ImageManifest:
    """Push an image as `push_layers` does, to the registry at a URL."""
    with connect(url, logging={"driver": "null"}) as registry:
        return push_layers(registry, sizes, tag)
