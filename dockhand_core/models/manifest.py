"""Descriptors, manifests and indexes.

A parsed manifest or index keeps the exact bytes that were received, and their digest. Unknown
fields and media types are kept, too.

Follows: OCI Image Specification 1.1, "Content Descriptors", "Image Manifest", "Image Index".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from dockhand_core.errors import ManifestInvalid, PlatformNotFound
from dockhand_core.models import media
from dockhand_core.models.digest import Digest
from dockhand_core.models.platform import Platform

__all__ = ["Descriptor", "ImageIndex", "ImageManifest", "parse_manifest"]


def _none_to_dict(value: object) -> object:
    return {} if value is None else value


def _none_to_tuple(value: object) -> object:
    return () if value is None else value


def _none_to_two(value: object) -> object:
    return 2 if value is None else value


def _incomplete_to_none(value: object) -> object:
    """Treat a platform without operating system or architecture as no platform."""
    incomplete = isinstance(value, Mapping) and not (value.get("os") and value.get("architecture"))
    return None if incomplete else value


Annotations = Annotated[dict[str, str], BeforeValidator(_none_to_dict)]


class Model(BaseModel):
    """The base of all models here: frozen, camel-case names in JSON, unknown fields are kept."""

    model_config = ConfigDict(
        defer_build=True,
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        populate_by_name=True,
    )

    def _json_fields(self) -> dict[str, Any]:
        """Return the fields to write as JSON, without absent fields and empty annotations."""
        fields = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        without: dict[str, Any] = _without_empty(fields)
        return without


_OMITTED_IF_EMPTY = ("annotations",)


def _without_empty(value: Any) -> Any:
    """Copy a JSON value without the empty annotations in it, at any depth."""
    if isinstance(value, dict):
        return {
            key: _without_empty(item)
            for key, item in value.items()
            if key not in _OMITTED_IF_EMPTY or item
        }
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value


class Descriptor(Model):
    """A descriptor: the media type, digest and size of a blob or manifest.

    Attributes:
        media_type: media type of the content.
        digest: digest of the content.
        size: size of the content in bytes.
        urls: other URLs of the content; Dockhand does not request them.
        annotations: annotations, name to value.
        data: the content itself, encoded in base64, or None.
        platform: platform of the image, for descriptors in an index.
        artifact_type: type of the artifact, if the content is an artifact.
    """

    media_type: str
    digest: Digest
    size: Annotated[int, Field(ge=0)]
    urls: tuple[str, ...] | None = None
    annotations: Annotations = Field(default_factory=dict)
    data: str | None = None
    platform: Annotated[Platform | None, BeforeValidator(_incomplete_to_none)] = None
    artifact_type: str | None = None


class _Document(Model):
    """The base of manifests and indexes, with their exact bytes and digest."""

    schema_version: Annotated[int, BeforeValidator(_none_to_two)] = 2
    media_type: str = ""
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Annotations = Field(default_factory=dict)

    _raw: bytes | None = PrivateAttr(default=None)
    _digest: Digest | None = PrivateAttr(default=None)

    @property
    def raw(self) -> bytes:
        """The exact bytes that were received, or for a new document its fields as JSON."""
        if self._raw is None:
            self._raw = json.dumps(self._json_fields(), separators=(",", ":")).encode()
        return self._raw

    @property
    def digest(self) -> Digest:
        """The digest of `raw`.

        If the document was requested by digest, the algorithm is that of the requested digest; if
        not, it is sha256.
        """
        if self._digest is None:
            self._digest = Digest.of(self.raw)
        return self._digest

    @property
    def is_index(self) -> bool:
        """Whether this is an `ImageIndex`, and not an `ImageManifest`."""
        return isinstance(self, ImageIndex)

    def __eq__(self, other: object) -> bool:
        # pydantic would also compare `_raw` and `_digest`, which are None until they are first
        # read, so equal documents could compare as different.
        if not isinstance(other, _Document):
            return NotImplemented
        return self.media_type == other.media_type and self.raw == other.raw

    def __hash__(self) -> int:
        return hash((self.media_type, self.raw))

    def descriptor(self) -> Descriptor:
        """Make a descriptor of this document, for an index or a `subject`."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.raw))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy this document; if fields are updated, the copy's bytes and digest are made anew."""
        copy = super().model_copy(update=update, deep=deep)
        if update:
            copy._raw = copy._digest = None
        return copy


class ImageManifest(_Document):
    """The manifest of an image or artifact for one platform (OCI manifest, Docker schema 2).

    Attributes:
        schema_version: 2.
        media_type: media type of the manifest.
        config: descriptor of the image config.
        layers: descriptors of the layers.
        artifact_type: type of the artifact, if the manifest describes an artifact.
        subject: descriptor of the manifest that this manifest refers to, or None.
        annotations: annotations, name to value.
    """

    media_type: str = media.OCI_MANIFEST
    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], BeforeValidator(_none_to_tuple)] = ()

    @property
    def size(self) -> int:
        """The total size in bytes of the config and the layers, as the manifest states it."""
        return self.config.size + sum(layer.size for layer in self.layers)


class ImageIndex(_Document):
    """A list of manifests (OCI index, Docker manifest list).

    Attributes:
        schema_version: 2.
        media_type: media type of the index.
        manifests: descriptors of the listed manifests.
        artifact_type: type of the artifact, if the index describes an artifact.
        subject: descriptor of the manifest that this index refers to, or None.
        annotations: annotations, name to value.
    """

    media_type: str = media.OCI_INDEX
    manifests: Annotated[tuple[Descriptor, ...], BeforeValidator(_none_to_tuple)] = ()

    @property
    def size(self) -> int:
        """The total size in bytes of the listed manifests, as the index states it.

        Only the manifests' JSON is counted, not the configs and layers that they reference.
        """
        return sum(entry.size for entry in self.manifests)

    def find(self, platform: Platform | str) -> Descriptor:
        """Find the descriptor of the manifest that suits a platform best, by containerd's rules.

        Args:
            platform: a `Platform`, or a text `os/architecture[/variant]`.

        Raises:
            PlatformNotFound: no manifest suits the platform; the message lists the platforms of
                the index.
            ConfigError: the text is not of this form.
        """
        wanted = Platform.parse(platform) if isinstance(platform, str) else platform
        offered = [(d, d.platform) for d in self.manifests if d.platform is not None]
        position = wanted.best(p for _, p in offered)
        if position is None:
            available = ", ".join(str(p) for _, p in offered if p.os != "unknown") or "none"
            raise PlatformNotFound(f"no manifest for {wanted}; the index has: {available}")
        return offered[position][0]


def parse_manifest(
    raw: bytes, *, media_type: str | None = None, digest: Digest | None = None
) -> ImageManifest | ImageIndex:
    """Parse the bytes of a manifest or index.

    Args:
        raw: the exact bytes; the result keeps them as `raw`.
        media_type: Content-Type of the reply, used if the body has no `mediaType`.
        digest: digest of the bytes, if it is known; otherwise it is computed on first use.

    Raises:
        ManifestInvalid: the bytes are neither a manifest nor an index; the message names the
            invalid field.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"the manifest is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    content_type = (media_type or "").partition(";")[0].strip()
    if content_type.lower() in media.INDEXES | media.MANIFESTS:
        content_type = content_type.lower()  # media types are case-insensitive
    kind: type[ImageManifest | ImageIndex]
    stated = body.get("mediaType")
    if stated is not None and not isinstance(stated, str):
        raise ManifestInvalid("the manifest's mediaType is not a string")
    effective = stated or content_type
    both = [key for key in ("config", "layers") if body.get(key) is not None]
    if not stated and both and body.get("manifests") is not None:
        raise ManifestInvalid(
            f"the manifest has {both[-1]!r} and 'manifests', but no 'mediaType': its digest would "
            "stand for a manifest and for an index"
        )
    if effective in media.INDEXES or (effective not in media.MANIFESTS and "manifests" in body):
        kind = ImageIndex
    elif effective in media.MANIFESTS or "config" in body or "layers" in body:
        kind = ImageManifest
    else:
        raise ManifestInvalid(
            f"neither a manifest nor an index: schemaVersion {body.get('schemaVersion')!r}, "
            f"media type {effective or 'not given'!r}"
        )
    if not stated:
        body = {key: value for key, value in body.items() if key != "mediaType"}
        if content_type in media.INDEXES and both and "manifests" not in body:
            raise ManifestInvalid(
                f"the Content-Type is that of an index, {content_type}, but the document has "
                f"{both[-1]!r} and no 'manifests'"
            )
        if content_type in media.INDEXES | media.MANIFESTS:
            body["mediaType"] = content_type
    try:
        document = kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ManifestInvalid(f"the manifest's {where}: {first['msg']}") from None
    document._raw, document._digest = raw, digest
    return document
