"""The registry that everything is measured on: found, started, filled."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dockhand_core import RegistryClient, connect
from dockhand_core.models import media

__all__ = [
    "MANIFESTS",
    "Server",
    "answering",
    "free_port",
    "launched",
    "running",
    "started",
    "version",
]

MANIFESTS = "bench/manifests"
BLOBS = "bench/blobs"
INSTALL = (
    "no registry to measure on: install Debian's package docker-registry (Distribution 2.8), or "
    "Distribution 3.1 (go install github.com/distribution/distribution/v3/cmd/registry@v3.1.1) "
    "with DOCKHAND_LIVE_DISTRIBUTION_3 naming the program `registry`, or give --server URL"
)


@dataclass(frozen=True)
class Server:
    """A registry with manifests in it.

    Attributes:
        url: without `/v2/`.
        name: for the head of the table.
        tags: of the repository `MANIFESTS`, each with a small manifest of its own.
        storage: its folder, where it was started here.
    """

    url: str
    name: str
    tags: list[str]
    storage: Path | None = None

    def manifest_url(self, tag: str) -> str:
        """The URL of a manifest."""
        return f"{self.url}/v2/{MANIFESTS}/manifests/{tag}"

    def blob_url(self, digest: str) -> str:
        """The URL of a blob."""
        return f"{self.url}/v2/{BLOBS}/blobs/{digest}"

    def drop(self, digest: str) -> None:
        """Give a blob's disk space back, where the storage is ours."""
        if self.storage is not None:
            algorithm, _, encoded = digest.partition(":")
            blobs = self.storage / "docker/registry/v2/blobs" / algorithm
            shutil.rmtree(blobs / encoded[:2] / encoded, ignore_errors=True)


@contextmanager
def started(folder: Path, count: int) -> Iterator[Server]:
    """A Distribution on a free loopback port, with its blobs in a folder."""
    program = _program()
    with launched(program, folder) as (url, _):
        yield Server(url, version(program), _fill(url, count), folder / "storage")


@contextmanager
def launched(program: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URL and the process of a Distribution that keeps all it has in a folder."""
    port = free_port()
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "storage")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    file = folder / "config.yml"
    file.write_text(json.dumps(config))  # JSON is YAML
    # 3.1 would look for a collector of traces
    env = {"PATH": os.environ.get("PATH", ""), "OTEL_TRACES_EXPORTER": "none"}
    with answering([program, "serve", str(file)], port, folder / "log", env) as found:
        yield found


@contextmanager
def answering(
    command: list[str], port: int, log: Path, env: dict[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A registry's process once it answers, and its URL; stopped at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(port, process, log)
        yield url, process
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def running(url: str, count: int) -> Server:
    """A registry that runs already; the repositories `bench/…` are written to."""
    url = url.rstrip("/").removesuffix("/v2")
    return Server(url, url, _fill(url, count))


def _program() -> str:
    named = os.environ.get("DOCKHAND_LIVE_DISTRIBUTION_3")  # who names one wants that one
    found = named or shutil.which("docker-registry") or shutil.which("registry")
    if found is None:
        raise SystemExit(INSTALL)
    if not Path(found).is_file():
        raise SystemExit(f"DOCKHAND_LIVE_DISTRIBUTION_3 names {found}, which is not there")
    return found


def version(program: str) -> str:
    """What a Distribution calls itself."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    words = (said.stdout + said.stderr).split()
    return "Distribution " + (words[-1].partition("+")[0].lstrip("v") if words else "")


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the registry ended at once: {log.read_text()[-2000:]}")
        # no httpx here: a start is timed, and each of its clients costs as much
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/v2/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.002)
        else:
            return
        finally:
            connection.close()
    raise RuntimeError("the registry does not answer")


def _fill(url: str, count: int) -> list[str]:
    with connect(url) as client:
        tags = [f"t{number:04}" for number in range(count)]
        there = set(client.tags(MANIFESTS)) if MANIFESTS in set(client.repositories()) else set()
        if not there.issuperset(tags):
            config = client.upload_blob(MANIFESTS, b"{}")
            for tag in tags:
                client.put_manifest(MANIFESTS, tag, _manifest(tag, config.digest))
        _touch(client)
    return tags


def _touch(client: RegistryClient) -> None:
    client.upload_blob(BLOBS, b"{}")  # the repository is there for those who look first


def _manifest(tag: str, config: str) -> dict[str, object]:
    layer = hashlib.sha256(b"{}").hexdigest()
    return {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": {"mediaType": media.OCI_CONFIG, "digest": config, "size": 2},
        "layers": [{"mediaType": media.OCI_LAYER, "digest": f"sha256:{layer}", "size": 2}],
        "annotations": {"org.example.tag": tag},
    }
