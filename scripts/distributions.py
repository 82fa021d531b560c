"""Build the wheel and the sdist of every package, and check the files and the metadata."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

from version import project_files


@dataclass(frozen=True)
class Distribution:
    """A package that is built.

    Attributes:
        name: the name, such as `dockhand-core`.
        all_extras: the names of its extras as in a requirement, or nothing.
        wheel: the wheel, which is built from the sdist.
        sdist: the archive of the source.
    """

    name: str
    all_extras: str
    wheel: Path
    sdist: Path


def build(root: Path, folder: Path) -> list[Distribution]:
    """Build all packages of a checkout into an emptied folder, and check them."""
    shutil.rmtree(folder, ignore_errors=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sources = [path.parent for path in project_files(root)]
        packages = list(pool.map(lambda source: _build(source, folder), sources))
    for package in packages:
        check(package)
    files = [path for each in packages for path in (each.wheel, each.sdist)]
    _run("twine", "check", "--strict", *files)
    return packages


def _build(source: Path, folder: Path) -> Distribution:
    """Build an sdist, and a wheel from it, which must have the same files as one from `source`."""
    project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
    stem = f"{project['name'].replace('-', '_')}-{project['version']}"
    wheel, sdist = folder / f"{stem}-py3-none-any.whl", folder / f"{stem}.tar.gz"
    with tempfile.TemporaryDirectory() as direct:
        _run("build", "--no-isolation", "--outdir", folder, source)
        _run("build", "--no-isolation", "--wheel", "--outdir", direct, source)
        expected, found = _files(Path(direct) / wheel.name), _files(wheel)
    differing = {path for path, _ in expected.items() ^ found.items()}
    if differing:
        names = ", ".join(sorted(differing))
        sys.exit(f"the wheel from {sdist.name} differs from the one of the checkout: {names}")
    extras = ",".join(project.get("optional-dependencies", {}))
    return Distribution(project["name"], f"[{extras}]" if extras else "", wheel, sdist)


def _files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check(package: Distribution) -> None:
    """Exit if a wheel or sdist lacks a file or metadata, or has a file too many."""
    stem = package.sdist.name.removesuffix(".tar.gz")
    module = package.name.replace("-", "_")
    files = _files(package.wheel)
    licence = f"{stem}.dist-info/licenses/LICENSE"
    for name in (f"{module}/py.typed", licence):
        if name not in files:
            sys.exit(f"{package.wheel.name} has no {name}")
    for name in files:
        if not name.startswith((f"{module}/", f"{stem}.dist-info/")):
            sys.exit(f"{package.wheel.name} has the file {name}, which belongs to no package")
    metadata = message_from_bytes(files[f"{stem}.dist-info/METADATA"])
    for field, value in {
        "License-Expression": "MIT",
        "License-File": "LICENSE",
        "Requires-Python": ">=3.11",
        "Description-Content-Type": "text/markdown",
    }.items():
        if metadata[field] != value:
            sys.exit(f"{package.wheel.name} has {field} {metadata[field]!r}, not {value!r}")
    with tarfile.open(package.sdist) as archive:
        names = {name.removeprefix(f"{stem}/") for name in archive.getnames()}
    for name in ("LICENSE", "README.md", "pyproject.toml", "PKG-INFO", f"{module}/py.typed"):
        if name not in names:
            sys.exit(f"{package.sdist.name} has no {name}")
    for name in names:
        if name.startswith(("tests/", "plugins/")):
            sys.exit(f"{package.sdist.name} has the file {name}, which belongs to no package")


def _run(module: str, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"failed: {module} {' '.join(map(str, arguments))[:500]}\n{done.stdout}")
