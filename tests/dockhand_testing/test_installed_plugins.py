"""Plugins of installed packages: the kit finds them, and does not register them again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dockhand_testing import EventHandlerContract

from dockhand_core import plugin_discovery

SOURCE = """
from dockhand_core import hookimpl

class Audit:
    channel = None

    @hookimpl
    def dockhand_configure(self, settings):
        self.channel = settings.get("channel")

    @hookimpl
    def dockhand_event(self, event):
        assert self.channel == "releases"

audit = Audit()

@hookimpl
def dockhand_tag_deleted(event):
    pass
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two entry points of an installed package: an object of a module, and the module."""
    (tmp_path / "dockhand_sample_audit.py").write_text(SOURCE)
    metadata = tmp_path / "dockhand_sample_audit-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: dockhand-sample-audit\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[dockhand]\naudit = dockhand_sample_audit:audit\naudit_hooks = dockhand_sample_audit\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin_discovery.installed.cache_clear()
    yield
    plugin_discovery.installed.cache_clear()
    sys.modules.pop("dockhand_sample_audit", None)


class TestObject(EventHandlerContract):
    handler = "dockhand_sample_audit:audit"

    @pytest.fixture
    def own_settings(self, tmp_path: Path) -> dict[str, str]:
        return {"channel": "releases", "folder": str(tmp_path)}


class TestModule(EventHandlerContract):
    handler = "dockhand_sample_audit"
