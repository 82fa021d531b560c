"""Runs the command `dockhand` in a process of its own, as a user does."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fork_server import HELP_WIDTH, can_fork, run_forked


class CommandLine:
    """Runs the command in a folder, with an environment that has no settings of Dockhand or docker.

    Args:
        folder: the working folder, which is also the home folder and that of docker's settings.
        variables: additional environment variables.
    """

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("DOCKHAND_", "DOCKER_", "REGISTRY_AUTH"))
        }
        self.environment = {
            **inherited,
            "HOME": str(folder),
            "DOCKER_CONFIG": str(folder / ".docker"),
            **HELP_WIDTH,
            **variables,
        }

    def run(
        self,
        *arguments: str | Path,
        input: str | None = None,  # noqa: A002
        code: int = 0,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command, and check its exit status.

        Args:
            arguments: the arguments after `dockhand`.
            input: text for standard input; by default it is empty.
            code: the exit status that is expected.
        """
        done = self._run([*map(str, arguments)], (input or "").encode())
        out, err = (
            io.TextIOWrapper(io.BytesIO(data)).read() for data in (done.stdout, done.stderr)
        )
        shown = f"{arguments}: exit status {done.returncode}\n{out}\n{err}"
        assert done.returncode == code, shown
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def run_bytes(
        self,
        *arguments: str | Path,
        input: bytes = b"",  # noqa: A002
        code: int = 0,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command with bytes instead of text, and check its exit status; see `run`."""
        done = self._run([*map(str, arguments)], input)
        assert done.returncode == code, f"{arguments}: exit status {done.returncode}\n{done}"
        return done

    def _run(self, arguments: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
        """Run the command in a fork of a prepared process if that makes no difference."""
        if can_fork(self.environment):
            return run_forked(arguments, self.folder, self.environment, data)
        return subprocess.run(
            [sys.executable, "-m", "dockhand_cli", *arguments],
            cwd=self.folder, env=self.environment, input=data, capture_output=True,
            check=False, timeout=60,
        )  # fmt: skip

    def out(self, *arguments: str | Path, input: str | None = None) -> str:  # noqa: A002
        """Run a command that succeeds; return standard output, and check that no error is written.

        Args:
            arguments: the arguments after `dockhand`.
            input: text for standard input.
        """
        done = self.run(*arguments, input=input)
        assert done.stderr == "", done.stderr
        return done.stdout

    def lines(self, *arguments: str | Path) -> list[str]:
        """Run a command that succeeds, and return the lines of standard output."""
        return self.out(*arguments).splitlines()

    def json(self, *arguments: str | Path) -> Any:
        """Run a command with `--json`, and return its document."""
        return json.loads(self.out(*arguments, "--json"))

    def json_lines(self, *arguments: str | Path) -> list[Any]:
        """Run a command with `--json`, and return the documents of its lines."""
        return [json.loads(line) for line in self.lines(*arguments, "--json")]

    def error(self, *arguments: str | Path, code: int, input: str | None = None) -> str:  # noqa: A002
        """Run a command that fails with an exit status; return its error, which is one line.

        Args:
            arguments: the arguments after `dockhand`.
            code: the exit status that is expected.
            input: text for standard input.
        """
        done = self.run(*arguments, code=code, input=input)
        (line,) = done.stderr.splitlines()
        return line.removeprefix("error: ")
