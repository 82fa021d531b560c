"""Functions that find the programs of real registries and clients, and run them on loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

# A password file with the user `alice`, whose password is `PASSWORD`.
HTPASSWD = "alice:$2b$05$555Z.w9rI3neEFilIIS96OZtZQIuGBYeTe4mWcp15MZrNGWP7qmcG\n"
PASSWORD = "s3cret-for-tests"

# For each version: the environment variable with the program's path, the program's name on the
# PATH, and how to install it.
DISTRIBUTION = {
    "2.8": (
        "DOCKHAND_LIVE_DISTRIBUTION_2",
        "docker-registry",
        "install Debian's package docker-registry",
    ),
    "3.1": (
        "DOCKHAND_LIVE_DISTRIBUTION_3",
        "registry",
        "install Go, and `make live` builds it",
    ),
}


def cache_folder() -> Path:
    """Return the folder where `make live` puts the programs that it builds."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dockhand-live" / "bin"


def skip_or_fail(name: str, how: str) -> None:
    """Skip the test because a program is missing; if the variable CI is `true`, fail the test."""
    message = f"{name} is not installed: {how}; or set the variable that names its path"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def installed(name: str, variable: str | None = None) -> str | None:
    """Find a program by an environment variable, on the PATH or in the folder of `make live`."""
    named = os.environ.get(variable) if variable else None
    cached = cache_folder() / name
    return named or shutil.which(name) or (str(cached) if cached.exists() else None)


def program(name: str, how: str, variable: str | None = None) -> str:
    """Find a program, and return its path; if it is missing, skip the test, or fail it in CI.

    Args:
        name: the program's name on the PATH.
        how: instructions for installing the program, for the message.
        variable: the name of an environment variable that may contain the program's path.
    """
    found = installed(name, variable)
    if found is None:
        skip_or_fail(name, how)
    assert found is not None
    return found


_CLIENTS = {
    **dict.fromkeys(("skopeo", "podman", "buildah", "umoci"), "install Debian's package {}"),
    **dict.fromkeys(
        ("crane", "regctl", "oras", "helm", "cosign"), "install Go, and `make live` builds {}"
    ),
}


def client(name: str) -> str:
    """Find a client such as skopeo, and return its path; if it is missing, skip or fail the test.

    Args:
        name: `skopeo`, `podman`, `buildah`, `umoci`, `crane`, `regctl`, `oras`, `helm` or `cosign`.
    """
    return program(name, _CLIENTS[name].format(name))


class Clients:
    """Runs clients such as skopeo or helm, each with `home` as the folder for all that it keeps.

    Args:
        home: the folder, in which the clients also start.
        variables: additional environment variables, such as `COSIGN_PASSWORD`.
    """

    def __init__(self, home: Path, **variables: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self._environment = {**program_environment(home), **variables}

    def run(self, name: str, *arguments: str, succeeds: bool = True) -> str:
        """Run a client, and return its output; if it has to fail, return its error output.

        Args:
            name: the name of the client, as for the function `client`.
            arguments: the arguments of the command.
            succeeds: whether the command has to succeed; otherwise it has to fail.
        """
        done = subprocess.run(
            [client(name), *arguments], env=self._environment, cwd=self.home,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert (done.returncode == 0) is succeeds, f"{name} {arguments}: {done.stderr}"
        return done.stdout if succeeds else done.stderr


def program_environment(home: Path) -> dict[str, str]:
    """Return the environment variables for a client such as skopeo, crane or regctl.

    The client keeps its settings, credentials and caches in the folder `home`. It does not touch
    those of the user who runs the tests.
    """
    settings = home / ".config" / "containers"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (settings / "registries.conf").write_text("")
    (settings / "registries.d").mkdir(exist_ok=True)
    if not (home / "auth.json").exists():
        (home / "auth.json").write_text("{}")  # buildah refuses to start without the file
    # The driver `vfs` needs no support by the kernel, so it also works within a container.
    storage = {"driver": "vfs", "graphroot": str(home / "images"), "runroot": str(home / "run")}
    (settings / "storage.conf").write_text(
        "\n".join(
            ["[storage]", *(f"{key} = {json.dumps(value)}" for key, value in storage.items())]
        )
    )
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        # Without this variable, skopeo as root keeps its cache of blob locations in /var/lib.
        "_CONTAINERS_ROOTLESS_UID": "65534",
        "CONTAINERS_REGISTRIES_CONF": str(settings / "registries.conf"),
        "CONTAINERS_STORAGE_CONF": str(settings / "storage.conf"),
        "DOCKER_CONFIG": str(home / "docker"),
        "REGCTL_CONFIG": str(home / "regctl.json"),
        "REGISTRY_AUTH_FILE": str(home / "auth.json"),
    }


def free_port() -> int:
    """Find a loopback port that is free at this moment.

    Another program may take the port before it is used. Prefer port 0 for servers that report
    their port.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def distribution(
    version: str, folder: Path, *, http: dict[str, Any] | None = None, **sections: Any
) -> Iterator[str]:
    """Run a Distribution, and provide its URL.

    Args:
        version: `2.8` or `3.1`.
        folder: the folder for its configuration, blobs and log.
        http: settings to add to the configuration's `http` section.
        sections: further sections of the configuration, such as `auth`.
    """
    variable, name, how = DISTRIBUTION[version]
    binary = program(name, how, variable)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},  # `info` logs the port
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": "127.0.0.1:0", **(http or {})},
        **sections,
    }
    path = folder / "config.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    with _running([binary, "serve", str(path)], folder) as (process, log):
        port = _reported_port(process, log)
        wait_for(f"http://127.0.0.1:{port}/v2/", process, log)
        yield f"http://127.0.0.1:{port}"


# For zot in any version, like an entry of DISTRIBUTION.
ZOT = (
    "DOCKHAND_LIVE_ZOT",
    "zot",
    "build it from its own repository with `make binary`",
)
ATTEMPTS = 5  # attempts to start zot; another program may take its port first


def zot_program() -> str:
    """Find zot, and return its path; if it is missing, skip the test.

    The test is skipped in CI, too, where cassettes replace zot.
    """
    variable, name, how = ZOT
    found = installed(name, variable)
    if found is None:
        pytest.skip(f"zot is not installed: {how}; or set {variable}")
    assert found is not None
    return found


@contextmanager
def zot(
    folder: Path,
    *,
    auth: dict[str, Any] | None = None,
    access: dict[str, Any] | None = None,
    http: dict[str, Any] | None = None,
    storage: dict[str, Any] | None = None,
    **extensions: Any,
) -> Iterator[str]:
    """Run a zot server, and provide its URL.

    Args:
        folder: the folder for its configuration, blobs and log.
        auth: the table `auth` of the configuration's `http` section.
        access: the table `accessControl` of the `http` section.
        http: further settings of the `http` section.
        storage: further settings of the `storage` section.
        extensions: settings of zot's extensions, such as `search={"enable": True}`.
    """
    binary = zot_program()
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "distSpecVersion": "1.1.1",
        "storage": {"rootDirectory": str(folder / "data"), "gc": False, **(storage or {})},
        "http": {"address": "127.0.0.1", "compat": ["docker2s2"]},
        "log": {"level": "info", "output": str(folder / "zot.log")},
    }
    if auth is not None:
        config["http"]["auth"] = auth
    if access is not None:
        config["http"]["accessControl"] = access
    config["http"] |= http or {}
    if extensions:
        config["extensions"] = extensions
    path = folder / "config.json"
    with ExitStack() as stack:
        for attempt in range(1, ATTEMPTS + 1):
            port = free_port()
            path.write_text(json.dumps({**config, "http": {**config["http"], "port": str(port)}}))
            process, log = stack.enter_context(_running([binary, "serve", str(path)], folder))
            url = f"http://127.0.0.1:{port}"
            try:
                wait_for(f"{url}/v2/", process, log)
            except RuntimeError:
                if attempt == ATTEMPTS:
                    raise
            else:
                break
        yield url


@contextmanager
def crane_registry(folder: Path) -> Iterator[str]:
    """Run the registry of the program `crane`, which keeps everything in memory; provide its URL.

    Args:
        folder: the folder for its log.
    """
    binary = program("crane", "install Go, and `make live` builds it")
    command = [binary, "registry", "serve", "--address", "127.0.0.1:0"]
    with _running(command, folder) as (process, log):
        yield f"http://127.0.0.1:{_reported_port(process, log)}"


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a registry with `folder` as its home; provide its process and the path of its log.

    The registry is stopped at the end of the `with` block.
    """
    log = folder / "log"
    env = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "OTEL_TRACES_EXPORTER": "none",  # Distribution 3.1 would look for a collector of traces
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=folder
        )
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


@contextmanager
def running_server(module: str, *options: str, **streams: Any) -> Iterator[str]:
    """Run one of the project's servers on a port that the system chooses, and provide its URL.

    Args:
        module: the server's module, as for `python -m`.
        options: further options of the server's command.
        streams: further arguments for `subprocess.Popen`, such as `stderr`.
    """
    command = [sys.executable, "-m", module, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **streams)
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
        try:
            assert line.startswith("listening on http://127.0.0.1:"), line
            yield line.removeprefix("listening on ").strip()
        finally:
            process.terminate()
            assert process.wait(60) == 0


@contextmanager
def embedded(folder: Path, *options: str) -> Iterator[str]:
    """Run the embedded registry in a process of its own, and provide its URL."""
    with running_server("dockhand_embedded", "--root", str(folder / "root"), *options) as url:
        yield url


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server replies, whatever the status is.

    Raises:
        RuntimeError: the process ended, or the server did not reply within a minute.
    """

    def replies() -> bool:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    _poll(replies, process, log)


def _reported_port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until a registry has written its port to its log, and return the port."""
    pattern = re.compile(r"(?:listening on 127\.0\.0\.1:|serving on port )(\d+)")
    _poll(lambda: pattern.search(log.read_text()) is not None, process, log)
    found = pattern.search(log.read_text())
    assert found is not None
    return int(found[1])


def _poll(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")
        if ready():
            return
        time.sleep(0.02)
    raise RuntimeError(f"the server does not answer: {log.read_text()[-2000:]}")
