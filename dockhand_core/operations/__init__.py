"""Operations built on the driver contract alone, so that they work with every driver."""

from dockhand_core.operations.chunked_upload import ChunkedUpload
from dockhand_core.operations.images import exists, image

__all__ = ["ChunkedUpload", "exists", "image"]
