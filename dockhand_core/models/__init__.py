"""Frozen pydantic models of registry content and of the results of operations."""

from dockhand_core.models import media
from dockhand_core.models.blob_progress import BlobProgress, BlobState
from dockhand_core.models.copy_result import CopyResult
from dockhand_core.models.digest import (
    Digest,
    Hasher,
    check_digest,
    check_hash,
    check_reference,
    check_repository,
    check_tag,
    new_hasher,
)
from dockhand_core.models.image_config import HistoryEntry, ImageConfig
from dockhand_core.models.manifest import Descriptor, ImageIndex, ImageManifest, parse_manifest
from dockhand_core.models.platform import Platform
from dockhand_core.models.reference import Reference
from dockhand_core.models.results import (
    ApiVersion,
    ManifestHead,
    Page,
    PushResult,
    TagDetails,
    Upload,
)

__all__ = [
    "ApiVersion",
    "BlobProgress",
    "BlobState",
    "CopyResult",
    "Descriptor",
    "Digest",
    "Hasher",
    "HistoryEntry",
    "ImageConfig",
    "ImageIndex",
    "ImageManifest",
    "ManifestHead",
    "Page",
    "Platform",
    "PushResult",
    "Reference",
    "TagDetails",
    "Upload",
    "check_digest",
    "check_hash",
    "check_reference",
    "check_repository",
    "check_tag",
    "media",
    "new_hasher",
    "parse_manifest",
]
