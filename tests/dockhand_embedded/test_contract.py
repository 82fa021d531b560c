"""The contract of registry drivers, for `embedded`."""

from __future__ import annotations

from dockhand_testing import RegistryDriverContract


class TestEmbedded(RegistryDriverContract):
    driver = "embedded"
    settings = {"root": ":memory:"}
