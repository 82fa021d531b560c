"""Operations that use only the methods of `RegistryDriver`, so they work with every driver."""

from dockhand_core.operations.chunked_upload import ChunkedUpload
from dockhand_core.operations.images import exists, image

__all__ = ["ChunkedUpload", "exists", "image"]
