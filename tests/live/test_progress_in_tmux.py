"""The bars of a transfer in a real terminal: their lines, a resize, and Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine
from registries import program
from slow_registry import slow_registry
from tmux import Tmux, tmux
from watched_registry import watched_registry

pytestmark = pytest.mark.live

MIB = 1 << 20
COMMAND = f"{sys.executable} -m dockhand_cli"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Tmux]:
    """Open a terminal of 80 columns and 24 lines, in a folder of its own."""
    path = program("tmux", "apt-get install tmux, or `make live` as root")
    with tmux(tmp_path, CommandLine(tmp_path).environment, program=path) as opened:
        yield opened


def _total(lines: list[str]) -> str:
    """The line of the whole transfer; empty if it is not shown."""
    return next((line for line in lines if line.startswith("total")), "")


def _moving(lines: list[str]) -> int:
    """The number of lines of blobs, between the title and the line of the total."""
    begins = [n for n, line in enumerate(lines) if line.startswith("Copying")]
    if not begins or not lines[-1].startswith("total"):
        return 0
    return len(lines) - begins[-1] - 2


def test_a_copy_shows_its_blobs_and_ends_with_a_summary(terminal: Tmux) -> None:
    with slow_registry([3 * MIB] * 10) as source, watched_registry() as target:
        hosts = [each.url.removeprefix("http://") for each in (source, target)]
        terminal.type(f"clear; {COMMAND} cp {hosts[0]}/app:v1 {hosts[1]}/copy", "Enter")
        lines = terminal.wait_for(
            # the rate is known after the second update of the bars
            lambda lines: _moving(lines) == 8 and "B/s" in _total(lines)
        )
        title = next(line for line in lines if line.startswith("Copying"))
        assert title == f"Copying {hosts[0]}/app:v1 to {hosts[1]}/copy:v1"
        assert "31.5 MB" in _total(lines)
        lines = terminal.wait_for(lambda lines: "copied" in "".join(lines))
    assert not [line for line in lines if line.startswith(("Copying", "total"))]
    text = "".join(lines)
    assert f"{hosts[1]}/copy:v1@sha256:" in text
    assert "11 blobs copied (31.5 MB), 1 manifest, in " in text
    assert terminal.cursor_is_shown()


def test_a_terminal_that_becomes_narrow_and_low(terminal: Tmux) -> None:
    with slow_registry([40 * MIB] * 10) as source, watched_registry() as target:
        hosts = [each.url.removeprefix("http://") for each in (source, target)]
        copy = f"cp {hosts[0]}/app:v1 {hosts[1]}/copy --concurrency 6"
        terminal.type(f"clear; {COMMAND} {copy}", "Enter")
        terminal.wait_for(lambda lines: _moving(lines) == 6)
        terminal.resize(50, 24)
        lines = terminal.wait_for(lambda lines: _moving(lines) == 6 and _fits(lines, 50))
        (title,) = (line for line in lines if line.startswith("Copying"))  # the others are erased
        assert title.endswith("…")
        assert "━" not in lines[-1]  # no room for a bar
        terminal.resize(50, 8)
        terminal.wait_for(lambda lines: "2 more blobs" in lines)
        terminal.resize(100, 24)
        lines = terminal.wait_for(lambda lines: _moving(lines) == 6 and "━" in lines[-1])
        assert lines[-1].startswith("total")
        terminal.type("C-c")
        lines = terminal.wait_for(lambda lines: "interrupted" in lines[-2:])
        terminal.type("echo status $?", "Enter")
        lines = terminal.wait_for(lambda lines: "status 130" in lines[-2])
        assert "Traceback" not in "".join(lines)
        assert target.count("PUT", "/manifests/") == 0
    assert terminal.cursor_is_shown()


def _fits(lines: list[str], columns: int) -> bool:
    """Whether the last lines are those of a terminal of this width."""
    return all(len(line) <= columns - 4 for line in lines[-8:])


def test_results_and_warnings_are_written_above_the_bars(terminal: Tmux) -> None:
    with slow_registry([MIB, 6 * MIB]) as source, watched_registry() as target:
        hosts = [each.url.removeprefix("http://") for each in (source, target)]
        target.answer = lambda method, path: (
            (403, b"") if method == "PUT" and path.endswith("/manifests/bad") else None
        )
        terminal.type(f"clear; {COMMAND} cp --all-tags {hosts[0]}/app {hosts[1]}/copy", "Enter")
        terminal.wait_for(lambda lines: "1 of 3 tags failed" in "".join(lines))
    screen = terminal.screen()
    assert not [line for line in screen if line.startswith(("Copying", "total"))]
    assert "".join(screen).count("@sha256:") == 2


def test_ctrl_c_while_a_registry_does_not_answer(terminal: Tmux) -> None:
    with slow_registry([4 * MIB] * 2, hang_after=5) as source, watched_registry() as target:
        hosts = [each.url.removeprefix("http://") for each in (source, target)]
        terminal.type(f"clear; {COMMAND} cp {hosts[0]}/app:v1 {hosts[1]}/copy", "Enter")
        terminal.wait_for(lambda lines: _moving(lines) == 2 and "0.5/8.4" in lines[-1])
        time.sleep(1)  # now the registry sends nothing more
        terminal.type("C-c")
        terminal.wait_for(lambda lines: "Cancelling; Ctrl-C again ends at once" in lines)
        terminal.type("C-c")
        terminal.wait_for(lambda lines: lines[-1] == "$")
        terminal.type("echo status $?", "Enter")
        terminal.wait_for(lambda lines: "status 130" in lines[-2])
    assert terminal.cursor_is_shown()
