"""Images, indexes, referrers and signatures of chosen ages, and the manifests of a repository."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from dockhand_core import (
    Descriptor,
    Digest,
    ImageIndex,
    ImageManifest,
    RegistryClient,
    RetentionItem,
)
from dockhand_core.models import media

CREATED = "org.opencontainers.image.created"
REPOSITORY = "team/app"
EMPTY = b"{}"


def ago(days: float) -> str:
    """The time some days ago; negative for the future."""
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


def _blob(registry: RegistryClient, data: bytes, kind: str) -> Descriptor:
    pushed = registry.upload_blob(REPOSITORY, data)
    return Descriptor(media_type=kind, digest=pushed.digest, size=len(data))


def put_image(
    registry: RegistryClient,
    *tags: str,
    days: float | None = None,
    name: str | None = None,
    created: str | None = None,
    layer: bytes | None = None,
) -> ImageManifest:
    """Push an image, by digest if it gets no tag.

    Args:
        registry: the client.
        tags: the tags.
        days: age of the image; None for none.
        name: a text that makes the image different; by default its first tag.
        created: the config's `created`, instead of `days`.
        layer: the bytes of the layer; by default those of the name.
    """
    name = name or tags[0]
    document = {"os": "linux", "architecture": "amd64", "config": {"Labels": {"name": name}}}
    if created is None and days is not None:
        created = ago(days)
    if created is not None:
        document["created"] = created
    config = _blob(registry, json.dumps(document).encode(), media.OCI_CONFIG)
    content = _blob(registry, name.encode() if layer is None else layer, media.OCI_LAYER)
    image = ImageManifest(config=config, layers=(content,))
    put(registry, image, *tags)
    return image


def put(registry: RegistryClient, manifest: ImageManifest | ImageIndex, *tags: str) -> None:
    """Push a manifest or index with tags, or by digest if it gets none."""
    for reference in tags or (manifest.digest,):
        registry.put_manifest(REPOSITORY, reference, manifest)


def put_index(
    registry: RegistryClient, *tags: str, of: Iterable[Any], name: str = "", **fields: Any
) -> ImageIndex:
    """Push an index of manifests that were pushed, by digest if it gets no tag."""
    entries = tuple(each.descriptor() for each in of)
    annotations = {"name": name} if name else {}
    index = ImageIndex(manifests=entries, annotations=annotations, **fields)
    put(registry, index, *tags)
    return index


def refer(
    registry: RegistryClient,
    subject: Any,
    *tags: str,
    name: str = "sbom",
    days: float | None = None,
) -> ImageManifest:
    """Push an artifact that refers to a manifest, by digest if it gets no tag."""
    config = _blob(registry, EMPTY, media.OCI_EMPTY)
    layer = _blob(registry, name.encode(), "application/octet-stream")
    annotations = {CREATED: ago(days)} if days is not None else {}
    artifact = ImageManifest(
        artifact_type="application/vnd.example.sbom",
        config=config,
        layers=(layer,),
        subject=subject.descriptor(),
        annotations=annotations,
    )
    put(registry, artifact, *tags)
    return artifact


def sign(registry: RegistryClient, subject: Any, suffix: str = ".sig") -> ImageManifest:
    """Push a signature of a manifest, as cosign tags it."""
    return put_image(registry, f"sha256-{subject.digest.encoded}{suffix}", days=1)


def put_fallback_tag(registry: RegistryClient, subject: Any, *referrers: Any) -> ImageIndex:
    """Push the referrers tag of a manifest, as clients of registries without the API do."""
    return put_index(registry, f"sha256-{subject.digest.encoded}", of=referrers)


def tags_in(items: Iterable[RetentionItem]) -> list[str]:
    """All tags of items, sorted."""
    return sorted(tag for item in items for tag in item.tags)


def digests_in(items: Iterable[RetentionItem]) -> set[Digest | None]:
    """The digests of items."""
    return {item.digest for item in items}


def whole(items: Iterable[RetentionItem]) -> set[Digest | None]:
    """The digests of the deletions that delete the manifest, and not tags alone."""
    return {item.digest for item in items if not item.tags_only}
