"""The manifests below an image or index, and the part of an index for some platforms.

Follows: OCI Image Specification 1.1, "Image Index".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ManifestInvalid, ManifestUnknown, NotFound, PlatformNotFound
from dockhand_core.flow import Flow, parallel
from dockhand_core.models import (
    Descriptor,
    Digest,
    ImageIndex,
    ImageManifest,
    Platform,
    media,
    parse_manifest,
)

__all__ = [
    "ATTESTED",
    "ImageTree",
    "parsed_platforms",
    "platform_key",
    "select_platforms",
    "walk_tree",
]

ATTESTED = "vnd.docker.reference.digest"  # annotation of an attestation: the image's digest
DEPTH = 8  # levels of nested indexes
NESTED = 100  # indexes within an index that a search for platforms fetches at most
ENTRIES = 10_000  # entries of these indexes at which the search fetches no further one
LIMIT = 32 << 20  # bytes of all manifests of a tree, which are kept in memory

_KNOWN = media.INDEXES | media.MANIFESTS


@dataclass
class ImageTree:
    """A manifest or index, and all manifests below it.

    Attributes:
        root: the manifest or index.
        children: the manifests and indexes below it by digest, each after those that it lists.
        blobs: the entries of indexes that are blobs instead of manifests, by digest.
    """

    root: ImageManifest | ImageIndex
    children: dict[Digest, ImageManifest | ImageIndex] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)

    def documents(self) -> Iterator[ImageManifest | ImageIndex]:
        """Iterate over all manifests and indexes, each after those that it lists."""
        yield from self.children.values()
        yield self.root


def walk_tree(
    driver: RegistryDriver,
    repository: str,
    root: ImageManifest | ImageIndex,
    *,
    limit: int = 8,
) -> Flow[ImageTree]:
    """Fetch all manifests below a manifest or index, each digest once.

    An entry whose media type is not that of a manifest may be a blob.

    Args:
        driver: the registry driver.
        repository: the repository's name.
        root: the manifest or index.
        limit: number of requests at a time.

    Raises:
        ManifestUnknown: the repository lacks a manifest that an index lists; the message names
            both.
        ManifestInvalid: there are more than eight levels of indexes, or the manifests have more
            than 32 MiB in total.
    """
    tree = ImageTree(root)
    if isinstance(root, ImageManifest):
        return tree
    found: dict[Digest, ImageManifest | ImageIndex] = {}
    level: list[ImageIndex] = [root]
    size = len(root.raw)
    for _ in range(DEPTH):
        missing: dict[Digest, tuple[ImageIndex, Descriptor]] = {}
        for index in level:
            for entry in index.manifests:
                if entry.digest not in found and entry.digest not in tree.blobs:
                    missing.setdefault(entry.digest, (index, entry))
        listed = {entry.digest for index in level for entry in index.manifests}
        flows = [_fetch(driver, repository, *pair) for pair in missing.values()]
        documents: Sequence[ImageManifest | ImageIndex | Descriptor]
        if len(flows) == 1:
            documents = [(yield from flows[0])]
        else:
            documents = yield from parallel(flows, limit=limit)
        for digest, document in zip(missing, documents, strict=True):
            if isinstance(document, Descriptor):
                tree.blobs[digest] = document
                continue
            found[digest] = document
            size += len(document.raw)
            if size > LIMIT:
                raise ManifestInvalid(
                    f"repository {repository}: the manifests of the index {root.digest} have more "
                    f"than {LIMIT} bytes in total"
                )
        level = [d for d in map(found.get, listed) if isinstance(d, ImageIndex)]
        if not level:
            _add_sorted(tree, root, found)
            return tree
    raise ManifestInvalid(
        f"repository {repository}: indexes within the index {root.digest}, more than {DEPTH} deep"
    )


def _add_sorted(
    tree: ImageTree, index: ImageIndex, found: dict[Digest, ImageManifest | ImageIndex]
) -> None:
    """Add the children of an index to a tree, each after those that it lists itself."""
    for entry in index.manifests:
        child = found.get(entry.digest)
        if child is None or entry.digest in tree.children:
            continue
        if isinstance(child, ImageIndex):
            _add_sorted(tree, child, found)
        tree.children[entry.digest] = child


def _fetch(
    driver: RegistryDriver, repository: str, index: ImageIndex, entry: Descriptor
) -> Flow[ImageManifest | ImageIndex | Descriptor]:
    try:
        return (yield from driver.manifest(repository, entry))
    except NotFound as error:
        if entry.media_type not in _KNOWN and (yield from driver.blob_exists(repository, entry)):
            return entry
        platform = f" for {entry.platform}" if entry.platform else ""
        raise error.with_hint(
            f"the index {index.digest} lists the manifest {entry.digest}{platform}, but the "
            f"repository {repository} does not have it",
            ManifestUnknown,
        ) from None


def parsed_platforms(platforms: Iterable[Platform | str]) -> tuple[Platform, ...]:
    """Parse and normalise the platforms that a caller passed.

    Raises:
        ConfigError: a text is not a platform.
    """
    if isinstance(platforms, str | Platform):
        platforms = [platforms]
    return tuple(
        p.normalized() if isinstance(p, Platform) else Platform.parse(p) for p in platforms
    )


def select_platforms(
    driver: RegistryDriver,
    repository: str,
    root: ImageManifest | ImageIndex,
    platforms: Sequence[Platform],
) -> Flow[ImageManifest | ImageIndex]:
    """Make the part of an index that has the images for some platforms, with their attestations.

    If the entries with a platform lack one that is wanted, indexes within the index are replaced by
    their entries, and images without a platform are judged by their configs. A single image is
    returned if it has one of the platforms.

    Args:
        driver: the registry driver.
        repository: the repository's name.
        root: the index or image.
        platforms: the platforms, normalised; an entry must have exactly one of them.

    Returns:
        `root` itself if nothing is left out; else a new index with the same media type,
        annotations and other fields, and the entries in their order.

    Raises:
        PlatformNotFound: one of the platforms is missing; the message lists all that are, and all
            that there are.
    """
    wanted = dict.fromkeys(map(platform_key, platforms))
    offered: dict[tuple[str, ...], Platform] = {}
    if isinstance(root, ImageManifest):
        platform = yield from _config_platform(driver, repository, root)
        if platform is not None:
            offered[platform_key(platform)] = platform
        _check_all(repository, "image", platforms, offered)
        return root
    kept: set[Digest] = set()
    unstated: list[Descriptor] = []
    for entry in root.manifests:
        if entry.platform is None:
            unstated.append(entry)
        elif entry.platform.os != "unknown":
            offered.setdefault(platform_key(entry.platform), entry.platform)
            if platform_key(entry.platform) in wanted:
                kept.add(entry.digest)
    if any(key not in offered for key in wanted):
        if any(entry.media_type in media.INDEXES for entry in unstated):
            flat = yield from _flattened(driver, repository, root)
            return (yield from select_platforms(driver, repository, flat, platforms))
        for entry in unstated:
            if entry.artifact_type is not None or ATTESTED in entry.annotations:
                continue
            document = yield from driver.manifest(repository, entry)
            if not isinstance(document, ImageManifest):
                continue
            platform = yield from _config_platform(driver, repository, document)
            if platform is not None:
                offered.setdefault(platform_key(platform), platform)
                if platform_key(platform) in wanted:
                    kept.add(entry.digest)
    _check_all(repository, "index", platforms, offered)
    kept |= {d.digest for d in root.manifests if d.annotations.get(ATTESTED) in kept}
    if all(entry.digest in kept for entry in root.manifests):
        return root
    return _without_others(root, kept)


def _flattened(driver: RegistryDriver, repository: str, root: ImageIndex) -> Flow[ImageIndex]:
    """Replace the entries that are indexes without a platform by the entries of these indexes."""
    entries: list[object] = []
    nested = 0

    def add(index: ImageIndex, depth: int) -> Flow[None]:
        nonlocal nested
        for entry, parsed in zip(json.loads(index.raw)["manifests"], index.manifests, strict=True):
            if parsed.platform is not None or parsed.media_type not in media.INDEXES:
                entries.append(entry)
                continue
            nested += 1
            if depth == DEPTH or nested > NESTED or len(entries) > ENTRIES:
                raise ManifestInvalid(
                    f"repository {repository}: the index {root.digest} lists more than {DEPTH} "
                    f"levels, {NESTED} indexes or {ENTRIES} entries"
                )
            document = yield from _fetch(driver, repository, index, parsed)
            if isinstance(document, ImageIndex):
                yield from add(document, depth + 1)
            else:
                entries.append(entry)

    yield from add(root, 1)
    return _with_entries(root, entries)


def _without_others(root: ImageIndex, kept: set[Digest]) -> ImageIndex:
    """Copy an index with some of its entries."""
    entries = zip(json.loads(root.raw)["manifests"], root.manifests, strict=True)
    return _with_entries(root, [entry for entry, parsed in entries if parsed.digest in kept])


def _with_entries(root: ImageIndex, entries: list[object]) -> ImageIndex:
    """Copy an index with other entries; everything else stays as it was sent."""
    document = json.loads(root.raw)
    document["manifests"] = entries
    document["mediaType"] = root.media_type
    raw = json.dumps(document, separators=(",", ":")).encode()
    parsed = parse_manifest(raw, media_type=root.media_type)
    assert isinstance(parsed, ImageIndex)
    return parsed


def _config_platform(
    driver: RegistryDriver, repository: str, manifest: ImageManifest
) -> Flow[Platform | None]:
    if manifest.config.media_type not in media.IMAGE_CONFIGS:
        return None  # an artifact
    config = yield from driver.image_config(repository, manifest)
    return config.platform


def platform_key(platform: Platform) -> tuple[str, ...]:
    """The part of a platform that entries are compared by; the version only where it is given."""
    own = platform.normalized()
    return (own.os, own.architecture, own.variant or "")


def _check_all(
    repository: str,
    kind: str,
    platforms: Sequence[Platform],
    offered: dict[tuple[str, ...], Platform],
) -> None:
    missing = [str(platform) for platform in platforms if platform_key(platform) not in offered]
    if missing or not platforms:
        raise PlatformNotFound(
            f"repository {repository}: no manifest for {', '.join(missing) or 'no platform'}; the "
            f"{kind} has: {', '.join(map(str, offered.values())) or 'none'}"
        )
