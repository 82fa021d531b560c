"""The driver `zot`: Distribution's flows, zot's own ways, and its extensions."""

from __future__ import annotations

from dockhand_zot.clients import AsyncZotClient, ZotClient
from dockhand_zot.preferences import ApiKeys, Preferences
from dockhand_zot.registry import ZotRegistry
from dockhand_zot.vulnerabilities import Scans

__all__ = ["ZotDriver"]


class ZotDriver(Preferences, ApiKeys, Scans, ZotRegistry):
    """Registries that are a zot."""

    name = "zot"
    client = ZotClient
    async_client = AsyncZotClient
