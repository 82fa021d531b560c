"""The fixture `dockhand`: a manager with the plugin under test, apart from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from dockhand_testing import ScriptedRegistry

from dockhand_core import AuthDriver, Dockhand, hookimpl


class OwnAuth(AuthDriver):
    def auth_flow(self, request: Any) -> Any:
        request.headers["X-Own"] = "1"
        yield request


class Plugin:
    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"own": OwnAuth}


class TestPlugin:
    plugin = Plugin()

    @pytest.fixture
    def dockhand_config(self, scripted_registry: ScriptedRegistry) -> Mapping[str, Any]:
        auth = {"driver": "own"}
        return {"connections": {"default": {"base_uri": scripted_registry.url, "auth": auth}}}

    def test_registered(self, dockhand: Dockhand, scripted_registry: ScriptedRegistry) -> None:
        assert "own" in dockhand.plugins.names("auth")
        dockhand.connection().ping()
        assert scripted_registry.requests[0].headers["x-own"] == "1"


@pytest.fixture
def dockhand_plugin() -> Any:
    return Plugin()


def test_plugin_of_a_module(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("DOCKHAND_AUTH_DRIVER", "nonsense")
    dockhand: Dockhand = request.getfixturevalue("dockhand")
    assert "own" in dockhand.plugins.names("auth")
    assert dockhand.connections == ()
