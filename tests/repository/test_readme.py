"""What the README shows works as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
TOML = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


def test_python(tmp_path: Path) -> None:
    """All but the first, which needs a server, one after the other in one folder."""
    (tmp_path / "dockhand.toml").write_text(TOML[0])
    (tmp_path / "secret.txt").write_text("secret\n")
    assert len(BLOCKS) >= 6
    for block in BLOCKS[1:]:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        assert done.stderr == ""


def test_first_block_compiles() -> None:
    compile(BLOCKS[0], "README.md", "exec")


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", TEXT))
def test_links(target: str) -> None:
    assert (README.parent / target).exists()


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"(?:`|^)make ([a-z]+)", TEXT, re.MULTILINE)))
)
def test_make_targets(command: str) -> None:
    makefile = (README.parent / "Makefile").read_text("utf-8")
    assert re.search(rf"^{command}:", makefile, re.MULTILINE)
