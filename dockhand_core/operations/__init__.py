"""Operations that use only the methods of `RegistryDriver`, so they work with every driver."""

from dockhand_core.operations.buffered_upload import BufferedUpload
from dockhand_core.operations.images import UNSTATED, exists, image
from dockhand_core.operations.indexes import put_index

__all__ = ["UNSTATED", "BufferedUpload", "exists", "image", "put_index"]
