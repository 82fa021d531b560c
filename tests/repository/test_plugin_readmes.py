"""What the README of a plugin shows works as it stands, and names every setting."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dockhand_core import Plugins

PLUGINS = Path(__file__).parents[2] / "plugins"
DRIVERS = {
    "dockhand_auth_basic": ("auth", "basic"),
    "dockhand_auth_bearer": ("auth", "bearer"),
    "dockhand_auth_apikey": ("auth", "apikey"),
    "dockhand_auth_jwt": ("auth", "jwt"),
    "dockhand_distribution": ("registry", "distribution"),
}
ELSEWHERE = "https://registry.example.com"


def blocks(plugin: str, language: str) -> list[str]:
    text = (PLUGINS / plugin / "README.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("plugin", DRIVERS)
def test_examples(plugin: str, clean: Path, serve: Callable[..., str]) -> None:
    asked: list[tuple[str, str | None]] = []

    def registry(method: str, path: str, headers: Any, body: bytes) -> Any:
        asked.append((path, headers.get("authorization") or headers.get("x-jfrog-art-api")))
        return 200, {}, json.dumps({"repositories": ["a"], "name": "a", "tags": ["b"]}).encode()

    url = serve(registry)
    (toml,) = blocks(plugin, "toml")
    (clean / "dockhand.toml").write_text(toml.replace(ELSEWHERE, url))
    for file in ("password.txt", "api-key.txt"):
        (clean / file).write_text("from-file\n")
    if plugin == "dockhand_auth_jwt":
        subprocess.run([sys.executable, "-m", plugin, "keys"], check=True, capture_output=True)
    environ = {**os.environ, "REGISTRY_TOKEN": "t", "ZOT_API_KEY": "k"}
    examples = blocks(plugin, "python")
    assert len(examples) == 2
    for example in examples:
        assert not asked
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", example.replace(ELSEWHERE, url)],
            capture_output=True,
            text=True,
            check=False,
            env=environ,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert asked
        assert all(bool(sent) == ("auth" in plugin) for _, sent in asked)
        asked.clear()


@pytest.mark.parametrize("plugin", DRIVERS)
def test_every_setting_is_named(plugin: str) -> None:
    (text,) = [(PLUGINS / plugin / "README.md").read_text("utf-8")]
    for name in Plugins().driver(*DRIVERS[plugin]).Settings.model_fields:
        assert re.search(rf"^\| `{name}` \|", text, re.MULTILINE), name
    extra = DRIVERS[plugin][1]
    assert re.search(rf'pip install "dockhand-core\[[a-z,]*{extra}[],]', text)
