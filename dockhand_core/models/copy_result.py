"""The result of a copy."""

from __future__ import annotations

from dataclasses import dataclass

from dockhand_core.errors import DockhandError
from dockhand_core.models.digest import Digest
from dockhand_core.models.manifest import Descriptor

__all__ = ["CopyResult"]


@dataclass(frozen=True, kw_only=True)
class CopyResult:
    """The result of a copy of an image or index.

    Blobs that several images share are counted once, by the copy that brought them.

    Attributes:
        digest: digest of the image or index at the target; None if `error` is set before it was
            known.
        manifests: number of manifests and indexes that were pushed, referrers included.
        blobs_copied: number of blobs that were sent.
        blobs_mounted: number of blobs that the registry mounted from another repository.
        blobs_skipped: number of blobs that the target had.
        bytes_copied: number of bytes of the blobs that were sent.
        dropped: referrers that were left out, because they refer to a manifest that the copy
            replaced by another one, or because the source lists them without having them.
        tag: the tag at the target, or None if the copy was pushed by digest.
        error: the error of a failed tag, in results of `copy_tags`; or None.
    """

    digest: Digest | None
    manifests: int = 0
    blobs_copied: int = 0
    blobs_mounted: int = 0
    blobs_skipped: int = 0
    bytes_copied: int = 0
    dropped: tuple[Descriptor, ...] = ()
    tag: str | None = None
    error: DockhandError | None = None
