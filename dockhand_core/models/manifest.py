"""Descriptors, manifests and indexes.

What was received keeps its exact bytes and their digest; unknown fields and media types stay.

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


def _none_is_empty(value: object) -> object:
    return {} if value is None else value


def _none_is_nothing(value: object) -> object:
    return () if value is None else value


Annotations = Annotated[dict[str, str], BeforeValidator(_none_is_empty)]


class Model(BaseModel):
    """A frozen model with the specification's camel-case names; unknown fields are kept."""

    model_config = ConfigDict(
        defer_build=True,
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        populate_by_name=True,
    )

    def _slim(self) -> dict[str, Any]:
        """What goes into JSON: nothing that is absent, no empty annotations."""
        found = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {key: _slimmed(value) for key, value in found.items() if key not in _EMPTY or value}


_EMPTY = ("annotations",)


def _slimmed(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _slimmed(v) for k, v in value.items() if k not in _EMPTY or v}
    if isinstance(value, list):
        return [_slimmed(item) for item in value]
    return value


class Descriptor(Model):
    """What a blob or manifest is: its media type, digest and size in bytes.

    `urls` are kept and never followed with credentials.
    """

    media_type: str
    digest: Digest
    size: Annotated[int, Field(ge=0)]
    urls: tuple[str, ...] | None = None
    annotations: Annotations = Field(default_factory=dict)
    data: str | None = None
    platform: Platform | None = None
    artifact_type: str | None = None


class _Document(Model):
    """What manifests and indexes share: exact bytes and their digest."""

    schema_version: int = 2
    media_type: str = ""
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Annotations = Field(default_factory=dict)

    _raw: bytes | None = PrivateAttr(default=None)
    _digest: Digest | None = PrivateAttr(default=None)

    @property
    def raw(self) -> bytes:
        """The exact bytes: as received, or as this model writes itself."""
        if self._raw is None:
            self._raw = json.dumps(self._slim(), separators=(",", ":")).encode()
        return self._raw

    @property
    def digest(self) -> Digest:
        """The digest of `raw`: sha256, or the algorithm it was asked for by."""
        if self._digest is None:
            self._digest = Digest.of(self.raw)
        return self._digest

    @property
    def is_index(self) -> bool:
        """Whether this lists manifests rather than layers."""
        return isinstance(self, ImageIndex)

    def __eq__(self, other: object) -> bool:
        # pydantic would compare the private fields too, and so whether `raw` was looked at
        if not isinstance(other, _Document):
            return NotImplemented
        return self.media_type == other.media_type and self.raw == other.raw

    def __hash__(self) -> int:
        return hash((self.media_type, self.raw))

    def descriptor(self) -> Descriptor:
        """A descriptor of this document, as an index or a `subject` holds it."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.raw))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy; where something is updated, it has bytes and a digest of its own."""
        copy = super().model_copy(update=update, deep=deep)
        if update:
            copy._raw = copy._digest = None
        return copy


class ImageManifest(_Document):
    """An image or artifact for one platform (OCI manifest, Docker schema 2)."""

    media_type: str = media.OCI_MANIFEST
    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], BeforeValidator(_none_is_nothing)] = ()

    @property
    def size(self) -> int:
        """Bytes of config and layers together, as the manifest states them."""
        return self.config.size + sum(layer.size for layer in self.layers)


class ImageIndex(_Document):
    """A list of manifests (OCI index, Docker manifest list)."""

    media_type: str = media.OCI_INDEX
    manifests: Annotated[tuple[Descriptor, ...], BeforeValidator(_none_is_nothing)] = ()

    @property
    def size(self) -> int:
        """Bytes of the listed manifests themselves, as the index states them."""
        return sum(entry.size for entry in self.manifests)

    def find(self, platform: Platform | str) -> Descriptor:
        """The manifest that suits a platform best, as containerd would choose it.

        Args:
            platform: a `Platform`, or `os/architecture[/variant]`.

        Raises:
            PlatformNotFound: none does; the message lists what there is.
            ConfigError: the text is not a platform.
        """
        wanted = Platform.parse(platform) if isinstance(platform, str) else platform
        offered = [(d, d.platform) for d in self.manifests if d.platform is not None]
        position = wanted.best(p for _, p in offered)
        if position is None:
            there = ", ".join(str(p) for _, p in offered if p.os != "unknown") or "none"
            raise PlatformNotFound(f"no manifest for {wanted}; the index has: {there}")
        return offered[position][0]


def parse_manifest(
    raw: bytes, *, media_type: str | None = None, digest: Digest | None = None
) -> ImageManifest | ImageIndex:
    """The manifest or index that some bytes are.

    Args:
        raw: the exact bytes; they are kept.
        media_type: the reply's Content-Type, used where the body has no `mediaType`.
        digest: their digest, where it is known already.

    Raises:
        ManifestInvalid: the bytes are neither; the message says where.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"the manifest is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    said = (media_type or "").partition(";")[0].strip()
    kind: type[ImageManifest | ImageIndex]
    stated = body.get("mediaType")
    if stated is not None and not isinstance(stated, str):
        raise ManifestInvalid("the manifest's mediaType is not a string")
    known = stated or said
    if known in media.INDEXES or (known not in media.MANIFESTS and "manifests" in body):
        kind = ImageIndex
    elif known in media.MANIFESTS or "config" in body or "layers" in body:
        kind = ImageManifest
    else:
        raise ManifestInvalid(
            f"neither a manifest nor an index: schemaVersion {body.get('schemaVersion')!r}, "
            f"media type {known or 'not given'!r}"
        )
    if not stated:
        body = {k: v for k, v in body.items() if k != "mediaType"}
        if said in media.INDEXES | media.MANIFESTS:
            body["mediaType"] = said
    try:
        document = kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ManifestInvalid(f"the manifest's {where}: {first['msg']}") from None
    document._raw, document._digest = raw, digest
    return document
