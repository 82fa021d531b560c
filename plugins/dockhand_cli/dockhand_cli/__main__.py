"""The program `dockhand`, which is also `python -m dockhand_cli`."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["run", "version_line"]


def version_line() -> str:
    """The line that `dockhand --version` prints."""
    from importlib import metadata

    return f"dockhand {metadata.version('dockhand-cli')}"


def run() -> NoReturn:
    """Run the command line of the process, and exit with its status."""
    if sys.argv[1:] == ["--version"]:
        # Answered before typer is imported, which takes most of the time.
        print(version_line())
        sys.exit()
    from dockhand_cli.main import run_command_line

    sys.exit(run_command_line())


if __name__ == "__main__":
    run()
