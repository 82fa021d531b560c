"""The blocks of the site's pages run or are checked, and their output is the promised one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from site_pages import ROOT, blocks, run_page

DOCS = ROOT / "docs"
# Pages with tests of their own.
_OTHERS = ("commands/", "coming-from.md")
PAGES = sorted(
    name
    for name in (path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    if not name.startswith(_OTHERS) and blocks(DOCS / name)
)


@pytest.mark.parametrize(
    "kind", ["auth-driver", "registry-driver", "events", "log-driver", "commands"]
)
def test_guide_is_complete(kind: str) -> None:
    """Each kind of plugin has a guide with a whole package and all that its author needs."""
    guide = DOCS / "plugins" / f"{kind}.md"
    titles = {block.title for block in blocks(guide)}
    assert "pyproject.toml" in titles
    assert any(str(title).startswith("tests/") for title in titles)
    text = guide.read_text("utf-8")
    for section in ("Lifecycle and threads", "What to raise", "Settings", "Tests"):
        assert f"\n## {section}\n" in text, section


@pytest.mark.timeout(600)  # several servers and many processes, one after the other
@pytest.mark.parametrize("name", PAGES)
def test_blocks_of_a_page(name: str, tmp_path: Path, run_example: Any) -> None:
    (tmp_path / "notes.txt").write_text("a note\n")
    seen = run_page(DOCS / name, tmp_path, run_example)
    assert len(seen) == (DOCS / name).read_text("utf-8").count("```") / 2
