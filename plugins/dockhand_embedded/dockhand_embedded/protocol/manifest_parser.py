"""Parsing of manifests and indexes, as far as the registry needs their contents.

Follows: OCI Image Specification 1.1, "OCI Image Manifest", "OCI Image Index"; OCI Distribution
Specification 1.1, "Pushing manifests", "Listing Referrers".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from dockhand_embedded.protocol.messages import RequestRejectedError
from dockhand_embedded.protocol.names import is_digest
from dockhand_embedded.protocol.strict_json import check_names, parse_strict

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
# Media types of layers that clients fetch from elsewhere, so the registry need not have them.
_NONDISTRIBUTABLE = re.compile(
    r"application/vnd\.oci\.image\.layer\.nondistributable\.v1\.tar.*"
    r"|application/vnd\.docker\.image\.rootfs\.foreign\.diff\.tar.*"
)
# A descriptor may have a digest of any algorithm; the registry stores only sha256 and sha512.
_ANY_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
# Real images have up to 130 layers, and artifacts a few hundred. Each layer is looked up while the
# repository is locked.
MAX_LAYERS = 2048
MAX_MANIFESTS = 8192
# Characters; RFC 6838, 4.2, allows 127 on each side of the slash.
_MAX_MEDIA_TYPE = 255
_MAX_DIGEST = 512
# Bytes. A list of referrers repeats the annotations of each referrer; clients read at most 4 MiB
# of a list (oras).
MAX_REFERRER_ANNOTATIONS = 1024 * 1024


def _by_folded_name(*names: str) -> dict[str, str]:
    return {name.casefold(): name for name in names}


_DOCUMENT_FIELDS = _by_folded_name(
    "schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject",
    "annotations", "fsLayers",
)  # fmt: skip
_DESCRIPTOR_FIELDS = _by_folded_name(
    "mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"
)
_PLATFORM_FIELDS = _by_folded_name(
    "architecture", "os", "os.version", "os.features", "variant", "features"
)


@dataclass(frozen=True, slots=True)
class DescriptorRef:
    """The digest and media type of a descriptor."""

    digest: str
    media_type: str


@dataclass(frozen=True, slots=True)
class ParsedManifest:
    """The contents of a manifest or index that the registry needs.

    Attributes:
        blobs: digests of the config and the layers that the repository must have.
        children: the descriptors of the manifests in an index.
        subject: the digest of the subject; None without a subject.
        artifact_type: the artifact type, or else the media type of the config.
        annotations: the annotations of the manifest.
    """

    blobs: tuple[str, ...]
    children: tuple[DescriptorRef, ...]
    subject: str | None
    artifact_type: str | None
    annotations: dict[str, Any]


def parse_manifest(data: bytes, media_type: str, *, strict: bool = True) -> ParsedManifest:
    """Parse a manifest or index.

    Args:
        data: the bytes of the manifest.
        media_type: the media type that the manifest was pushed with, or that its descriptor has.
        strict: check all requirements for a push. If false, invalid parts are skipped: another tool
            may have written the stored manifest.

    Raises:
        RequestRejectedError: 400 MANIFEST_INVALID, if the data is not a valid manifest.
    """
    try:
        document = parse_strict(data) if strict else json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise _invalid(f"the manifest {error if strict else 'is not JSON'}") from error
    if not isinstance(document, dict):
        raise _invalid("the manifest is not a JSON object")
    is_index = media_type in INDEX_TYPES
    if strict:
        _check_fields(document, media_type, is_index=is_index)
    blobs: dict[str, None] = {}
    children: list[DescriptorRef] = []
    config_type = None
    if is_index:
        for entry in _list_field(document, "manifests", MAX_MANIFESTS, strict=strict):
            child = _descriptor(entry, "manifests", strict=strict)
            if child:
                children.append(child)
    else:
        config = _descriptor(document.get("config"), "config", strict=strict)
        if config:
            blobs[config.digest] = None
            config_type = config.media_type
        for entry in _list_field(document, "layers", MAX_LAYERS, strict=strict):
            layer = _descriptor(entry, "layers", strict=strict)
            if layer and not (_NONDISTRIBUTABLE.fullmatch(layer.media_type) or entry.get("urls")):
                blobs[layer.digest] = None
    subject = None
    if document.get("subject") is not None:
        subject = _descriptor(document["subject"], "subject", strict=strict)
    annotations = document.get("annotations")
    return ParsedManifest(
        blobs=tuple(blobs),
        children=tuple(children),
        subject=subject.digest if subject else None,
        artifact_type=_nonempty_text(document.get("artifactType")) or config_type,
        annotations=annotations if isinstance(annotations, dict) else {},
    )


def _check_fields(document: dict[str, Any], media_type: str, *, is_index: bool) -> None:
    if type(document.get("schemaVersion")) is not int or document["schemaVersion"] != 2:
        raise _invalid("schemaVersion must be 2")
    media_type_field = document.get("mediaType")
    if media_type_field is None and media_type in {DOCKER_MANIFEST, DOCKER_MANIFEST_LIST}:
        raise _invalid("a Docker manifest must have a mediaType")
    if media_type_field is not None and media_type_field != media_type:
        raise _invalid(f"the body's mediaType differs from the Content-Type {media_type}")
    # Clients would disagree about a document that is both a manifest and an index
    # (CVE-2021-41190).
    for name in ("config", "layers", "fsLayers") if is_index else ("manifests", "fsLayers"):
        if document.get(name) is not None:
            raise _invalid(f"a document of type {media_type} cannot have {name!r}")
    _check_spelling(document, _DOCUMENT_FIELDS, "the manifest")
    _check_text(document.get("artifactType"), "artifactType")
    if "annotations" in document and not _is_annotations(document["annotations"]):
        raise _invalid("annotations must map strings to strings")
    if (
        document.get("subject") is not None
        and len(json.dumps(document.get("annotations"))) > MAX_REFERRER_ANNOTATIONS
    ):
        raise _invalid(
            "the annotations of a manifest with a subject are larger than the limit of "
            f"{MAX_REFERRER_ANNOTATIONS} bytes: put them into a layer"
        )


def _check_spelling(value: dict[str, Any], known: dict[str, str], where: str) -> None:
    try:
        check_names(value, known, where)
    except ValueError as error:
        raise _invalid(str(error)) from None


def _check_text(value: Any, where: str) -> None:
    if value is not None and not (isinstance(value, str) and len(value) <= _MAX_MEDIA_TYPE):
        raise _invalid(f"{where} must be a media type of at most {_MAX_MEDIA_TYPE} characters")


def _is_annotations(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    )


def _list_field(document: dict[str, Any], name: str, limit: int, *, strict: bool) -> list[Any]:
    value = document.get(name)
    if isinstance(value, list):
        if strict and len(value) > limit:
            raise _invalid(f"{name!r} has {len(value)} descriptors; the limit is {limit}")
        return value
    if strict:
        raise _invalid(f"{name!r} must be a list")
    return []


def _descriptor(value: Any, where: str, *, strict: bool) -> DescriptorRef | None:
    if isinstance(value, dict):
        digest, kind, size = value.get("digest"), value.get("mediaType"), value.get("size")
        valid = (
            isinstance(digest, str)
            and len(digest) <= _MAX_DIGEST
            and _ANY_DIGEST.fullmatch(digest) is not None
            # The digest of a known algorithm must have the right number of digits.
            and (is_digest(digest) or not digest.startswith(("sha256:", "sha512:")))
            and isinstance(kind, str)
            and 0 < len(kind) <= _MAX_MEDIA_TYPE
            and type(size) is int
            and size >= 0
        )
        if valid:
            if strict:
                _check_optional_fields(value, where)
            return DescriptorRef(str(digest), str(kind))
    if strict:
        raise _invalid(f"{where!r}: a descriptor needs mediaType, digest and size")
    return None


def _check_optional_fields(value: dict[str, Any], where: str) -> None:
    if len(value) == 3:  # it has only the required fields
        return
    _check_spelling(value, _DESCRIPTOR_FIELDS, f"a descriptor in {where!r}")
    _check_text(value.get("artifactType"), f"{where!r}: artifactType")
    if not _is_annotations(value.get("annotations")):
        raise _invalid(f"{where!r}: annotations must map strings to strings")
    if not isinstance(value.get("data"), str | None):
        raise _invalid(f"{where!r}: data must be a string")
    if not _is_texts(value.get("urls")):
        raise _invalid(f"{where!r}: urls must be a list of strings")
    platform = value.get("platform")
    if platform is None:
        return
    if not isinstance(platform, dict):
        raise _invalid(f"{where!r}: platform must be an object")
    _check_spelling(platform, _PLATFORM_FIELDS, f"a platform in {where!r}")
    for name in _PLATFORM_FIELDS.values():
        field = platform.get(name)
        is_list = name in {"os.features", "features"}
        if not (_is_texts(field) if is_list else isinstance(field, str | None)):
            expected = "a list of strings" if is_list else "a string"
            raise _invalid(f"{where!r}: {name} of a platform must be {expected}")


def _is_texts(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(isinstance(text, str) for text in value)
    )


def _nonempty_text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _invalid(message: str) -> RequestRejectedError:
    return RequestRejectedError(400, "MANIFEST_INVALID", message)
