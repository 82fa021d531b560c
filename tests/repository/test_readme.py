"""The README's examples print the output in their comments; its links and its map are right."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path

import pytest
from dockhand_testing.contracts.samples import push_index
from registries import embedded

from dockhand_core import ConfigError, Dockhand, connect, hookspecs
from dockhand_core.config import ConnectionConfig

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
TOML = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
MAP = TEXT.partition("## The map")[2]


def test_examples(run_example: Callable[..., None], tmp_path: Path) -> None:
    """All examples but the first run in one folder, one after the other."""
    (tmp_path / "dockhand.toml").write_text(TOML[0])
    (tmp_path / "secret.txt").write_text("secret\n")
    assert len(BLOCKS) >= 6
    for block in BLOCKS[1:]:
        run_example(block, cwd=tmp_path)


def test_first_example(run_example: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "pulled").mkdir()
    with embedded(tmp_path / "registry") as url:
        with connect(url) as registry:
            layers = push_index(registry, "library/nginx", "latest").manifests
        assert len(layers) == 2
        run_example(BLOCKS[0].replace("http://localhost:5000", url), cwd=tmp_path / "pulled")
    assert [file.read_text() for file in (tmp_path / "pulled").iterdir()] == ["layer arm64"]


def test_error_of_a_misspelt_key() -> None:
    (shown,) = re.findall(r"^ConfigError: (.*)$", TEXT, re.MULTILINE)
    table = {"base_url": "https://registry.example.com"}
    with pytest.raises(ConfigError) as caught, Dockhand({"connections": {"main": table}}) as it:
        it.connection("main")
    pattern = ".*".join(re.escape(part) for part in shown.split("…"))
    assert re.fullmatch(pattern, str(caught.value))


def test_every_key_of_a_connection_is_in_the_table() -> None:
    rows = re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(ConnectionConfig.model_fields) <= named


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"(?:`|^)make ([a-z]+)", TEXT, re.MULTILINE)))
)
def test_make_targets(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.search(rf"^{command}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (\w+)", TEXT))))
def test_programs(module: str) -> None:
    assert importlib.util.find_spec(f"{module}.__main__")


def paths_on_the_map() -> Iterator[Path]:
    """Yield every folder and file that the tables of the README's map name.

    In the first column, a name with a slash at its end is the folder of the files that follow. The
    tables of `dockhand_core/` and `plugins/` are relative to these folders, and a plugin's files
    are in its import package.
    """
    base = ROOT
    for line in MAP.splitlines():
        if heading := re.match(r"### (.*)", line):
            named = re.fullmatch(r"`(\w+)/`", heading[1])
            base = ROOT / named[1] if named else ROOT
        if not line.startswith("| `"):
            continue
        folder = base
        for name in re.findall(r"`([^`]+)`", line.split(" | ")[0]):
            if name.startswith("make "):
                continue
            if not name.endswith("/"):
                yield folder / name
                continue
            folder = base / name
            if base.name == "plugins":
                folder = base / name.partition("/")[0] / name
            yield folder


def test_map_names_existing_files() -> None:
    named = list(paths_on_the_map())
    assert len(named) > 100
    missing = [path for path in named if not path.exists()]
    assert not missing


def test_map_is_complete() -> None:
    """The map names every plugin, and every module of the core or the folder that contains it."""
    named = set(paths_on_the_map())
    files = {path for path in named if path.suffix == ".py"}
    with_files = {path.parent for path in files}
    whole = {path for path in named if path.is_dir()} - with_files
    for module in (ROOT / "dockhand_core").rglob("*.py"):
        if module.name != "__init__.py":
            assert module in files or whole & set(module.parents), module.relative_to(ROOT)
    for project in ROOT.glob("plugins/*/pyproject.toml"):
        name = project.parent.name
        assert any(project.parent / name in (path, *path.parents) for path in named), name


def test_every_hook_is_in_the_table() -> None:
    """The table has all hooks, with their arguments in order, and no others."""
    section = TEXT.partition("#### The hooks\n")[2].partition("\n####")[0]
    rows = re.findall(r"^\| `(dockhand_\w+)` \| ?(.*?) ?\| (.+) \|$", section, re.MULTILINE)
    assert all(called for _, _, called in rows)
    shown = {hook: re.findall(r"`(\w+)`", arguments) for hook, arguments, _ in rows}
    assert len(shown) == len(rows)
    hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("dockhand_")}
    assert set(hooks) == {name for name in hookspecs.__all__ if name.startswith("dockhand_")}
    assert shown == {name: list(signature(hook).parameters) for name, hook in hooks.items()}


@pytest.mark.parametrize("name", ["DOCKHAND_DISABLE_PLUGINS", "DOCKHAND_STRICT_PLUGINS"])
def test_variables_for_plugins_are_described(name: str) -> None:
    assert re.search(rf"^\| `{name}` \| .+ \|$", TEXT, re.MULTILINE)
