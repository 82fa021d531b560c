"""The pages of the examples show each README with the whole source."""

from __future__ import annotations

from pathlib import Path

import example_pages
import pytest
from build_site import pages
from example_pages import example_sources, files, filled, kinds, titled, with_source


@pytest.fixture
def example(tmp_path: Path) -> Path:
    folder = tmp_path / "dockhand_demo"
    for name, text in {
        "README.md": "# dockhand-demo\n\nIt is for nothing.\n",
        "pyproject.toml": '[project]\nname = "dockhand-demo"\n',
        "LICENSE": "MIT\n",
        "dockhand_demo/__init__.py": "",
        "dockhand_demo/hooks.py": "def dockhand_auth_drivers(): ...\ndef dockhand_event(e): ...\n",
        "dockhand_demo/driver.py": 'TEXT = """\n```\n"""\n',
        "dockhand_demo/__pycache__/x.py": "no\n",
        "tests/test_demo.py": "def test() -> None: ...\n",
        ".venv/lib/x.py": "no\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_source_follows_the_readme(example: Path) -> None:
    text = with_source((example / "README.md").read_text(), example)
    assert text.startswith("# dockhand-demo\n\nIt is for nothing.\n\n## Source\n\n```toml title=")
    assert [path.relative_to(example).as_posix() for path in files(example)] == [
        "pyproject.toml",
        "dockhand_demo/driver.py",
        "dockhand_demo/hooks.py",
        "tests/test_demo.py",
    ]
    assert '```python title="tests/test_demo.py"\ndef test() -> None: ...\n```\n' in text


def test_a_fence_in_the_source_ends_no_block(example: Path) -> None:
    assert titled(example / "dockhand_demo/driver.py", "driver.py") == (
        '````python title="driver.py"\nTEXT = """\n```\n"""\n````'
    )


def test_kinds_come_from_the_hooks(example: Path) -> None:
    assert kinds(example) == ["auth driver", "handler"]


def test_a_comment_stands_for_a_program() -> None:
    text = filled("<!-- source: examples/demo.py -->\n", "docs/examples/programs.md")
    program = (example_pages.EXAMPLES / "demo.py").read_text().rstrip()
    assert text == f'```python title="examples/demo.py"\n{program}\n```\n'
    with pytest.raises(SystemExit, match=r"programs.md: the source examples/no.py does not exist"):
        filled("<!-- source: examples/no.py -->\n", "docs/examples/programs.md")


def test_every_example_has_its_page() -> None:
    made = pages()
    for readme, place in example_sources().items():
        folder = (example_pages.ROOT / readme).parent
        for file in files(folder):
            assert titled(file, file.relative_to(folder).as_posix()) in made[place]
        assert f"]({Path(place).name}) |" in made["examples/index.md"]
    assert "<!-- table" not in made["examples/index.md"]
    assert not any("\n<!-- source:" in text for text in made.values())
