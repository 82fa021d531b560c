"""Operations that use only the methods of `RegistryDriver`, so they work with every driver."""

from typing import TYPE_CHECKING

from dockhand_core.lazy import lazy_exports
from dockhand_core.operations.buffered_upload import BufferedUpload
from dockhand_core.operations.images import UNSTATED, exists, image
from dockhand_core.operations.indexes import put_index

if TYPE_CHECKING:
    from dockhand_core.operations.nested_referrers import ReferrerNode, referrer_tree
    from dockhand_core.operations.usage import RepositoryUsage, TagUsage, repository_usage

__all__ = [
    "UNSTATED",
    "BufferedUpload",
    "ReferrerNode",
    "RepositoryUsage",
    "TagUsage",
    "exists",
    "image",
    "put_index",
    "referrer_tree",
    "repository_usage",
]

if not TYPE_CHECKING:  # no client needs these
    _HOMES = {
        "ReferrerNode": "nested_referrers",
        "referrer_tree": "nested_referrers",
        "RepositoryUsage": "usage",
        "TagUsage": "usage",
        "repository_usage": "usage",
    }
    __getattr__ = lazy_exports(__name__, _HOMES)
