"""The index of some of an index's platforms."""

from __future__ import annotations

from collections.abc import Sequence

from dockhand_core.errors import PlatformNotFound
from dockhand_core.models import ImageConfig, ImageIndex, Platform

__all__ = ["check_platform", "platforms_of", "subset"]

ATTESTED = "vnd.docker.reference.digest"  # the annotation of an attestation: the digest it is about


def platforms_of(platforms: Sequence[Platform | str] | Platform | str | None) -> list[Platform]:
    """Parse the argument `platforms`; an empty list means all platforms.

    Raises:
        ConfigError: a text is not of the form `os/architecture[/variant]`.
    """
    if isinstance(platforms, Platform | str):
        platforms = [platforms]
    return [p if isinstance(p, Platform) else Platform.parse(p) for p in platforms or ()]


def subset(index: ImageIndex, platforms: Sequence[Platform]) -> ImageIndex:
    """Make an index of the entries that have one of some platforms, with their attestations.

    Args:
        index: the whole index; media type and annotations are taken over.
        platforms: the platforms; each has to match an entry exactly, once both are normalised.

    Raises:
        PlatformNotFound: the index lacks one of the platforms.
    """
    wanted = [platform.normalized() for platform in platforms]
    stated = [(entry, entry.platform) for entry in index.manifests if entry.platform is not None]
    kept_digests = set()
    missing = []
    for platform in wanted:
        found = [entry for entry, other in stated if _matches(platform, other.normalized())]
        kept_digests |= {entry.digest for entry in found}
        if not found:
            missing.append(str(platform))
    if missing:
        offered = ", ".join(str(other) for _, other in stated if other.os != "unknown") or "none"
        raise PlatformNotFound(f"no manifest for {', '.join(missing)}; the index has: {offered}")
    entries = tuple(
        entry
        for entry in index.manifests
        if entry.digest in kept_digests or entry.annotations.get(ATTESTED) in kept_digests
    )
    return index.model_copy(update={"manifests": entries})


def check_platform(config: ImageConfig | None, platforms: Sequence[Platform], where: str) -> None:
    """Check that a single image has one of the platforms that are asked for.

    Args:
        config: the image's config, or None if it is not known.
        platforms: the platforms.
        where: the start of the error message.

    Raises:
        PlatformNotFound: the image has another platform, or states none.
    """
    found = config.platform if config else None
    if found is None or not any(_matches(p.normalized(), found.normalized()) for p in platforms):
        wanted = ", ".join(map(str, platforms))
        raise PlatformNotFound(f"{where}: no image for {wanted}; it is for {found or 'none'}")


def _matches(wanted: Platform, offered: Platform) -> bool:
    same = (wanted.os, wanted.architecture, wanted.variant) == (
        offered.os,
        offered.architecture,
        offered.variant,
    )
    return same and wanted.os_version in (None, offered.os_version)
