"""Conversion of Docker's manifests to those of the OCI Image Specification.

Only media types change, so configs and layers stay as they are. The manifests get other digests.

Follows: OCI Image Specification 1.1, "Compatibility Matrix".
"""

from __future__ import annotations

import json
from typing import Any

from dockhand_core.models import ImageIndex, ImageManifest, media, parse_manifest
from dockhand_core.operations.image_tree import ATTESTED, ImageTree

__all__ = ["to_oci"]

_DOCKER = "application/vnd.docker.image.rootfs"
_OCI = "application/vnd.oci.image.layer"
_TYPES = {
    media.DOCKER_MANIFEST: media.OCI_MANIFEST,
    media.DOCKER_LIST: media.OCI_INDEX,
    media.DOCKER_CONFIG: media.OCI_CONFIG,
    f"{_DOCKER}.diff.tar": media.OCI_LAYER,
    f"{_DOCKER}.diff.tar.gzip": media.OCI_LAYER_GZIP,
    f"{_DOCKER}.diff.tar.zstd": media.OCI_LAYER_ZSTD,
    f"{_DOCKER}.foreign.diff.tar": f"{_OCI}.nondistributable.v1.tar",
    f"{_DOCKER}.foreign.diff.tar.gzip": f"{_OCI}.nondistributable.v1.tar+gzip",
}


def to_oci(tree: ImageTree) -> ImageTree:
    """Convert the manifests of a tree; manifests that have OCI's types already keep their bytes.

    The entries of an index, and the annotations that connect attestations with their images, get
    the digests of the converted manifests.
    """
    new: dict[str, ImageManifest | ImageIndex] = {}
    converted = ImageTree(tree.root, blobs=tree.blobs)
    for document in tree.documents():
        made = new[document.digest] = _converted(document, new)
        if document is tree.root:
            converted.root = made
        else:
            converted.children[made.digest] = made
    return converted


def _converted(
    document: ImageManifest | ImageIndex, new: dict[str, ImageManifest | ImageIndex]
) -> ImageManifest | ImageIndex:
    fields: dict[str, Any] = json.loads(document.raw)
    kind = _TYPES.get(document.media_type, document.media_type)
    fields["mediaType"] = kind
    entries = [fields.get("config"), *(fields.get("layers") or ())]
    for entry in entries:
        if entry:
            entry["mediaType"] = _TYPES.get(entry["mediaType"], entry["mediaType"])
    listed = fields.get("manifests") or ()
    for entry in listed if isinstance(document, ImageIndex) else ():
        child = new.get(entry["digest"])
        if child is not None and child.digest != entry["digest"]:
            entry.update(mediaType=child.media_type, digest=child.digest, size=len(child.raw))
        annotations = entry.get("annotations") or {}
        image = new.get(annotations.get(ATTESTED, ""))
        if image is not None:
            annotations[ATTESTED] = image.digest
    before = json.loads(document.raw)
    before["mediaType"] = document.media_type
    if fields == before:
        return document
    raw = json.dumps(fields, separators=(",", ":")).encode()
    return parse_manifest(raw, media_type=kind)
