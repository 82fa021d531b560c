"""Write the pictures of `docs/pictures/`: the command `dockhand` in a real terminal.

It needs tmux. The registries are started for the pictures, and send slowly.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

from command_line import CommandLine  # noqa: E402
from slow_registry import slow_registry  # noqa: E402
from tmux import Tmux, tmux  # noqa: E402
from watched_registry import watched_registry  # noqa: E402

FOLDER = ROOT / "docs/pictures"
COLUMNS, LINES = 84, 24
MIB = 1 << 20
SIZES = [each * MIB for each in (3, 28, 2, 12, 6, 17, 1, 9, 4, 22, 3, 5, 2, 8, 1, 14)]


def main() -> None:
    """Write the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        copy_picture(Path(name))


def copy_picture(folder: Path) -> None:
    """Write `cp.svg`: a copy that has sent half of its bytes."""
    with slow_registry(SIZES, pause=0.02) as source, watched_registry() as target:
        (folder / "dockhand.toml").write_text(
            f'default = "staging"\n[connections.staging]\nbase_uri = "{source.url}"\n'
            f'[connections.production]\nbase_uri = "{target.url}"\n'
        )
        environment = CommandLine(folder).environment
        with tmux(folder, environment, columns=COLUMNS, lines=LINES) as terminal:
            terminal.type(
                f'dockhand() {{ {sys.executable} -m dockhand_cli "$@"; }}; clear', "Enter"
            )
            terminal.wait_for(lambda lines: lines == ["$"])
            command = "dockhand cp @staging/team/app:v1 @production/team/app"
            terminal.type(command, "Enter")
            terminal.wait_for(lambda lines: lines[-1].startswith("total") and _share(lines) > 0.5)
            write_picture(terminal, FOLDER / "cp.svg", "dockhand cp")
            terminal.wait_for(lambda lines: lines[-1] == "$")


def _share(lines: list[str]) -> float:
    """The share of the bytes that the line of the total shows."""
    found = re.search(r"([0-9.]+)/([0-9.]+) MB", lines[-1])
    return float(found[1]) / float(found[2]) if found else 0.0


def write_picture(terminal: Tmux, path: Path, title: str) -> None:
    """Write the screen of a terminal as SVG, without links to fonts.

    Args:
        terminal: the terminal.
        path: the file.
        title: the title of the window.
    """
    time.sleep(0.2)  # tmux draws
    lines = terminal.screen(colours=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("\n".join(lines)))
    picture = console.export_svg(title=title, unique_id=path.stem)
    path.write_text(re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL))


if __name__ == "__main__":
    main()
