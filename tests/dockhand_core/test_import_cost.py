"""`import dockhand_core` is cheap: heavy modules are imported when they are used."""

from __future__ import annotations

import ast
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import dockhand_core

HEAVY = ["aiohttp", "jwt", "cryptography", "starlette", "typer", "rich", "dockhand_distribution"]
HEAVY += ["dockhand_auth_basic", "dockhand_auth_bearer", "dockhand_auth_apikey", "vcr", "yarl"]
HEAVY += ["dockhand_auth_jwt", "dockhand_auth_token"]


def imported_modules(code: str) -> set[str]:
    """Run code in a new interpreter, and return the top-level modules that are imported then."""
    code += "\nimport sys; print(*(name for name in sys.modules if '.' not in name))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["dockhand_core", "dockhand_core.models", "dockhand_core.scope"])
def test_import_loads_no_heavy_module(module: str) -> None:
    # ignore the modules that httpx imports; rich is one of them if it is installed
    modules = imported_modules(f"import {module}") - imported_modules("import httpx")
    assert "dockhand_core" in modules
    assert modules.isdisjoint(HEAVY)


def test_making_a_manager_loads_only_hooks() -> None:
    modules = imported_modules("from dockhand_core import Dockhand; Dockhand({})")
    assert "dockhand_auth_basic" in modules
    assert modules.isdisjoint({"aiohttp", "jwt", "cryptography"})


def test_a_sync_client_loads_no_async_library() -> None:
    modules = imported_modules("from dockhand_core import connect; connect('http://r').close()")
    assert modules.isdisjoint({"aiohttp", "yarl"})


def test_hookimpl_is_light() -> None:
    modules = imported_modules("from dockhand_core import hookimpl")
    assert "pluggy" in modules
    assert modules.isdisjoint({*HEAVY, "asyncio", "httpx", "pydantic", "structlog", "email"})


def test_the_package_alone_loads_nothing() -> None:
    modules = imported_modules("import dockhand_core")
    assert modules.isdisjoint({*HEAVY, "asyncio", "httpx", "pluggy", "pydantic", "structlog"})


def test_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(dockhand_core.__file__).read_text("utf-8"))
    typed = {
        name.name: node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for name in node.names
    }
    assert sorted(typed) == dockhand_core.__all__
    for name, module in typed.items():
        assert getattr(dockhand_core, name) is getattr(importlib.import_module(module), name)
        assert vars(dockhand_core)[name] is getattr(dockhand_core, name)  # found once


def test_names_are_listed_before_they_are_loaded() -> None:
    code = "import dockhand_core; assert set(dockhand_core.__all__) <= set(dir(dockhand_core))"
    assert "httpx" not in imported_modules(code)


def test_all_names_are_imported_by_a_star() -> None:
    code = "from dockhand_core import *; assert issubclass(NotFound, RegistryError); connect, Page"
    assert "dockhand_core" in imported_modules(code)


def test_a_submodule_is_an_attribute() -> None:
    code = "import dockhand_core as d; assert d.models.Digest is d.Digest; d.errors.NotFound"
    assert "pydantic" in imported_modules(code)
    with pytest.raises(AttributeError, match="'dockhand_core' has no attribute 'nothing'"):
        dockhand_core.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(dockhand_core, "_private")


def test_a_submodule_without_one_of_its_imports_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lazy_package"
    folder.mkdir()
    source = "from dockhand_core import lazy_exports\n__getattr__ = lazy_exports(__name__, {})\n"
    (folder / "__init__.py").write_text(source)
    (folder / "part.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    package = importlib.import_module("lazy_package")
    try:
        with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
            package.part  # noqa: B018
    finally:
        del sys.modules["lazy_package"]


def test_objects_are_pickled() -> None:
    code = (
        "import pickle, sys; from dockhand_core import Scope, TagInvalid\n"
        "sys.stdout.buffer.write(pickle.dumps((Scope.read('a'), TagInvalid)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    expected = (dockhand_core.Scope.read("a"), dockhand_core.TagInvalid)
    assert pickle.loads(done.stdout) == expected


EACH_ALONE = """
import importlib, pkgutil, sys
import dockhand_core
names = [each.name for each in pkgutil.iter_modules(dockhand_core.__path__)]
assert {"auth", "flow", "logs", "manager"} <= set(names)
for name in names:
    for loaded in [each for each in sys.modules if each.partition(".")[0] == "dockhand_core"]:
        del sys.modules[loaded]
    importlib.import_module(f"dockhand_core.{name}")
"""


def test_each_module_can_be_imported_first() -> None:
    assert "dockhand_core" in imported_modules(EACH_ALONE)
