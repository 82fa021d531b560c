"""A process that has imported `dockhand`, and forks for each command line.

A new interpreter spends most of a command's time on imports. A fork has done them, and is otherwise
a process like any other: with its own folder, environment, standard streams and exit status.

The tests of the examples in help texts start the installed program instead, so each command also
runs in a new interpreter.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["can_fork", "run_forked"]

TIMEOUT = 60.0  # seconds
HELP_WIDTH = {"TERMINAL_WIDTH": "100"}  # of typer's help texts
MODULES = (
    "dockhand_cli.main",
    "dockhand_cli.registry_login",
    "dockhand_core.manager",
    "dockhand_core.operations",
    "dockhand_core.http.async_runner",
    "dockhand_core.http.sync_runner",
    "dockhand_core.http.transports.httpx",
    "dockhand_distribution.driver",
    "rich.console",
    "typer.rich_utils",
)


def can_fork(environment: Mapping[str, str]) -> bool:
    """Whether a process with this environment would import the same modules in the same way."""
    names = [name for name in (*environment, *os.environ) if name.startswith(("PYTHON", "LC_"))]
    same = all(environment.get(name) == os.environ.get(name) for name in (*names, "LANG"))
    return same and HELP_WIDTH.items() <= environment.items() and hasattr(os, "fork")


def run_forked(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], data: bytes
) -> subprocess.CompletedProcess[bytes]:
    """Run a command line in a forked process.

    Args:
        arguments: the arguments after `dockhand`.
        folder: the working folder.
        environment: the environment variables.
        data: the content of standard input.
    """
    server = _server()
    mask = os.umask(0)
    os.umask(mask)
    request = {
        "arguments": arguments,
        "folder": str(folder),
        "environment": dict(environment),
        "umask": mask,
    }
    with (
        tempfile.TemporaryFile() as described,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        described.write(json.dumps(request).encode())
        described.seek(0)
        read, write = os.pipe()
        files = [described.fileno(), read, out.fileno(), err.fileno()]
        socket.send_fds(server.socket, [b"run"], files)
        os.close(read)
        threading.Thread(target=_write, args=(write, data), daemon=True).start()
        try:
            status = int(server.socket.recv(16))
        except TimeoutError:
            server.end()
            raise subprocess.TimeoutExpired(list(arguments), TIMEOUT) from None
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(list(arguments), status, out.read(), err.read())


def _write(pipe: int, data: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(pipe, "wb") as file:
        file.write(data)


class _Server:
    """The process, and the socket that it takes requests from."""

    def __init__(self) -> None:
        self.socket, other = socket.socketpair()
        self.socket.settimeout(TIMEOUT)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(other.fileno())],
                env={**os.environ, **HELP_WIDTH}, pass_fds=[other.fileno()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        atexit.register(self.end)

    def end(self) -> None:
        """End the process, and the command that it runs."""
        _server.cache_clear()
        self.socket.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@functools.cache
def _server() -> _Server:
    return _Server()


def _serve(requests: socket.socket) -> None:
    """Fork for each request, and answer with the exit status; in a fork, run the command line."""
    while True:
        message, files, _, _ = socket.recv_fds(requests, 16, 4)
        if not message:
            return
        process = os.fork()
        if process == 0:
            requests.close()
            _become(*files)
            return
        for each in files:
            os.close(each)
        _, status = os.waitpid(process, 0)
        requests.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(described: int, *streams: int) -> None:
    """Turn a fork into the process of a command line, and run it."""
    with os.fdopen(described) as file:
        request = json.load(file)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.umask(request["umask"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["dockhand", *request["arguments"]]
    sys.path[0] = request["folder"]  # as `python -m dockhand_cli` has it
    from dockhand_cli.__main__ import run

    try:
        run()
    except SystemExit as ended:
        # Python waits for threads before it calls this function.
        atexit.register(_leave, ended.code)
        raise


def _leave(status: object) -> None:
    """End the process without freeing its objects, which would copy the memory of the server."""
    if status is None or isinstance(status, int):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)


def _import_commands() -> None:
    """Import the modules that commands use, and let pydantic build the validators of settings."""
    from dockhand_core import Dockhand

    commands = importlib.import_module("dockhand_cli.commands")
    found = pkgutil.iter_modules(commands.__path__, "dockhand_cli.commands.")
    for name in (*MODULES, *(info.name for info in found)):
        importlib.import_module(name)
    with Dockhand({}) as dockhand:
        dockhand.locate("localhost:1/any")
    gc.freeze()


if __name__ == "__main__":
    sys.path[0] = ""  # instead of the folder of this file
    _import_commands()
    _serve(socket.socket(fileno=int(sys.argv[1])))
