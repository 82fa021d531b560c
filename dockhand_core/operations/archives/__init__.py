"""Archives of images: a public name for each operation; its module is imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core.lazy import lazy_exports

if TYPE_CHECKING:
    from dockhand_core.operations.archives.load import load_image
    from dockhand_core.operations.archives.save import ArchiveFormat, save_image

__all__ = ["ArchiveFormat", "load_image", "save_image"]

__getattr__ = lazy_exports(
    "dockhand_core.operations.archives",
    {
        "ArchiveFormat": "save",
        "load_image": "load",
        "save_image": "save",
    },
)
