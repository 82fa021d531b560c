"""A plugin with wrong drivers, and connections that use them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dockhand_core import (
    AsyncDockhand,
    Dockhand,
    PluginError,
    hookimpl,
)


class Drivers:
    """A plugin that provides drivers named `wrong`."""

    def __init__(self, *, auth: Any = None, registry: Any = None, log: Any = None) -> None:
        self.auth, self.registry, self.log = auth, registry, log

    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"wrong": self.auth} if self.auth else {}

    @hookimpl
    def dockhand_registry_drivers(self) -> dict[str, Any]:
        return {"wrong": self.registry} if self.registry else {}

    @hookimpl
    def dockhand_log_drivers(self) -> dict[str, Any]:
        return {"wrong": self.log} if self.log else {}


def use(
    world: str,
    drivers: Drivers,
    operation: Callable[[Any], Any] = lambda client: client.ping(),
    **table: Any,
) -> Any:
    """Make a connection that uses the drivers, and run an operation of its client."""
    table = {"base_uri": "http://127.0.0.1:1", "retries": 0, **table}
    if drivers.auth:
        table = {"auth": {"driver": "wrong"}, **table}
    if drivers.registry:
        table["driver"] = "wrong"
    if drivers.log:
        table["logging"] = {**table.get("logging", {}), "driver": "wrong"}
    config = {"connections": {"main": table}}

    async def main() -> Any:
        async with AsyncDockhand(config) as dockhand:
            dockhand.plugins.register(drivers)
            found = operation(dockhand.connection())
            if hasattr(found, "__aiter__"):
                return [item async for item in found]
            return await found

    if world == "async":
        return asyncio.run(main())
    with Dockhand(config) as dockhand:
        dockhand.plugins.register(drivers)
        found = operation(dockhand.connection())
        return list(found) if hasattr(found, "__next__") else found


def refused(world: str, drivers: Drivers, *args: Any, **table: Any) -> str:
    with pytest.raises(PluginError) as caught:
        use(world, drivers, *args, **table)
    assert type(caught.value) is PluginError
    assert "\n" not in str(caught.value)
    return str(caught.value)
