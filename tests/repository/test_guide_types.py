"""The packages and modules that the guides for plugins build are clean for `mypy --strict`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from site_pages import ROOT, blocks

PACKAGES = {
    "dockhand_audit",
    "dockhand_auth_command",
    "dockhand_log_file",
    "dockhand_newest",
    "dockhand_releases",
    "dockhand_served",
}
MODULES = (
    "by_driver.py",
    "channel.py",
    "depot.py",
    "dockhand_archive.py",
    "quotas.py",
    "recheck.py",
)


@pytest.mark.timeout(600)
def test_packages_of_the_guides_are_clean_for_mypy(tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None and os.environ.get("CI") != "true":
        pytest.skip("mypy is not installed: `make lint` installs it")
    for page in (ROOT / "docs/plugins").glob("*.md"):
        for block in blocks(page):
            if block.title and (block.title.startswith("dockhand_") or block.title in MODULES):
                (tmp_path / block.title).parent.mkdir(exist_ok=True)
                (tmp_path / block.title).write_text(block.text)
    assert {path.parent.name for path in tmp_path.glob("*/hooks.py")} == PACKAGES
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache", *PACKAGES, *MODULES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Success: no issues found" in done.stdout, done.stdout + done.stderr
