"""Interactive shells on a terminal of their own, in which a test presses keys."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from collections.abc import Mapping, Sequence

TAB, ENTER = "\t", "\r"
LINE_START, LINE_END, KILL_LINE = "\x01", "\x05", "\x05\x15"


class Shell:
    """An interactive shell, which reads the files of its home folder when it starts.

    Args:
        command: the shell and its arguments.
        environment: all environment variables of the shell.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.chdir(environment["HOME"])
            os.execvpe(command[0], list(command), dict(environment))
        self._seen = ""

    def press(self, keys: str) -> None:
        """Type text, or press keys; the shell reads them when it is ready."""
        os.write(self._terminal, keys.encode())

    def wait_for(self, text: str, seconds: float = 20) -> bool:
        """Wait until a text appears on the terminal after what was waited for before.

        Args:
            text: the text.
            seconds: the time to wait at most.

        Returns:
            whether the text has appeared.
        """
        until = time.monotonic() + seconds
        while text not in self._seen and time.monotonic() < until:
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    self._seen += os.read(self._terminal, 65536).decode(errors="replace")
                except OSError:  # the shell has ended
                    break
        found = text in self._seen
        self._seen = self._seen.partition(text)[2] if found else self._seen
        return found

    def completed(self, line: str, *, expected: str) -> bool:
        """Type the beginning of a line, press TAB, and let the shell print the line.

        The completion is tried again, because a registry's answer may be too late on a busy
        machine.

        Args:
            line: the beginning of the line.
            expected: the whole line.
        """
        for _ in range(4):
            # the line is printed by `echo`, since shells draw what they complete piece by piece
            self.press(f"{KILL_LINE}{line}{TAB}{LINE_START}echo '<' {LINE_END} '>'{ENTER}")
            if self.wait_for(f"< {expected} >", seconds=8):
                return True
        return False

    @property
    def seen(self) -> str:
        """All that appeared on the terminal since what was waited for."""
        return self._seen

    def close(self) -> None:
        """End the shell."""
        os.close(self._terminal)
        for number in (signal.SIGHUP, signal.SIGKILL):
            try:
                os.kill(self._process, number)
            except ProcessLookupError:
                break
            time.sleep(0.1)
        os.waitpid(self._process, 0)
