"""Indexes that are made of images in the same repository."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ManifestInvalid, NotFound
from dockhand_core.flow import Flow, parallel
from dockhand_core.models import (
    Descriptor,
    Digest,
    ImageIndex,
    ImageManifest,
    Platform,
    PushResult,
    media,
)
from dockhand_core.operations.images import DEPTH

__all__ = ["put_index"]


def put_index(
    driver: RegistryDriver,
    repository: str,
    reference: str | Descriptor,
    sources: Iterable[str | Descriptor],
    *,
    annotations: Mapping[str, str] | None = None,
    media_type: str | None = None,
) -> Flow[PushResult]:
    """Make an index of images, and push it; `RegistryClient.put_index` describes the arguments.

    All sources are fetched before anything is pushed, so a missing one changes nothing.
    """
    kind = media_type or media.OCI_INDEX
    if kind not in media.INDEXES:
        raise ManifestInvalid(
            f"{kind!r} is not the media type of an index: {' or '.join(sorted(media.INDEXES))}"
        )
    notes = _checked(annotations)
    if notes and kind != media.OCI_INDEX:
        raise ManifestInvalid(f"an index of the media type {kind} cannot have annotations")
    listed = [sources] if isinstance(sources, Descriptor) else list(sources)
    if isinstance(sources, str | Descriptor) or not all(
        isinstance(source, str | Descriptor) for source in listed
    ):
        raise TypeError("the sources of an index are a list of tags, digests and descriptors")
    if not listed:
        raise ManifestInvalid("an index needs at least one source: a tag, digest or descriptor")
    entries = yield from _entries(driver, repository, listed, DEPTH)
    index = ImageIndex(media_type=kind, manifests=_each_once(entries), annotations=notes)
    return (yield from driver.put_manifest(repository, reference, index, media_type=None))


def _checked(annotations: Mapping[str, str] | None) -> dict[str, str]:
    found = dict(annotations or {})
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ManifestInvalid(f"the annotation {name!r} of the index is not a string")
    return found


def _entries(
    driver: RegistryDriver, repository: str, sources: Iterable[str | Descriptor], depth: int
) -> Flow[list[Descriptor]]:
    """The entries of an index that lists the sources, in their order, without indexes."""
    found = yield from parallel([_entries_of(driver, repository, each, depth) for each in sources])
    return [entry for entries in found for entry in entries]


def _entries_of(
    driver: RegistryDriver, repository: str, source: str | Descriptor, depth: int
) -> Flow[list[Descriptor]]:
    """The entries for one source: one, or those of an index and of the indexes in it."""
    try:
        document = yield from driver.manifest(repository, source)
    except NotFound as error:
        name = source.digest if isinstance(source, Descriptor) else source
        raise error.with_hint(
            f"it is a source of the index; push {name} to repository {repository} first"
        ) from error
    if isinstance(document, ImageManifest):
        return [(yield from _entry(driver, repository, source, document))]
    if depth == 0:
        raise ManifestInvalid(
            f"repository {repository}: indexes within indexes, more than {DEPTH} deep"
        )
    entries: list[Descriptor] = []
    for entry in document.manifests:
        # Attestations and other artifacts state a platform or a type. Only entries that state
        # neither, and indexes, have to be fetched.
        incomplete = entry.platform is None and entry.artifact_type is None
        if entry.media_type in media.INDEXES or (incomplete and not entry.annotations):
            entries += yield from _entries_of(driver, repository, entry, depth - 1)
        else:
            entries.append(entry)
    return entries


def _entry(
    driver: RegistryDriver,
    repository: str,
    source: str | Descriptor,
    document: ImageManifest,
) -> Flow[Descriptor]:
    """The entry of one manifest; a descriptor that states a platform is kept as it is."""
    descriptor = source if isinstance(source, Descriptor) else document.descriptor()
    if descriptor.platform is not None:
        return descriptor
    if document.config.media_type not in media.IMAGE_CONFIGS:
        kind = document.artifact_type or document.config.media_type
        return descriptor.model_copy(update={"artifact_type": descriptor.artifact_type or kind})
    config = yield from driver.image_config(repository, document)
    return descriptor.model_copy(update={"platform": config.platform})


def _each_once(entries: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    """Drop entries that repeat the digest and the platform of an earlier one."""
    seen: dict[tuple[Digest, Platform | None], Descriptor] = {}
    for entry in entries:
        platform = entry.platform.normalized() if entry.platform is not None else None
        seen.setdefault((entry.digest, platform), entry)
    return tuple(seen.values())
