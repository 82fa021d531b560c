"""Every public name of every package can be imported, alone or with others and in any order."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each child is a fork, so that it starts with none of the packages imported. What they need of
# others is imported once, which saves most of the time.
PROGRAM = """
import json, os, sys, types
import cryptography, httpx, pydantic, pytest, rich.console, typer

found = {}
for package, names in json.load(sys.stdin).items():
    for order in (names, names[::-1]):
        reader, writer = os.pipe()
        if not os.fork():
            space = {}
            exec(f"from {package} import {', '.join(order)}", space)
            modules = [name for name in names if isinstance(space[name], types.ModuleType)]
            os.write(writer, json.dumps(modules).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            found.setdefault(package, []).append(pipe.read())
        os.wait()
print(json.dumps(found))
"""


def packages() -> Iterator[tuple[str, Path]]:
    """The import names of all packages, with their folders."""
    for top in (ROOT, *ROOT.glob("plugins/*"), *ROOT.glob("examples/*")):
        for init in top.glob("dockhand_*/**/__init__.py"):
            parts = init.parent.relative_to(top).parts
            if all(
                (top.joinpath(*parts[: n + 1]) / "__init__.py").exists() for n in range(len(parts))
            ):
                yield ".".join(parts), init.parent


@cache
def public_names(folder: Path) -> list[str]:
    """The names in `__all__` of a package, from its source."""
    for node in ast.parse((folder / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


ALL = {name: folder for name, folder in packages() if public_names(folder)}


LAZY = {name for name, at in ALL.items() if "lazy_exports(" in (at / "__init__.py").read_text()}


@pytest.mark.parametrize("package", sorted(LAZY))
def test_no_lazy_name_is_that_of_a_submodule(package: str) -> None:
    """Python sets the attribute of a package to the submodule when that is imported."""
    folder = ALL[package]
    submodules = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    assert not submodules.intersection(public_names(folder))


def test_all_names_at_once() -> None:
    asked = {
        name: public_names(folder) for name, folder in ALL.items() if "examples" not in folder.parts
    }
    assert len(asked) > 15
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    modules = {"dockhand_core.models": '["media"]'}
    expected = {name: [modules.get(name, "[]")] * 2 for name in asked}
    assert found == expected, done.stderr
