"""The programs in `examples/` run without an error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_demo_fits_two_screens_and_names_its_log(clean: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")],
        cwd=clean,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    output = re.sub(".*\r", "", done.stdout.decode())  # a progress bar overwrites its line
    lines = output.splitlines()
    assert len(lines) <= 52
    assert max(map(len, lines)) <= 100
    assert "logged to dockhand-demo.log" in output
    requests = [json.loads(line) for line in (clean / "dockhand-demo.log").read_text().splitlines()]
    assert {request["connection"] for request in requests} == {"main"}
    assert {"GET", "HEAD", "POST", "PUT", "DELETE"} == {request["method"] for request in requests}
