"""The operations of the sync client on whole images: copies, archives, artifacts and retention."""

from __future__ import annotations

from dockhand_core.blob_client import BlobClient

__all__ = ["ImageClient"]


class ImageClient(BlobClient):
    """The base of `RegistryClient`, with the operations on whole images."""

    # -- copies ----------------------------------------------------------------------------

    # -- archives --------------------------------------------------------------------------

    # -- artifacts -------------------------------------------------------------------------

    # -- retention -------------------------------------------------------------------------
