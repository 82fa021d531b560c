"""Runs the command `dockhand` on a terminal."""

from __future__ import annotations

import codecs
import os
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

from command_line import CommandLine


class Terminal:
    """Runs the command on a terminal.

    Args:
        dockhand: the folder and the environment of the command.
        arguments: the arguments after `dockhand`.
    """

    def __init__(self, dockhand: CommandLine, *arguments: str) -> None:
        self.fd, slave = os.openpty()
        # The terminal that the leader of a session opens becomes its controlling terminal.
        command = 'exec "$@" <"$0" >"$0" 2>&1'
        self.process = subprocess.Popen(
            [
                "sh", "-c", command, os.ttyname(slave),
                sys.executable, "-m", "dockhand_cli", *arguments,
            ],
            env=dockhand.environment, cwd=dockhand.folder, start_new_session=True,
        )  # fmt: skip
        self.slave, self.seen = slave, ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # reads may end within a character

    def wait_for(self, text: str) -> None:
        """Read what the command writes, until a text appears."""
        deadline = time.monotonic() + 60
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], deadline - time.monotonic())
            assert ready, f"{text!r} did not appear in {self.seen!r}"
            self.seen += self._decoder.decode(os.read(self.fd, 4096))

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def wait_until_silent(self) -> None:
        """Wait until the terminal does not show what is typed."""
        deadline = time.monotonic() + 30
        while self.echoes() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not self.echoes()

    def type(self, text: str) -> None:
        """Type a text, once the command waits for something.

        Python handles a signal that arrives between the question and the read only after the read.
        """
        state = Path(f"/proc/{self.process.pid}/stat")
        deadline = time.monotonic() + 5
        while state.exists() and time.monotonic() < deadline:
            if state.read_text().rpartition(")")[2].split()[0] != "R":
                break
            time.sleep(0.005)
        os.write(self.fd, text.encode())

    def end(self) -> int:
        """Wait for the end of the command; return its exit status."""
        status = self.process.wait(60)
        while select.select([self.fd], [], [], 0)[0]:
            self.seen += self._decoder.decode(os.read(self.fd, 4096))
        return status

    def close(self) -> None:
        """End the command if it still runs, and close the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.fd)


def shown_on_terminal(dockhand: CommandLine, *arguments: str, columns: int = 80) -> str:
    """Run the command on a terminal without colours, and return all that it shows.

    Args:
        dockhand: the folder and the environment of the command.
        arguments: the arguments after `dockhand`.
        columns: the width of the terminal.
    """
    size = {"TERM": "dumb", "COLUMNS": str(columns), "LINES": "40"}
    wide = CommandLine(dockhand.folder, **{**dockhand.environment, **size})
    terminal = Terminal(wide, *arguments)
    try:
        deadline = time.monotonic() + 60
        while True:
            ended = terminal.process.poll() is not None
            if select.select([terminal.fd], [], [], 0 if ended else 0.1)[0]:
                terminal.seen += os.read(terminal.fd, 4096).decode()
            elif ended:
                return terminal.seen.replace("\r\n", "\n")
            assert time.monotonic() < deadline, f"the command does not end: {terminal.seen!r}"
    finally:
        terminal.close()
