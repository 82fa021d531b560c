"""The contract of event handlers, for a handler that keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from dockhand_testing import EventHandlerContract

from dockhand_core import Dockhand, hookimpl
from dockhand_core.events import RegistryBaseEvent


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

    def handled(self, event: RegistryBaseEvent) -> bool:
        return TABLE.rows.get(event.id) == "library/app"


class Tagger:
    """A handler that asks a registry of the configuration, and has no settings."""

    def __init__(self) -> None:
        self.dockhand: Dockhand | None = None

    @hookimpl
    def dockhand_configure(self, dockhand: Dockhand) -> None:
        self.dockhand = dockhand

    @hookimpl
    def dockhand_manifest_pushed(self, event: Any) -> None:
        assert self.dockhand is not None
        assert not self.dockhand.connection("main").manifest_exists(event.repository, "v1")


class TestTagger(EventHandlerContract):
    handler = Tagger

    @pytest.fixture
    def dockhand_config(self) -> Mapping[str, Any]:
        return {"connections": {"main": {"driver": "embedded", "root": ":memory:"}}}
