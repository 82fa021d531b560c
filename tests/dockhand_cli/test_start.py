"""The start of the command: `--version` and `--help` import little."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"httpx", "pydantic", "structlog", "aiohttp", "asyncio", "cryptography", "jwt"}
PROGRAM = """
import sys
from dockhand_cli.__main__ import run
sys.argv = ["dockhand", *sys.argv[1:]]
try:
    run()
except SystemExit as ended:
    assert not ended.code, ended.code
print("\\n".join(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("option", ["--version", "--help", "-h"])
def test_the_start_loads_neither_httpx_nor_pydantic_nor_a_driver(option: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, option],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    loaded = set(done.stderr.splitlines())
    assert done.stdout
    assert "dockhand_cli" in loaded
    assert not HEAVY & loaded
    assert not [name for name in loaded if name.startswith("dockhand_") and "driver" in name]


def in_shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    command = f"{shlex.quote(sys.executable)} -m dockhand_cli {line}"
    return subprocess.run(
        ["sh", "-c", command],
        capture_output=True, text=True, check=False, timeout=60, cwd=folder,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX closes the streams")
def test_standard_streams_may_be_closed_or_full(tmp_path: Path) -> None:
    for line, status, errors in (
        ("version >&-", 0, ""),
        ("version --nonsense 2>&-", 2, ""),
        ("login localhost:1 -u alice --password-stdin <&-", 2, "standard input is empty"),
    ):
        done = in_shell(tmp_path, line)
        assert (done.returncode, done.stdout) == (status, ""), (line, done)
        assert errors in done.stderr
        assert "Traceback" not in done.stderr
        assert "internal" not in done.stderr
    if sys.platform == "linux":
        done = in_shell(tmp_path, "--version > /dev/full")
        assert done.returncode == 1
        assert done.stderr == "error: standard output: No space left on device\n"
