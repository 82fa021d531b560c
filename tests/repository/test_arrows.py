"""The arrows of DESIGN.md: who may import whom. Read from the source, so lazy imports count."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "dockhand_core"
PLUGINS = {p.parent.name: p.parent for p in sorted(ROOT.glob("plugins/*/pyproject.toml"))}

# each may import those before it, and none after
LAYERS = [
    {"errors"},
    {"models", "scope"},
    {"flow"},
    {"driver"},
    {"operations"},
    {"client", "async_client"},
    {"manager"},
]
# import httpx: what carries, what is carried, and the types of both
SPEAK_HTTPX = {"auth", "driver", "http", "manager"}

IMPORTED_AS = {"pyjwt": "jwt"}  # packages with a module of another name


def imported(file: Path, *, types: bool = False) -> Iterator[str]:
    """Every module that a file imports; those for type checking alone only if `types`."""
    tree = ast.parse(file.read_text("utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
            skipped.update(inner for child in node.body for inner in ast.walk(child))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where they lead"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(file: Path) -> str:
    return file.relative_to(CORE).parts[0].removesuffix(".py")


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_there_is_something_to_look_at() -> None:
    rooms = {room(file) for file in files(CORE)}
    assert set().union(*LAYERS) <= rooms
    assert rooms >= SPEAK_HTTPX
    assert {"dockhand_distribution", "dockhand_auth_basic"} <= set(PLUGINS)
    assert "httpx" in set(imported(CORE / "http/exchange.py"))


@pytest.mark.parametrize("file", files(CORE), ids=lambda f: str(f.relative_to(CORE)))
def test_nothing_points_back(file: Path) -> None:
    rank = {name: position for position, layer in enumerate(LAYERS) for name in layer}
    if room(file) not in rank:
        return
    for name in imported(file):
        parts = name.split(".")
        if parts[0] == "dockhand_core" and len(parts) > 1 and parts[1] in rank:
            assert rank[parts[1]] <= rank[room(file)], f"{room(file)} imports {name}"


@pytest.mark.parametrize("file", files(CORE), ids=lambda f: str(f.relative_to(CORE)))
def test_the_core_knows_no_plugin(file: Path) -> None:
    for name in imported(file, types=True):
        top = name.partition(".")[0]
        assert top == "dockhand_core" or not top.startswith("dockhand")


def test_who_speaks_httpx() -> None:
    def tops(file: Path) -> set[str]:
        return {name.partition(".")[0] for name in imported(file, types=True)}

    assert {room(f) for f in files(CORE) if "httpx" in tops(f)} == SPEAK_HTTPX
    assert {room(f) for f in files(CORE) if "aiohttp" in tops(f)} == {"http"}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_what_its_pyproject_names(plugin: str) -> None:
    project = tomllib.loads((PLUGINS[plugin] / "pyproject.toml").read_text())["project"]
    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]  # comes along
    extras = [text for group in project.get("optional-dependencies", {}).values() for text in group]
    named = {
        re.split(r"[^A-Za-z0-9_.-]", text)[0].replace("-", "_")
        for text in project["dependencies"] + core["dependencies"] + extras
    }
    allowed = named | {plugin} | set(sys.stdlib_module_names)
    allowed |= {IMPORTED_AS[name] for name in named & IMPORTED_AS.keys()}
    if "pytest11" in project["entry-points"]:
        allowed.add("pytest")  # who loads that entry point is pytest itself
    assert "dockhand_core" in allowed
    for file in files(PLUGINS[plugin] / plugin):
        for name in imported(file, types=True):
            assert name.partition(".")[0] in allowed, f"{file.name} imports {name}"


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_is_announced(plugin: str) -> None:
    project = tomllib.loads((PLUGINS[plugin] / "pyproject.toml").read_text())["project"]
    assert project["name"] == plugin.replace("_", "-")
    (value,) = project["entry-points"]["dockhand"].values()
    hooks = PLUGINS[plugin] / plugin / "hooks.py"
    assert value == f"{plugin}.hooks"
    # light, since it is loaded at start
    allowed = {"dockhand_core", "dockhand_core.hookimpl", "__future__", "__future__.annotations"}
    assert {n for n in imported(hooks) if not n.startswith(("typing", "collections"))} <= allowed
    assert (PLUGINS[plugin] / plugin / "py.typed").exists()
    assert (PLUGINS[plugin] / "README.md").exists()
