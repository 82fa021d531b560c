"""The start of the command: `--version` and `--help` import little."""

from __future__ import annotations

import subprocess
import sys

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
