"""Settings of log drivers: the folder that relative paths start at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dockhand_core import Dockhand, hookimpl
from dockhand_core.logs import LogSettings, make_logger


class Plugin:
    """A plugin whose log driver notes the folder of its settings."""

    def __init__(self) -> None:
        self.base: Path | None = None

    @hookimpl
    def dockhand_log_drivers(self) -> dict[str, Any]:
        return {"lines": self.make}

    def make(self, settings: LogSettings, connection: str) -> Any:
        self.base = settings.base
        assert settings.options == {"path": "requests.log"}
        return make_logger(settings, connection, [], known=["path"])


def test_relative_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "etc" / "dockhand.toml"
    file.parent.mkdir()
    logging = 'logging = { driver = "lines", path = "requests.log" }'
    file.write_text(f'[connections.main]\nbase_uri = "http://127.0.0.1:1"\n{logging}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKHAND_CONFIG", str(file))
    plugin = Plugin()
    with Dockhand() as dockhand:
        dockhand.plugins.register(plugin, name="lines")
        dockhand.connection("main")
    assert plugin.base == file.parent


def test_without_a_file_they_start_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert LogSettings(driver="lines").base == tmp_path
