"""A terminal of tmux, in which a command runs as before a person."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class Tmux:
    """A terminal with a shell.

    Args:
        folder: the working folder, in which the server's socket is, too.
        environment: the environment variables.
        program: the path of tmux.
        columns, lines: the size.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        program: str = "tmux",
        columns: int = 80,
        lines: int = 24,
    ) -> None:
        self._begin = [program, "-S", str(folder / "tmux"), "-f", "/dev/null"]
        size = ("-x", str(columns), "-y", str(lines))
        shell = "exec env PS1='$ ' TERM=screen-256color sh"
        self._environment = {**environment, "LC_ALL": "C.UTF-8"}
        self._folder = folder
        self._run("-u", "new-session", "-d", *size, shell)

    def _run(self, *arguments: str) -> str:
        return subprocess.run(
            [*self._begin, *arguments], cwd=self._folder, env=self._environment,
            capture_output=True, text=True, check=True, timeout=30,
        ).stdout  # fmt: skip

    def type(self, *keys: str) -> None:
        """Type keys: texts, or names such as `Enter` and `C-c`."""
        self._run("send-keys", *keys)

    def screen(self, *, colours: bool = False) -> list[str]:
        """The lines on the screen, without the empty ones at the end.

        Args:
            colours: with the escape sequences of colours.
        """
        return self._run("capture-pane", "-p", *(["-e"] if colours else [])).rstrip().split("\n")

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the terminal."""
        self._run("resize-window", "-x", str(columns), "-y", str(lines))

    def cursor_is_shown(self) -> bool:
        """Whether the cursor is visible."""
        return self._run("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def wait_for(self, condition: Callable[[list[str]], object]) -> list[str]:
        """Wait until the lines on the screen meet a condition, and return them."""
        deadline = time.monotonic() + 60
        while not condition(lines := self.screen()):
            assert time.monotonic() < deadline, "\n".join(lines)
            time.sleep(0.1)
        return lines

    def close(self) -> None:
        """End the terminal and its programs."""
        self._run("kill-server")


@contextmanager
def tmux(
    folder: Path,
    environment: Mapping[str, str],
    *,
    program: str = "tmux",
    columns: int = 80,
    lines: int = 24,
) -> Iterator[Tmux]:
    """Open a terminal until the `with` block ends; the arguments are those of `Tmux`."""
    terminal = Tmux(folder, environment, program=program, columns=columns, lines=lines)
    try:
        yield terminal
    finally:
        terminal.close()
