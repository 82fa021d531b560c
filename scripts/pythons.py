"""The versions of Python that the packages support, and the interpreters that are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

_CLASSIFIER = "Programming Language :: Python :: 3."


def supported_versions(root: Path) -> list[str]:
    """Return the versions that the classifiers of the core name, such as `3.11`."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    named = [each for each in project["classifiers"] if each.startswith(_CLASSIFIER)]
    return [each.rpartition(" ")[2] for each in named]


def find_pythons(versions: list[str]) -> dict[str, Path]:
    """Return an interpreter for each version that is installed.

    The script's own interpreter is preferred, then `python3.X` on `PATH`, then pyenv's versions.
    """
    found = {}
    for version in versions:
        for candidate in _candidates(version):
            if _version_of(candidate) == version:
                found[version] = candidate
                break
    return found


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    if program := shutil.which(f"python{version}"):
        yield Path(program)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)


def _version_of(python: Path) -> str | None:
    """Return the version of an interpreter, or None if it does not start or cannot make venvs.

    A program of pyenv on `PATH` starts only if its version is selected.
    """
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
