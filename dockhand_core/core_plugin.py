"""The core's own plugin, with the drivers and event parsers that need no other package."""

from __future__ import annotations

from typing import Any

from dockhand_core.hookspecs import hookimpl

__all__ = ["CorePlugin"]


class CorePlugin:
    """The core's own plugin, with the drivers that need no other package."""

    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        """Provide the driver `null`."""
        return {"null": "dockhand_core.auth:NullAuth"}

    @hookimpl
    def dockhand_log_drivers(self) -> dict[str, Any]:
        """Provide the drivers `console`, `json`, `null` and `stdlib`."""
        names = ("console", "json", "null", "stdlib")
        return {name: f"dockhand_core.logs:{name}" for name in names}

    @hookimpl
    def dockhand_event_parsers(self) -> list[Any]:
        """Provide the parsers of Distribution's envelopes and of zot's CloudEvents."""
        from dockhand_core.events.cloudevents import ZotParser
        from dockhand_core.events.distribution import DistributionParser

        return [DistributionParser(), ZotParser()]
