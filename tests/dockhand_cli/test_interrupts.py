"""Ctrl-C, SIGTERM and readers that go away."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from command_line import CommandLine
from dockhand_testing.contracts.samples import push_image
from dockhand_testing.http_server import ScriptedServer, reply
from raw_servers import Connection, raw_server
from slow_registry import slow_registry
from watched_registry import watched_registry

from dockhand_core import RegistryClient

MIB = 1 << 20


def _wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the command did not get so far"
        time.sleep(0.02)


def _host(server: ScriptedServer) -> str:
    return server.url.removeprefix("http://")


def _begun(server: ScriptedServer, count: int) -> Callable[[], bool]:
    """Whether a number of blobs was requested."""
    return lambda: sum("/blobs/" in each.path for each in server.with_method("GET")) >= count


class Running:
    """A command that runs.

    Args:
        dockhand: the folder and the environment.
        arguments: the arguments after `dockhand`.
    """

    def __init__(self, dockhand: CommandLine, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dockhand_cli", *arguments],
            cwd=dockhand.folder, env=dockhand.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end(self, number: int) -> tuple[int, str, str]:
        """Send a signal; return the exit status, standard output and standard error."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_copy_is_cancelled(dockhand: CommandLine, number: int, status: int) -> None:
    with slow_registry([20 * MIB] * 4) as source, watched_registry() as target:
        to = f"{target.url.removeprefix('http://')}/team/app:v1"
        running = Running(dockhand, "cp", f"{_host(source)}/app:v1", to)
        _wait_for(_begun(source, 4))
        time.sleep(0.5)
        begin = time.monotonic()
        assert running.end(number) == (status, "", "")
        assert time.monotonic() - begin < 5
    assert target.count("DELETE", "/uploads/") == 4
    assert target.count("PUT", "/manifests/") == 0


@pytest.mark.parametrize("path", ["app.tar", "folder"])
def test_a_pull_is_cancelled_and_leaves_no_archive(dockhand: CommandLine, path: str) -> None:
    with slow_registry([20 * MIB] * 3) as source:
        running = Running(dockhand, "pull", f"{_host(source)}/app:v1", path)
        _wait_for(_begun(source, 3))
        time.sleep(0.5)
        begin = time.monotonic()
        assert running.end(signal.SIGINT) == (130, "", "")
        assert time.monotonic() - begin < 5
    assert list(dockhand.folder.iterdir()) == []


def _take_slowly(connection: Connection, lines: list[str]) -> None:
    """Serve a registry that takes 64 KiB of a blob in a twentieth of a second."""
    while (request := connection.read_head()) is not None:
        lines.append(request.line)
        method, path, _ = request.line.split(" ")
        left = int(request.header("Content-Length") or 0) - len(connection.buffer)
        while left > 0:
            left -= len(connection.sock.recv(min(left, 1 << 16)))
            time.sleep(0.05)
        connection.buffer = b""
        status = {"POST": 202, "PUT": 201, "DELETE": 204}.get(method, 404)
        location = f"{path}{len(lines)}"
        connection.send(reply(status, location=location, docker_content_digest="sha256:0"))


def test_a_push_is_cancelled(dockhand: CommandLine) -> None:
    with slow_registry([20 * MIB] * 2, pause=0) as source:
        dockhand.out("pull", f"{_host(source)}/app:v1", "app.tar")
    lines: list[str] = []
    with raw_server(lambda connection: _take_slowly(connection, lines)) as target:
        running = Running(dockhand, "push", "app.tar", f"127.0.0.1:{target.port}/team/app:v1")
        _wait_for(lambda: sum(line.startswith("PUT") for line in lines) >= 2)
        time.sleep(0.5)
        begin = time.monotonic()
        assert running.end(signal.SIGINT) == (130, "", "")
        assert time.monotonic() - begin < 5
    assert sum(line.startswith("DELETE") for line in lines) >= 2
    assert not [line for line in lines if "/manifests/" in line]


def test_a_second_signal_ends_the_command_at_once(dockhand: CommandLine, host: str) -> None:
    with slow_registry([20 * MIB] * 2, hang_after=3) as source:
        running = Running(dockhand, "cp", f"{_host(source)}/app:v1", f"{host}/team/app:v1")
        _wait_for(_begun(source, 2))
        time.sleep(0.5)
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert running.process.poll() is None  # the registry does not answer
        begin = time.monotonic()
        assert running.end(signal.SIGINT) == (130, "", "")
        assert time.monotonic() - begin < 2


def test_a_reader_that_goes_away(
    dockhand: CommandLine, registry: RegistryClient, host: str
) -> None:
    image = push_image(registry, "team/app", "v0")
    for number in range(1, 30):
        registry.put_manifest("team/app", f"v{number}", image)
    command = f"{sys.executable} -m dockhand_cli"
    for arguments in (f"tags {host}/team/app", f"cp --all-tags {host}/team/app {host}/copy/app"):
        pipe = f"{command} {arguments} 2>errors | head -1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", pipe], cwd=dockhand.folder, env=dockhand.environment,
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        first, status = done.stdout.splitlines()
        assert first.startswith(("v", f"{host}/copy/app:v"))
        assert status in {"0", "141"}  # 0 if `head` had not gone when the last line was written
        assert (dockhand.folder / "errors").read_text() == ""
