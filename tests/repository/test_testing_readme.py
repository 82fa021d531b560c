"""The examples in the README of the kit run: programs, and test modules of an author."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dockhand_testing
from dockhand_testing import FAULTS

README = Path(__file__).parents[2] / "plugins/dockhand_testing/README.md"
TEXT = README.read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_programs(run_example: Callable[..., None], tmp_path: Path) -> None:
    programs = [example for example in EXAMPLES if "print(" in example]
    assert len(programs) == 2
    for example in programs:
        run_example(example, cwd=tmp_path)


def test_modules_of_an_author(tmp_path: Path) -> None:
    modules = [example for example in EXAMPLES if "print(" not in example]
    assert len(modules) == 3
    for number, example in enumerate(modules):
        (tmp_path / f"test_{number}.py").write_text(example)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 150


def test_contracts_and_faults_are_in_the_tables() -> None:
    for name in dockhand_testing.__all__:
        if name.endswith("Contract"):
            assert f"| `{name}` |" in TEXT, name
    for fault in FAULTS:
        assert re.search(rf"^\| .*`{fault}`", TEXT, re.MULTILINE), fault
