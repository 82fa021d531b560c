"""Manifests, indexes, image configurations and deletions."""

from __future__ import annotations

from dockhand_testing.contracts.manifests import ManifestContract


class TestManifests(ManifestContract):
    """The contract, at every registry."""
