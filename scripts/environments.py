"""Virtual environments of the scripts that use packages, and the programs run in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from distributions import Distribution

ROOT = Path(__file__).parents[1]


class Interpreter:
    """One Python, with a folder of the wheels of all requirements."""

    def __init__(self, version: str, python: Path, folder: Path) -> None:
        self.version = version
        self.python = python
        self.folder = folder
        self.wheels = folder / "wheels"
        folder.mkdir()

    def download(self, packages: list[Distribution]) -> None:
        """Download the requirements of all packages, with all extras, in the pinned versions."""
        environment = self.new_environment("download")
        self.pip(
            environment, "download", "--only-binary", ":all:", "--dest", self.wheels,
            "-c", ROOT / "constraints.txt", "--find-links", packages[0].wheel.parent, "pytest",
            *(f"{each.wheel}{each.all_extras}" for each in packages),
        )  # fmt: skip

    def environment(self, name: str, *requirements: str) -> Path:
        """Return the folder of programs of a new environment that has only these requirements."""
        environment = self.new_environment(name)
        self.pip(
            environment, "install", "--no-compile", "--no-index", "--find-links", self.wheels,
            *requirements,
        )  # fmt: skip
        return environment / "bin"

    def new_environment(self, name: str) -> Path:
        """Return the folder of a new environment in which nothing is installed."""
        environment = self.folder / name
        run(self.python, "-m", "venv", "--without-pip", environment)
        return environment

    def pip(self, environment: Path, *arguments: str | Path) -> None:
        """Run pip for an environment."""
        python = environment / "bin" / "python"
        quiet = ("--quiet", "--disable-pip-version-check")
        run(sys.executable, "-m", "pip", "--python", python, *arguments, *quiet)


def clean_environment() -> dict[str, str]:
    """Return the environment without the variables `DOCKHAND_*` and `PYTHON*`."""
    hidden = ("DOCKHAND_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)}


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command without the variables `DOCKHAND_*` and `PYTHON*`; exit if it fails."""
    arguments = [str(part) for part in command]
    done = subprocess.run(  # noqa: S603
        arguments, cwd=cwd, env=clean_environment(), check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"failed: {' '.join(arguments)[:500]}\n{done.stdout}")
