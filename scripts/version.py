"""Print the version of all packages, or set a new one: `python scripts/version.py 0.2.0`.

The version stands in the top-level `pyproject.toml`. Each package has a copy, so that it can be
built from its own files alone, and requires at least this version of the others. The examples that
are packages have it too. Without an
argument, the script fails if a package differs; with one, it writes the version to all.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Packages of which only this minor version is accepted. On the public index, dockhand-cli 0.3.1 and
# later are a program of other authors; with `>=`, pip would install that one.
SAME_MINOR = {"dockhand-cli"}


def project_files(root: Path = ROOT) -> list[Path]:
    """Return `pyproject.toml` of the core and of each package in `plugins/`."""
    return [root / "pyproject.toml", *sorted(root.glob("plugins/*/pyproject.toml"))]


def example_files(root: Path = ROOT) -> list[Path]:
    """Return `pyproject.toml` of each package in `examples/`."""
    return sorted(root.glob("examples/*/pyproject.toml"))


def version_of(root: Path = ROOT) -> str:
    """Return the version of all packages."""
    return str(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def with_version(text: str, version: str, packages: set[str]) -> str:
    """Set the version in the text of a `pyproject.toml`, also in its requirements of `packages`."""
    project = tomllib.loads(text)["project"]
    text = re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', text, count=1)
    requirements = [*project.get("dependencies", [])]
    for extra in project.get("optional-dependencies", {}).values():
        requirements += extra
    for requirement in requirements:
        found = re.match(r"([A-Za-z0-9_.-]+)(\[[^]]*\])?", requirement)
        if found and found[1] in packages - {project["name"]}:
            operator = "~=" if found[1] in SAME_MINOR else ">="
            text = text.replace(f'"{requirement}"', f'"{found[0]}{operator}{version}"')
    return text


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Check the version of all packages, or set it to the first argument."""
    version = arguments[0] if arguments else version_of(root)
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        sys.exit(f"{version!r} is no version such as 0.2.0 or 0.2.0rc1")
    texts = {path: path.read_text("utf-8") for path in project_files(root) + example_files(root)}
    packages = {tomllib.loads(text)["project"]["name"] for text in texts.values()}
    changed = {}
    for path, text in texts.items():
        if (wanted := with_version(text, version, packages)) != text:
            changed[path] = wanted
    if changed and not arguments:
        names = ", ".join(str(path.relative_to(root)) for path in changed)
        sys.exit(f"not at version {version}: {names}\nRun python scripts/version.py {version}")
    for path, text in changed.items():
        path.write_text(text, "utf-8")
    print(version)


if __name__ == "__main__":
    main(sys.argv[1:])
