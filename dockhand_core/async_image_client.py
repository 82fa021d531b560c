"""The operations of the async client on whole images: copies, archives, artifacts and retention."""

from __future__ import annotations

from dockhand_core.async_blob_client import AsyncBlobClient, copy_docstrings
from dockhand_core.image_client import ImageClient

__all__ = ["AsyncImageClient"]


class AsyncImageClient(AsyncBlobClient):
    """The base of `AsyncRegistryClient`, with the operations on whole images."""

    # -- copies ----------------------------------------------------------------------------

    # -- archives --------------------------------------------------------------------------

    # -- artifacts -------------------------------------------------------------------------

    # -- retention -------------------------------------------------------------------------


copy_docstrings(ImageClient, AsyncImageClient)
