"""Blobs: reading, mounting, deleting, and every way to upload them."""

from __future__ import annotations

from dockhand_testing.contracts.blobs import BlobContract
from dockhand_testing.contracts.uploads import UploadContract


class TestBlobs(BlobContract):
    """The contract, at every registry."""


class TestUploads(UploadContract):
    """The contract, at every registry."""
