"""`import dockhand_core` is cheap: heavy modules are imported when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
