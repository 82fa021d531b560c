"""Manifests and indexes: what a registry has to understand of them before it keeps their bytes.

Follows: OCI Image Specification 1.1, "OCI Image Manifest", "OCI Image Index"; OCI Distribution
Specification 1.1, "Pushing manifests", "Listing Referrers".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from dockhand_embedded.protocol.messages import Refused
from dockhand_embedded.protocol.names import is_digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
# Layers that a registry is not meant to hold: they are fetched from elsewhere.
_NONDISTRIBUTABLE = re.compile(
    r"application/vnd\.oci\.image\.layer\.nondistributable\.v1\.tar.*"
    r"|application/vnd\.docker\.image\.rootfs\.foreign\.diff\.tar.*"
)
# Other algorithms can be named in a descriptor, though nothing of theirs can be stored here.
_ANY_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")


@dataclass(frozen=True, slots=True)
class Child:
    """An entry of an index, or a subject."""

    digest: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Document:
    """What the registry needs to know of a manifest or index."""

    blobs: tuple[str, ...]
    children: tuple[Child, ...]
    subject: str | None
    artifact_type: str | None
    annotations: dict[str, Any]


def read(data: bytes, media_type: str, *, strict: bool = True) -> Document:
    """Understand a manifest or index.

    Args:
        data: the bytes.
        media_type: the type it was pushed as, or that its descriptor gives.
        strict: check everything that a push has to fulfil. What is stored already, maybe by
            another tool, is only read as far as it can be.

    Raises:
        Refused: 400 MANIFEST_INVALID.
    """
    try:
        # Given bytes, json would take UTF-16 as well, which no client reads.
        document = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise _invalid("the manifest is not JSON") from error
    if not isinstance(document, dict):
        raise _invalid("the manifest is not a JSON object")
    is_index = media_type in INDEX_TYPES
    if strict:
        _check_head(document, media_type, is_index=is_index)
    blobs: dict[str, None] = {}
    children: list[Child] = []
    config_type = None
    if is_index:
        for entry in _list(document, "manifests", strict=strict):
            child = _descriptor(entry, "manifests", strict=strict)
            if child:
                children.append(child)
    else:
        config = _descriptor(document.get("config"), "config", strict=strict)
        if config:
            blobs[config.digest] = None
            config_type = config.media_type
        for entry in _list(document, "layers", strict=strict):
            layer = _descriptor(entry, "layers", strict=strict)
            if layer and not (_NONDISTRIBUTABLE.fullmatch(layer.media_type) or entry.get("urls")):
                blobs[layer.digest] = None
    subject = None
    if document.get("subject") is not None:
        subject = _descriptor(document["subject"], "subject", strict=strict)
    notes = document.get("annotations")
    return Document(
        blobs=tuple(blobs),
        children=tuple(children),
        subject=subject.digest if subject else None,
        artifact_type=_text(document.get("artifactType")) or config_type,
        annotations=notes if isinstance(notes, dict) else {},
    )


def _check_head(document: dict[str, Any], media_type: str, *, is_index: bool) -> None:
    if type(document.get("schemaVersion")) is not int or document["schemaVersion"] != 2:
        raise _invalid("schemaVersion must be 2")
    own = document.get("mediaType")
    if own is None and media_type in {DOCKER_MANIFEST, DOCKER_LIST}:
        raise _invalid("a Docker manifest must have a mediaType")
    if own is not None and own != media_type:
        raise _invalid(f"the body's mediaType differs from the Content-Type {media_type}")
    # A document that is both would be read differently by different clients (CVE-2021-41190).
    for name in ("config", "layers") if is_index else ("manifests",):
        if document.get(name) is not None:
            raise _invalid(f"a document of type {media_type} cannot have {name!r}")
    if "annotations" in document and not _is_notes(document["annotations"]):
        raise _invalid("annotations must map text to text")


def _is_notes(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and all(isinstance(note, str) for note in value.values())
    )


def _list(document: dict[str, Any], name: str, *, strict: bool) -> list[Any]:
    value = document.get(name)
    if isinstance(value, list):
        return value
    if strict:
        raise _invalid(f"{name!r} must be a list")
    return []


def _descriptor(value: Any, where: str, *, strict: bool) -> Child | None:
    if isinstance(value, dict):
        digest, kind, size = value.get("digest"), value.get("mediaType"), value.get("size")
        sound = (
            isinstance(digest, str)
            and _ANY_DIGEST.fullmatch(digest) is not None
            # A known algorithm with the wrong number of digits names nothing.
            and (is_digest(digest) or not digest.startswith(("sha256:", "sha512:")))
            and isinstance(kind, str)
            and kind != ""
            and type(size) is int
            and size >= 0
        )
        if sound:
            return Child(str(digest), str(kind))
    if strict:
        raise _invalid(f"{where!r}: a descriptor needs mediaType, digest and size")
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _invalid(message: str) -> Refused:
    return Refused(400, "MANIFEST_INVALID", message)
