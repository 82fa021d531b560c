"""The contract of event handlers, for a handler that keeps it."""

from __future__ import annotations

import asyncio
from typing import Any

from dockhand_testing import EventHandlerContract

from dockhand_core import hookimpl


class Table:
    """A table of events, with the id as its key."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}

    @hookimpl
    def dockhand_event(self, event: Any) -> None:
        self.rows[event.id] = event.repository

    @hookimpl
    async def dockhand_manifest_pushed(self, event: Any) -> None:
        await asyncio.sleep(0)
        self.rows[f"tag of {event.id}"] = event.tag or "by digest"


TABLE = Table()


class TestTable(EventHandlerContract):
    handler = TABLE

    def state(self) -> object:
        return dict(TABLE.rows)
