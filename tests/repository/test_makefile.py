"""Every target of the Makefile is in `make help`, and the pre-commit hooks run the same linters."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE)


def test_every_target_has_a_help_line() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = dict(re.findall(r"^  make (\S+) +(\S.*)$", done.stdout, re.MULTILINE))
    assert list(lines) == TARGETS
    assert all(len(line) <= 100 for line in done.stdout.splitlines())


def test_every_target_is_phony() -> None:
    phony = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert {name for line in phony for name in line.split()} == set(TARGETS)


def test_help_is_the_default() -> None:
    assert TARGETS[0] == "help"


def test_pre_commit_runs_the_linters_of_make_lint() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
    programs = {found for hook in hooks for found in re.findall(r"\.venv/bin/(\S+)", hook["entry"])}
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert programs == set(re.findall(r"\$\(BIN\)/(\S+)", recipe))


def test_linters_are_in_the_dependency_group() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    names = {re.split(r"[^\w-]", text)[0] for text in project["dependency-groups"]["lint"]}
    assert names == {"import-linter", "mypy", "ruff"}
