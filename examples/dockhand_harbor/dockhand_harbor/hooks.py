"""The hooks of this package. Dockhand imports this module at every start, so it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import hookimpl

if TYPE_CHECKING:
    from dockhand_harbor.notifications import HarborParser

__all__ = ["dockhand_event_parsers", "dockhand_registry_drivers"]


@hookimpl
def dockhand_registry_drivers() -> dict[str, str]:
    """The driver; its module is imported when a connection uses it."""
    return {"harbor": "dockhand_harbor.driver:HarborDriver"}


@hookimpl
def dockhand_event_parsers() -> list[HarborParser]:
    """The parser of webhook notifications; asked for by receivers only."""
    from dockhand_harbor.notifications import HarborParser

    return [HarborParser()]
