"""The documents of the repository exist, and the links and paths in them are valid."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
PACKAGES = [*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("examples/*/pyproject.toml")]
READMES = sorted(str(path.with_name("README.md").relative_to(ROOT)) for path in PACKAGES)


def anchor(heading: str) -> str:
    """Return the anchor that Markdown renderers make of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def test_documents_and_license_exist() -> None:
    for name in (*DOCUMENTS, "LICENSE"):
        assert (ROOT / name).read_text("utf-8").strip()


def test_every_package_ships_the_license() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert PACKAGES
    for project in PACKAGES:
        assert project.with_name("LICENSE").read_text("utf-8") == text, project


@pytest.mark.parametrize("document", [*DOCUMENTS, *READMES])
def test_links_resolve(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if re.match(r"https?://", target):
            continue
        file, _, wanted = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        if wanted:
            headings = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), re.MULTILINE)
            assert wanted in map(anchor, headings), target


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "SECURITY.md"])
def test_named_paths_exist(document: str) -> None:
    """Paths in backticks exist if they begin with a folder of the repository."""
    text = (ROOT / document).read_text("utf-8")
    tops = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
    for path in re.findall(rf"`((?:{tops})/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"^  (tests/\S+|\S+) (tests/\S+)", text, re.MULTILINE):
        assert all((ROOT / each).exists() for each in path)


def test_contributing_lists_every_folder_of_tests() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    packages = {path.name for path in ROOT.glob("plugins/*")} | {"dockhand_core"}
    folders = {path.parent.name for path in ROOT.glob("tests/*/*.py")}
    for name in folders - packages:
        assert f"`tests/{name}/`" in text, name


def test_changelog_has_an_unreleased_section_and_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    headings = re.findall(r"^## (\S+)", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert version in headings


def test_no_file_cites_a_document_that_is_not_in_the_repository() -> None:
    absent = [f"{name}.md" for name in ("DESIGN", "API")]
    assert not any((ROOT / name).exists() for name in absent)
    pattern = r"\b(" + "|".join(map(re.escape, absent)) + r")\b"
    done = subprocess.run(
        ["git", "grep", "--untracked", "-lIP", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode > 1:
        pytest.skip("not a git repository")
    assert done.stdout == ""


def test_requirements_exclude_the_other_project_named_dockhand_cli() -> None:
    """The public index has a project `dockhand-cli` of others, with higher versions."""
    texts = {path: path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md")}
    texts |= {path: path.read_text("utf-8") for path in (*PACKAGES, ROOT / "pyproject.toml")}
    texts |= {ROOT / name: (ROOT / name).read_text("utf-8") for name in (*DOCUMENTS, *READMES)}
    found = {
        path: line
        for path, text in texts.items()
        for line in re.findall(r'^.*"dockhand-cli(?!~=)[^"]*".*$', text, re.MULTILINE)
        if not line.startswith("name = ")
    }
    assert found == {}
