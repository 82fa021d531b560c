"""The bars of transfers: their lines on terminals of all sizes, and where there are none."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator

import pytest
from command_line import CommandLine
from dockhand_cli.progress import TransferProgress
from dockhand_cli.transfer_bars import TransferBars
from rich.console import Console
from slow_registry import slow_registry
from terminal import Terminal
from watched_registry import watched_registry

from dockhand_core.models import BlobProgress, BlobState, Descriptor

MIB = 1 << 20


def _blob(number: int, done: int, state: BlobState = "moving") -> BlobProgress:
    digest = f"sha256:{number:064x}"[:7] + f"{number:02x}".ljust(64, "0")
    blob = Descriptor(media_type="application/octet-stream", digest=digest, size=10 * MIB)
    return BlobProgress(blob, done, state)


def _lines(bars: TransferBars, width: int, height: int) -> list[str]:
    """The lines that a terminal of a size shows."""
    bars.console.size = bars.console.size._replace(width=width, height=height)
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False)
    with console.capture() as capture:
        console.print(bars.make_lines())
    return capture.get().splitlines()


def test_the_lines_fit_terminals_of_all_sizes() -> None:
    bars = TransferBars("Copying registry.example.com:5000/team/app:v1 to mirror:5000/team/app:v1")
    bars.show_total(50 * MIB, 300 * MIB)
    for number in range(30):
        bars.show_blob(_blob(number, number * MIB // 3))
    for width in (20, 28, 32, 41, 50, 58, 60, 80, 200):
        for height in (2, 3, 4, 5, 6, 10, 24, 100):
            lines = _lines(bars, width, height)
            assert len(lines) < height, (width, height)
            assert max(map(len, lines)) <= width - 4, (width, height)
            assert "/314.6 MB" in lines[-1]
    lines = _lines(bars, 80, 24)
    assert lines[0].startswith("Copying registry.example.com:5000/team/app:v1 to mirror")
    assert lines[1].rstrip() == "14 more blobs"
    assert lines[2].startswith("000000000000 ")
    assert lines[-1].startswith("total ")
    assert len(lines) == 1 + 1 + 16 + 1


def test_a_blob_takes_the_line_of_one_that_has_ended() -> None:
    bars = TransferBars("Copying")
    for number in (1, 2, 3):
        bars.show_blob(_blob(number, MIB))
    assert [line[:2] for line in _lines(bars, 80, 24)] == ["Co", "01", "02", "03", "to"]
    bars.show_blob(_blob(2, 10 * MIB, "copied"))
    bars.show_blob(_blob(7, 10 * MIB, "skipped"))  # was never moving
    lines = _lines(bars, 80, 24)
    assert [line[:2] for line in lines] == ["Co", "01", "02", "03", "to"]
    assert "10.5/10.5 MB" in lines[2]
    bars.show_blob(_blob(4, 2 * MIB))
    lines = _lines(bars, 80, 24)
    assert [line[:2] for line in lines] == ["Co", "01", "04", "03", "to"]
    assert "2.1/10.5 MB" in lines[2]
    bars.show_blob(_blob(4, MIB))  # the transfer begins again
    assert "1.0/10.5 MB" in _lines(bars, 80, 24)[2]


def test_outcomes_are_counted_once() -> None:
    progress = TransferProgress()
    for state in ("moving", "failed", "moving", "copied"):
        progress.blob(_blob(1, MIB, state))
    progress.blob(_blob(2, 10 * MIB, "skipped"))
    progress.blob(_blob(3, 10 * MIB, "mounted"))
    counts = {state: progress.count(state) for state in ("copied", "failed", "mounted", "skipped")}
    assert counts == {"copied": 1, "failed": 0, "mounted": 1, "skipped": 1}
    assert progress.bytes_copied() == 10 * MIB


@pytest.fixture
def images() -> Iterator[tuple[str, str]]:
    """Run a registry that sends slowly, and an empty one; provide an image of each."""
    with slow_registry([2 * MIB] * 3) as source, watched_registry() as target:
        hosts = [each.url.removeprefix("http://") for each in (source, target)]
        yield f"{hosts[0]}/app:v1", f"{hosts[1]}/copy:v1"


def test_bars_on_a_terminal(dockhand: CommandLine, images: tuple[str, str]) -> None:
    dockhand.environment |= {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    terminal = Terminal(dockhand, "cp", *images)
    try:
        terminal.wait_for("total")
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert f"Copying {images[0]} to {images[1]}" in terminal.seen
    assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")  # the cursor
    last = terminal.seen.rpartition("\x1b[?25h")[2]
    assert f"{images[1]}@sha256:" in last
    assert "4 blobs copied (6.3 MB), 1 manifest, in " in last


@pytest.mark.parametrize("option", ["--quiet", "--verbose"])
def test_no_bars_with_an_option(
    dockhand: CommandLine, images: tuple[str, str], option: str
) -> None:
    dockhand.environment |= {"TERM": "xterm"}
    terminal = Terminal(dockhand, "cp", *images, option)
    try:
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert "\x1b" not in terminal.seen
    assert ("PUT" in terminal.seen) == (option == "--verbose")
    assert ("blobs copied" in terminal.seen) == (option == "--verbose")


def test_ctrl_c_restores_the_terminal(dockhand: CommandLine, images: tuple[str, str]) -> None:
    dockhand.environment |= {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    terminal = Terminal(dockhand, "cp", *images)
    try:
        terminal.wait_for("total")
        terminal.type("\x03")
        assert terminal.end() == 128 + signal.SIGINT
    finally:
        terminal.close()
    assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")  # the cursor
    assert terminal.seen.rstrip().endswith("interrupted")
