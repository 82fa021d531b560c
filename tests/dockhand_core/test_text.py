"""Text from other machines on terminals and in logs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dockhand_core.http.urls import one_line, redacted_url
from dockhand_core.logs import LogSettings, console
from dockhand_core.text import printable, printable_lines

HOSTILE = {
    "ESC": "\x1b[2J",
    "CSI": "\x9b2J",
    "NUL": "\0",
    "BEL": "\a",
    "BS": "\b",
    "CR": "\r",
    "LF": "\n",
    "VT": "\v",
    "DEL": "\x7f",
    "NEL": "\x85",
    "LS": "\u2028",
    "PS": "\u2029",
    "RLO": "\u202e",
    "LRI": "\u2066",
    "RLM": "\u200f",
    "surrogate": "\ud800",
}


def is_harmless(text: str) -> bool:
    return text.isprintable() and text.encode() != b""


@pytest.mark.parametrize("kind", HOSTILE)
def test_control_characters_are_escaped(kind: str) -> None:
    text = f"a{HOSTILE[kind]}b"
    for shown in (printable(text), one_line(text), redacted_url(f"http://h/{text}")):
        assert is_harmless(shown)
    assert printable(text) == text.encode("unicode_escape").decode()
    assert printable_lines(f"{text}\nc").endswith("\nc")


def test_other_text_is_unchanged() -> None:
    for text in ("", "plain", "Grüße 日本語 🙂", "a\\nb"):
        assert printable(text) == text


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_console_logger(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = console(LogSettings(driver="console"), "main")
    log.warning("failed", error=f"a{HOSTILE[kind]}b", path=f"/v2/{HOSTILE[kind]}")
    [line] = capsys.readouterr().err.split("\n")[:-1]
    assert is_harmless(line)


SCRIPT = """
import logging
from dockhand_core import ConfigError
from dockhand_core.server import program

hostile = {hostile!r}
with program():
    log = logging.getLogger("dockhand.test")
    log.error("user %s", hostile)
    try:
        raise ValueError(hostile)
    except ValueError:
        log.exception("failed")
    raise ConfigError(f"wrong: {{hostile}}")
"""


def test_log_lines_and_errors_of_programs() -> None:
    """No text of a client controls the terminal, or looks like a line of its own."""
    hostile = "\x1b[2J\x9b\x7f\u202e\u2028\nERROR dockhand.test: forged"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(hostile=hostile)],
        capture_output=True, encoding="utf-8", check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    lines = done.stderr.split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line.startswith("ERROR")][:2] == [
        f"ERROR dockhand.test: user {printable(hostile)}",
        "ERROR dockhand.test: failed",
    ]
    # only the program's last error keeps its lines, because it ends the program
    assert lines[-2:] == ["ERROR dockhand.test: forged", ""]
    assert lines.count("ERROR dockhand.test: forged") == 1
