"""The shell blocks of the README of dockhand-cli run one after the other, in a real shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from command_line import CommandLine
from help_examples import shell_environment
from registries import free_port

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "plugins" / "dockhand_cli" / "README.md").read_text("utf-8")
pytestmark = pytest.mark.timeout(400)  # 30 processes, one after the other
WAIT = """
trap "kill $!" EXIT
until dockhand ping localhost:5000 >/dev/null 2>&1; do sleep 0.2; done
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run all blocks in one shell; provide standard output, with a line before each command."""
    folder = tmp_path_factory.mktemp("readme")
    connections, project = blocks("toml")
    _install(folder / ".plugin", project, blocks("python"))
    server, *others = blocks("sh")
    port = str(free_port())
    configure = f"cat > dockhand.toml <<'END'\n{connections}END\n"
    configured = [block.replace("export ", f"{configure}export ") for block in others]
    script = "\n".join([server, WAIT, "set -ex", *configured]).replace("5000", port)
    dockhand = CommandLine(folder, TMPDIR=str(folder))
    environment = shell_environment(dockhand)
    path = [str(folder / ".plugin"), environment.get("PYTHONPATH", "")]
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
        env={**environment, "PYTHONPATH": ":".join(filter(None, path))},
        text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    errors = [line for line in done.stderr.splitlines() if not line.startswith("+")]
    assert not errors
    assert (folder / "pulled" / "site" / "index.html").read_text() == "<p>Hello\n"
    return done.stdout.replace(port, "5000")


def _install(folder: Path, project: str, modules: list[str]) -> None:
    """Install the plugin of the README as pip would: the package, and its entry points."""
    hooks, command = modules
    package = folder / "dockhand_newest"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "hooks.py").write_text(hooks)
    (package / "command.py").write_text(command)
    [entry_point] = re.findall(r'^(\w+) = "(dockhand_newest\.\w+)"$', project, re.MULTILINE)
    info = folder / "dockhand_newest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dockhand-newest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dockhand]\n{} = {}\n".format(*entry_point))


def test_blocks_run(output: str) -> None:
    lines = output.splitlines()
    assert "localhost:5000/team/docs:latest@sha256:" in output
    assert "pulled/site" in lines
    assert "deleted localhost:5000/team/docs:v1" in lines
    assert lines[-2:] == ["latest", '{"repository": "team/docs", "tag": "latest"}']


def test_connections_need_the_packages_of_the_installation_only() -> None:
    (extras,) = re.findall(r'pip install "dockhand-core\[([^]]*)\]"', TEXT)
    drivers = set(re.findall(r'driver = "(\w+)"', blocks("toml")[0]))
    assert {"distribution", "token"} <= drivers <= set(extras.split(","))


@pytest.mark.parametrize("status", range(6))
def test_exit_statuses_are_in_the_table(status: int) -> None:
    assert re.search(rf"^\| {status} \| \w", TEXT, re.MULTILINE)
