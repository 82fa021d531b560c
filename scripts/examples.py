"""Test the packages in `examples/`, each in an environment of its own.

    python scripts/examples.py                    # all
    python scripts/examples.py dockhand_harbor    # some

An environment has the wheel of the example, its requirements and those of its extra `test`, and
nothing else. Dockhand's own packages are wheels that are built from this checkout.
"""

from __future__ import annotations

import os
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from environments import Interpreter, run
from version import example_files, project_files

ROOT = Path(__file__).parents[1]


def build_wheels(sources: list[Path], folder: Path) -> dict[Path, Path]:
    """Build a wheel of each folder with a `pyproject.toml`.

    Returns:
        The path of the wheel by the folder of its source.
    """
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--no-build-isolation", "--wheel-dir", folder, *sources,
    )  # fmt: skip
    wheels = {}
    for source in sources:
        project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
        stem = f"{project['name'].replace('-', '_')}-{project['version']}"
        wheels[source] = folder / f"{stem}-py3-none-any.whl"
    return wheels


def test_example(interpreter: Interpreter, source: Path, wheel: Path, versions: Path) -> None:
    """Install an example with its extra `test`, and run its tests.

    Args:
        interpreter: the Python, with the wheels of Dockhand's packages.
        source: the folder of the example.
        wheel: its wheel.
        versions: a file of constraints that requires the versions of Dockhand's packages.
    """
    environment = interpreter.new_environment(source.name)
    interpreter.pip(
        environment, "install", "--no-compile", "--find-links", interpreter.wheels,
        "-c", ROOT / "constraints.txt", "-c", versions, f"{wheel}[test]",
    )  # fmt: skip
    # `pytest`, unlike `python -m pytest`, imports the installed package
    run(environment / "bin" / "pytest", "-q", "-p", "no:cacheprovider", cwd=source)
    print(f"{source.name}: installed alone, tests passed", flush=True)


def main(wanted: list[str]) -> None:
    """Test the examples with these names, or all."""
    sources = [path.parent for path in example_files(ROOT)]
    if unknown := set(wanted) - {source.name for source in sources}:
        sys.exit(f"no example: {', '.join(sorted(unknown))}")
    sources = [source for source in sources if not wanted or source.name in wanted]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(os.cpu_count()) as pool:
        interpreter = Interpreter(version, Path(sys.executable), Path(name) / version)
        own = build_wheels([path.parent for path in project_files(ROOT)], interpreter.wheels)
        examples = build_wheels(sources, Path(name) / "examples")
        versions = Path(name) / "versions.txt"
        versions.write_text("".join(f"{_requirement(wheel)}\n" for wheel in own.values()))
        tests = [
            pool.submit(test_example, interpreter, source, wheel, versions)
            for source, wheel in examples.items()
        ]
        for done in tests:
            done.result()


def _requirement(wheel: Path) -> str:
    """Return the requirement of this version, so that no later package of this name is taken."""
    name, version = wheel.name.split("-")[:2]
    return f"{name.replace('_', '-')}=={version}"


if __name__ == "__main__":
    main(sys.argv[1:])
