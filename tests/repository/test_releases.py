"""All packages have one version and the same metadata, and their distributions are checked."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
EXAMPLES = sorted(ROOT.glob("examples/*/pyproject.toml"))


def project(file: Path) -> dict[str, Any]:
    return dict(tomllib.loads(file.read_text("utf-8"))["project"])


def version_script(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, root / "scripts" / "version.py", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the script and all `pyproject.toml`, as a checkout."""
    for file in [*FILES, *EXAMPLES, ROOT / "scripts" / "version.py"]:
        target = tmp_path / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return tmp_path


def test_all_packages_have_one_version() -> None:
    done = version_script(ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == project(FILES[0])["version"] + "\n"


def test_the_version_is_in_the_changelog() -> None:
    version = project(FILES[0])["version"]
    lines = (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
    assert any(line.split(" (")[0] == f"## {version}" for line in lines)
    assert "## Unreleased" in lines


def test_a_new_version_is_set_everywhere(copy: Path) -> None:
    done = version_script(copy, "1.2.0rc1")
    assert (done.returncode, done.stdout) == (0, "1.2.0rc1\n")
    assert version_script(copy).stdout == "1.2.0rc1\n"
    for file in FILES + EXAMPLES:
        new = project(copy / file.relative_to(ROOT))
        old = project(file)
        assert new.pop("version") == "1.2.0rc1"
        extras = new.get("optional-dependencies", {})
        requirements = new["dependencies"] + [each for extra in extras.values() for each in extra]
        for text in requirements:
            if text.startswith("dockhand-") and not text.startswith(new["name"]):
                operator = "~=" if text.startswith("dockhand-cli") else ">="
                assert text.endswith(f"{operator}1.2.0rc1"), f"{new['name']}: {text}"
        # nothing else has changed
        back = (copy / file.relative_to(ROOT)).read_text("utf-8")
        assert back.replace("1.2.0rc1", old["version"]) == file.read_text("utf-8")
    core = project(copy / "pyproject.toml")
    assert core["name"] == "dockhand-core"
    assert core["optional-dependencies"]["webhook"] == ["dockhand-webhook[server]>=1.2.0rc1"]


def test_a_package_of_another_version_is_named(copy: Path) -> None:
    file = copy / "plugins" / "dockhand_zot" / "pyproject.toml"
    text = file.read_text("utf-8")
    version = project(FILES[0])["version"]
    for changed in (
        text.replace(f'version = "{version}"', 'version = "9.0.0"'),
        text.replace(f'"dockhand-distribution>={version}"', '"dockhand-distribution"'),
    ):
        assert changed != text
        file.write_text(changed, "utf-8")
        done = version_script(copy)
        assert done.returncode == 1
        assert done.stderr.startswith(
            f"not at version {version}: plugins/dockhand_zot/pyproject.toml\n"
        )


@pytest.mark.parametrize("version", ["1", "v1.2.3", "1.2.3-beta", "1.2.3\n", '1.2.3"'])
def test_a_version_of_another_form_is_refused(copy: Path, version: str) -> None:
    done = version_script(copy, version)
    assert done.returncode == 1
    assert "is no version such as 0.2.0" in done.stderr
    assert version_script(copy).returncode == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: project(file)["name"])
def test_metadata(file: Path) -> None:
    core, package = project(FILES[0]), project(file)
    assert package["license"] == "MIT"
    assert package["license-files"] == ["LICENSE"]
    assert (file.parent / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert package["requires-python"] == core["requires-python"]
    assert package["readme"] == "README.md"
    assert {"container", "registry", "oci"} < set(package["keywords"])
    shared = ("Development Status ::", "Programming Language ::", "Typing ::")
    assert [each for each in package["classifiers"] if each.startswith(shared)] == [
        each for each in core["classifiers"] if each.startswith(shared)
    ]
    assert "Typing :: Typed" in package["classifiers"]
    assert "\n" not in package["description"]
