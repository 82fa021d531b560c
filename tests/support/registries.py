"""Real registries for the tests: found, started on a free loopback port, stopped."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# of "s3cret-for-tests", for the user "alice"
HTPASSWD = "alice:$2b$05$555Z.w9rI3neEFilIIS96OZtZQIuGBYeTe4mWcp15MZrNGWP7qmcG\n"
PASSWORD = "s3cret-for-tests"

# version: (variable that names the binary, its name on the PATH, how to get it)
DISTRIBUTION = {
    "2.8": (
        "DOCKHAND_LIVE_DISTRIBUTION_2",
        "docker-registry",
        "Debian's package docker-registry has it",
    ),
    "3.1": (
        "DOCKHAND_LIVE_DISTRIBUTION_3",
        "registry",
        "`make live` builds it where Go is installed",
    ),
}


def cache_folder() -> Path:
    """Where `make live` puts what it builds."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dockhand-live" / "bin"


def missing(what: str, how: str) -> None:
    """Skip the test, or fail it where everything has to be there."""
    message = f"{what} is not installed: {how}; or set the variable that names it"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def installed(name: str, variable: str | None = None) -> str | None:
    """The path of a program, named by a variable, on the PATH or built by `make live`."""
    named = os.environ.get(variable) if variable else None
    cached = cache_folder() / name
    return named or shutil.which(name) or (str(cached) if cached.exists() else None)


def program(name: str, how: str, variable: str | None = None) -> str:
    """The path of a program, or skip."""
    found = installed(name, variable)
    if found is None:
        missing(name, how)
    assert found is not None
    return found


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def distribution(
    version: str, folder: Path, *, http: dict[str, Any] | None = None, **sections: Any
) -> Iterator[str]:
    """A Distribution of that version, and its URL.

    Args:
        version: `2.8` or `3.1`.
        folder: where it keeps its configuration, blobs and log.
        http: keys to add to the configuration's `http` section.
        sections: further sections, such as `auth`.
    """
    variable, name, how = DISTRIBUTION[version]
    binary = program(name, how, variable)
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}", **(http or {})},
        **sections,
    }
    path = folder / "config.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    with _answering([binary, "serve", str(path)], port, folder) as url:
        yield url


# zot, whichever version is installed
ZOT = (
    "DOCKHAND_LIVE_ZOT",
    "zot",
    "build it from its own repository (make binary), which is where it is to be had",
)


def zot_program() -> str:
    """The path of a zot, or skip: CI replays cassettes where there is none."""
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
    """A zot, and its URL.

    Args:
        folder: where it keeps its configuration, blobs and log.
        auth, access: the `auth` and `accessControl` of its `http` section.
        http, storage: further keys of these sections.
        extensions: such as `search={"enable": True}`.
    """
    binary = zot_program()
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "distSpecVersion": "1.1.1",
        "storage": {"rootDirectory": str(folder / "data"), "gc": False, **(storage or {})},
        "http": {"address": "127.0.0.1", "port": str(port), "compat": ["docker2s2"]},
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
    path.write_text(json.dumps(config))
    with _answering([binary, "serve", str(path)], port, folder) as url:
        yield url


@contextmanager
def _answering(command: list[str], port: int, folder: Path) -> Iterator[str]:
    """The URL of a server once it answers; its output goes into a file of the folder."""
    # Distribution 3.1 would look for a collector of traces.
    env = {"PATH": os.environ.get("PATH", ""), "OTEL_TRACES_EXPORTER": "none"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=folder
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/v2/", process, folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def announced(module: str, *options: str, **streams: Any) -> Iterator[str]:
    """The URL of one of our own servers, which says where it listens, and stops cleanly."""
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
            assert process.wait(20) == 0


@contextmanager
def embedded(folder: Path, *options: str) -> Iterator[str]:
    """The embedded registry, served alone; its URL."""
    with announced("dockhand_embedded", "--root", str(folder / "root"), *options) as url:
        yield url


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers, whatever it says."""
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"no answer from {url}: {log.read_text()[-2000:]}")
