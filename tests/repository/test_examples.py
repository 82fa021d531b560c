"""The demo in `examples/` runs, and the packages there say how they are installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGES = sorted(path.parent for path in EXAMPLES.glob("*/pyproject.toml"))


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


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda path: path.name)
def test_readme_of_a_package_installs_what_it_uses(folder: Path) -> None:
    """From the folder, since examples are not published; and with the packages it names."""
    readme = (folder / "README.md").read_text("utf-8")
    found = re.search(r'```sh\npip install \. "dockhand-core\[([a-z,-]+)\]"\n```', readme)
    assert found, "the README has to show how its folder is installed"
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    required = {re.split("[^a-z-]", name)[0] for name in project["dependencies"]}
    extras = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    installed = set(found[1].split(","))
    installed |= {name for name, packages in extras.items()
                  if {re.split("[^a-z-]", each)[0] for each in packages} <= required}  # fmt: skip
    used = set(re.findall(r'driver"?[ :=]+"([a-z]+)"', readme)) & extras.keys()
    shells = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    used |= {"cli"} if re.search("^dockhand ", "".join(shells), re.MULTILINE) else set()
    used |= {"webhook"} if "dockhand serve webhook" in "".join(shells) else set()
    assert used <= installed
