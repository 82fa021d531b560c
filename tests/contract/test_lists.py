"""Ping, API version, and lists of repositories and tags."""

from __future__ import annotations

from dockhand_testing.contracts.lists import ListContract


class TestLists(ListContract):
    """The contract, at every registry."""
