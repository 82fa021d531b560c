"""Indexes that are made of images in a repository."""

from __future__ import annotations

from dockhand_testing.contracts.indexes import IndexContract


class TestIndexes(IndexContract):
    """The contract, at every registry."""
