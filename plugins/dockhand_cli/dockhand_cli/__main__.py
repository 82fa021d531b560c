"""The program `dockhand`, which is also `python -m dockhand_cli`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

__all__ = ["run", "version_line"]


def version_line() -> str:
    """The line that `dockhand --version` prints."""
    from importlib import metadata

    return f"dockhand {metadata.version('dockhand-cli')}"


def _open_closed_streams() -> None:
    """Open /dev/null for each standard stream that is closed.

    Otherwise the next file or socket would get the descriptor, and with it what is written to the
    stream.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        handle = os.open(os.devnull, os.O_RDWR)
        if handle != number:
            os.dup2(handle, number)
            os.close(handle)
        setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))


def _show_version() -> int:
    """Print the version, and return the exit status."""
    try:
        print(version_line(), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more as it ends
        if isinstance(error, BrokenPipeError):
            return 141  # as `exit_codes.READER_GONE`
        print(f"error: standard output: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def run() -> NoReturn:
    """Run the command line of the process, and exit with its status."""
    _open_closed_streams()
    if sys.argv[1:] == ["--version"]:
        # Answered before typer is imported, which takes most of the time.
        sys.exit(_show_version())
    from dockhand_cli.main import run_command_line

    sys.exit(run_command_line())


if __name__ == "__main__":
    run()
