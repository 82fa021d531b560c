"""Packages of plugins: their dependencies, entry points, hooks and imports from the core.

`make lint` checks the other import rules, which are contracts of import-linter in `pyproject.toml`.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockhand_core import Plugins
from dockhand_core.plugins import _EXTRAS

ROOT = Path(__file__).parents[2]
PLUGINS = {p.parent.name: p.parent for p in sorted(ROOT.glob("plugins/*/pyproject.toml"))}
IMPORTED_AS = {"pyjwt": "jwt"}  # packages whose module has another name


def project_file(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))


CORE = project_file(ROOT)
LINTER = CORE["tool"]["importlinter"]


def imports(file: Path) -> Iterator[str]:
    """Yield the modules that a file imports, also in functions or only for type checking."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where they lead"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def contract(name: str) -> dict[str, Any]:
    (found,) = [each for each in LINTER["contracts"] if each["name"] == name]
    return dict(found)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_what_its_pyproject_names(plugin: str) -> None:
    project = project_file(PLUGINS[plugin])["project"]
    extras = [text for group in project.get("optional-dependencies", {}).values() for text in group]
    named = {
        re.split(r"[^A-Za-z0-9_.-]", text)[0].replace("-", "_")
        for text in project["dependencies"] + CORE["project"]["dependencies"] + extras
    }
    allowed = named | {plugin} | set(sys.stdlib_module_names)
    allowed |= {IMPORTED_AS[name] for name in named & IMPORTED_AS.keys()}
    if "pytest11" in project.get("entry-points", {}):
        allowed.add("pytest")  # pytest loads that entry point
    assert "dockhand_core" in allowed
    for file in sorted((PLUGINS[plugin] / plugin).rglob("*.py")):
        for name in imports(file):
            assert name.partition(".")[0] in allowed, f"{file.name} imports {name}"


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_is_announced_by_a_light_module(plugin: str) -> None:
    project = project_file(PLUGINS[plugin])["project"]
    assert project["name"] == plugin.replace("_", "-")
    if plugin == "dockhand_cli":  # the program that has the commands of plugins, and is none
        assert "entry-points" not in project
        assert set(project["scripts"]) == {"dockhand"}
        return
    (value,) = project["entry-points"]["dockhand"].values()
    hooks = PLUGINS[plugin] / plugin / "hooks.py"
    assert value == f"{plugin}.hooks"
    allowed = {"dockhand_core", "dockhand_core.hookimpl", "__future__", "__future__.annotations"}
    assert {n for n in imports(hooks) if not n.startswith(("typing", "collections"))} <= allowed
    assert (PLUGINS[plugin] / plugin / "py.typed").exists()
    assert (PLUGINS[plugin] / "README.md").exists()


def test_every_plugin_is_under_the_contracts() -> None:
    assert LINTER["root_packages"] == ["dockhand_core", *contract_plugins("forbidden_modules")]
    assert set(LINTER["root_packages"]) == {"dockhand_core", *PLUGINS}
    surface = contract("plugins keep to the stable surface")
    assert set(surface["source_modules"]) == set(PLUGINS)


def contract_plugins(key: str) -> list[str]:
    return list(contract("the core never imports a plugin")[key])


def test_the_stable_surface_is_documented() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paragraph = text.partition("**The stable surface.**")[2].partition("Their names change")[0]
    documented = set(re.findall(r"`(\.[a-z.]+)`", paragraph))
    ignored = contract("plugins keep to the stable surface")["ignore_imports"]
    # the other entries are exceptions of one module
    held = {
        text.removeprefix("** -> dockhand_core") for text in ignored if text.startswith("** -> ")
    }
    # the contract may name single modules of a documented package
    assert documented <= held
    assert all(any(f"{name}.".startswith(f"{each}.") for each in documented) for name in held)


def test_every_extra_of_a_driver_is_suggested() -> None:
    """`PluginNotFound` suggests exactly the extras that install a driver."""
    extras = CORE["project"]["optional-dependencies"]
    packages = {"registry": "dockhand-{}", "auth": "dockhand-auth-{}"}
    for kind, names in _EXTRAS.items():
        for name in names:
            (requirement,) = extras[name]
            assert requirement.partition(">=")[0] == packages[kind].format(name)
    suggested = set().union(*_EXTRAS.values())
    assert set(extras) - suggested == {
        "all", "celery", "cli", "htpasswd", "testing", "token-server", "webhook"
    }  # fmt: skip


def test_every_driver_is_under_its_contract() -> None:
    """The tests of each driver subclass the contract of the kit for its kind."""
    contracts = {
        "registry": "RegistryDriverContract",
        "auth": "AuthDriverContract",
        "log": "LogDriverContract",
    }
    tested = "\n".join(
        file.read_text("utf-8") for file in sorted((ROOT / "tests").glob("dockhand_*/*contract.py"))
    )
    for kind, base in contracts.items():
        found = re.findall(rf'\({base}\):\n    driver = "(\w+)"', tested)
        # the auth driver `null` sends nothing that a registry could accept
        assert set(Plugins().names(kind)) - {"null"} <= set(found), kind
