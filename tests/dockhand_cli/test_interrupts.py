"""Ctrl-C, SIGTERM and readers that go away."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import CommandLine
from dockhand_embedded.pytest_plugin import OciRegistry
from images import push_image
from scripted_server import ScriptedServer, reply, scripted_server
from slow_registry import slow_registry

from dockhand_core import NotFound, RegistryClient

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
def test_a_copy_is_cancelled(
    dockhand: CommandLine, oci_registry: OciRegistry, registry: RegistryClient, host: str,
    number: int, status: int,
) -> None:  # fmt: skip
    with slow_registry([20 * MIB] * 4) as source:
        running = Running(dockhand, "cp", f"{_host(source)}/app:v1", f"{host}/team/app:v1")
        _wait_for(_begun(source, 4))
        time.sleep(0.5)
        begin = time.monotonic()
        assert running.end(number) == (status, "", "")
        assert time.monotonic() - begin < 5
    with pytest.raises(NotFound):
        registry.manifest("team/app", "v1")


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


def test_a_push_is_cancelled(dockhand: CommandLine, registry: RegistryClient, host: str) -> None:
    with slow_registry([3 * MIB] * 2, pause=0) as source:
        dockhand.out("pull", f"{_host(source)}/app:v1", "app.tar")
    cancelled: list[str] = []

    def handle(request: object) -> bytes:
        method = getattr(request, "method", "")
        path = getattr(request, "path", "")
        if method == "POST":
            return reply(202, location=f"{path}1")
        if method == "DELETE":
            cancelled.append(path)
            return reply(204)
        if method in {"PUT", "PATCH"}:
            time.sleep(1.5)
            return reply(201, docker_content_digest="x")
        return reply(404)

    with scripted_server(handle) as target:
        running = Running(dockhand, "push", "app.tar", f"{_host(target)}/team/app:v1")
        _wait_for(lambda: target.with_method("PUT"))
        status, out, err = running.end(signal.SIGINT)
    assert (status, out, err) == (130, "", "")
    assert not [each for each in target.with_method("PUT") if "/manifests/" in each.path]


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
    dockhand: CommandLine, registry: RegistryClient, host: str, tmp_path: Path
) -> None:
    image = push_image(registry, "team/app", "v0")
    for number in range(1, 30):
        registry.put_manifest("team/app", f"v{number}", image)
    command = f"{sys.executable} -m dockhand_cli $0 2>{tmp_path}/errors"
    script = f"{command} | head -1; echo ${{PIPESTATUS[0]}}"
    for arguments in (f"tags {host}/team/app", f"cp --all-tags {host}/team/app {host}/copy/app"):
        done = subprocess.run(
            ["bash", "-c", script.replace("$0", arguments)],
            cwd=dockhand.folder, env=dockhand.environment, capture_output=True, text=True,
            check=True, timeout=60,
        )  # fmt: skip
        first, status = done.stdout.splitlines()
        assert "v0" in first
        assert status in {"0", "141"}  # 0 if `head` had not gone when the last line was written
        assert (tmp_path / "errors").read_text() == ""
