"""`import dockhand_core` is cheap: what is heavy is imported where it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["aiohttp", "jwt", "cryptography", "starlette", "typer", "rich", "dockhand_distribution"]
HEAVY += ["dockhand_auth_basic", "dockhand_auth_bearer", "dockhand_auth_apikey", "vcr", "yarl"]
HEAVY += ["dockhand_auth_jwt", "dockhand_auth_token"]


def loaded(code: str) -> set[str]:
    code += "\nimport sys; print(*(name for name in sys.modules if '.' not in name))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["dockhand_core", "dockhand_core.models", "dockhand_core.scope"])
def test_import(module: str) -> None:
    found = loaded(f"import {module}") - loaded("import httpx")  # which takes rich if it is there
    assert "dockhand_core" in found
    assert found.isdisjoint(HEAVY)


def test_making_a_manager_loads_hooks_alone() -> None:
    found = loaded("from dockhand_core import Dockhand; Dockhand({})")
    assert "dockhand_auth_basic" in found
    assert found.isdisjoint({"aiohttp", "jwt", "cryptography"})


def test_a_blocking_client_needs_no_asynchronous_library() -> None:
    found = loaded("from dockhand_core import connect; connect('http://r').close()")
    assert found.isdisjoint({"aiohttp", "yarl"})
