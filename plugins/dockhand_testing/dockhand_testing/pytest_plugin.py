"""The pytest fixtures `dockhand` and `scripted_registry`, for the tests of plugins.

pytest loads this module in every run if the package is installed, so it imports little.
"""

from __future__ import annotations

import importlib
import operator
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dockhand_core import Dockhand
    from dockhand_testing.scripted_registry import ScriptedRegistry

__all__ = ["dockhand", "dockhand_config", "dockhand_plugin", "scripted_registry"]

pytest.register_assert_rewrite("dockhand_testing.contracts")


@pytest.fixture
def scripted_registry() -> Iterator[ScriptedRegistry]:
    """A registry on a loopback port, whose next replies the test can choose."""
    from dockhand_testing.scripted_registry import run_scripted_registry

    with run_scripted_registry() as registry:
        yield registry


@pytest.fixture
def dockhand_plugin(request: pytest.FixtureRequest) -> Any:
    """The plugin under test, if its package is not installed; override it in a conftest.

    It is an object or a module with hooks, or the place to import it from: `package.module`, or
    `package.module:object`. By default, the attribute `plugin`
    of the test's class; None means that the entry point of an installed package provides it.
    """
    return getattr(request.cls, "plugin", None)


@pytest.fixture
def dockhand_config() -> Mapping[str, Any]:
    """The configuration of the manager `dockhand`; override it to give it connections."""
    return {}


@pytest.fixture
def dockhand(
    dockhand_plugin: Any, dockhand_config: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Dockhand]:
    """A manager with the plugin under test registered, and without the environment's settings."""
    from dockhand_core import Dockhand

    for name in list(os.environ):
        if name.startswith("DOCKHAND_") and name != "DOCKHAND_DISABLE_PLUGINS":
            monkeypatch.delenv(name)
    with Dockhand(dict(dockhand_config)) as manager:
        register(manager, dockhand_plugin)
        yield manager


def register(manager: Any, plugin: Any) -> None:
    """Register the plugin under test on a manager, if it is not an installed one."""
    if isinstance(plugin, str):
        plugin = imported(plugin)
    if plugin is not None and installed_name(plugin) is None:
        manager.plugins.register(plugin)


def imported(place: str) -> Any:
    """Import a module, or an object of one: `package.module`, or `package.module:object`."""
    module, _, name = place.partition(":")
    found = importlib.import_module(module)
    return operator.attrgetter(name)(found) if name else found


def installed_name(plugin: Any) -> str | None:
    """The name of the entry point that provides a module or an object, or None."""
    for entry in entry_points(group="dockhand"):
        found: Any = sys.modules.get(entry.module)  # that of `plugin` is imported by now
        for name in filter(None, (entry.attr or "").split(".")):
            found = getattr(found, name, None)
        if found is not None and found is plugin:
            return entry.name
    return None
