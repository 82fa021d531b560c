"""The examples in the plugins' READMEs run, and every setting of a driver is in its table."""

from __future__ import annotations

import json
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
REGISTRY = "https://registry.example.com"
REPLY = {"repositories": ["library/nginx"], "name": "library/nginx", "tags": ["1.27"]}


def blocks(plugin: str, language: str) -> list[str]:
    text = (PLUGINS / plugin / "README.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("plugin", DRIVERS)
def test_examples(
    plugin: str, clean: Path, serve: Callable[..., str], run_example: Callable[..., None]
) -> None:
    requests: list[tuple[str, str | None]] = []

    def registry(method: str, path: str, headers: Any, body: bytes) -> Any:
        requests.append((path, headers.get("authorization") or headers.get("x-jfrog-art-api")))
        return 200, {}, json.dumps(REPLY).encode()

    url = serve(registry)
    (toml,) = blocks(plugin, "toml")
    (clean / "dockhand.toml").write_text(toml.replace(REGISTRY, url))
    for file in ("password.txt", "api-key.txt"):
        (clean / file).write_text("from-file\n")
    if plugin == "dockhand_auth_jwt":
        subprocess.run([sys.executable, "-m", plugin, "keys"], check=True, capture_output=True)
    examples = blocks(plugin, "python")
    assert len(examples) == 2
    for example in examples:
        assert not requests
        run_example(
            without_explanations(example.replace(REGISTRY, url)),
            cwd=clean,
            env={"REGISTRY_TOKEN": "t", "ZOT_API_KEY": "k"},
        )
        assert requests
        assert all(bool(sent) == ("auth" in plugin) for _, sent in requests)
        requests.clear()


def without_explanations(example: str) -> str:
    """Remove from an example the comment after `print` that explains the output, not shows it."""
    return re.sub(r"\)  # .*token.*pull.*", ")", example)


@pytest.mark.parametrize("plugin", DRIVERS)
def test_every_setting_is_in_the_table(plugin: str) -> None:
    text = (PLUGINS / plugin / "README.md").read_text("utf-8")
    for name in Plugins().driver(*DRIVERS[plugin]).Settings.model_fields:
        assert re.search(rf"^\| `{name}` \|", text, re.MULTILINE), name
    extra = DRIVERS[plugin][1]
    assert re.search(rf'pip install "dockhand-core\[[a-z,]*{extra}[],]', text)


def test_examples_of_the_embedded_registry(
    run_example: Callable[..., None], tmp_path: Path
) -> None:
    """All examples run but the one that shows a test with pytest."""
    for example in blocks("dockhand_embedded", "python"):
        if "def test_" not in example:
            run_example(example, cwd=tmp_path)
