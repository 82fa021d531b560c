"""Functions that find, start and fill the registry that the benchmarks use."""

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
    "FULL_PAGE",
    "MANIFESTS",
    "Server",
    "running_process",
    "find_distribution",
    "free_port",
    "running_distribution",
    "existing_server",
    "push_tags",
    "started_server",
    "distribution_version",
]

MANIFESTS = "bench/manifests"
BLOBS = "bench/blobs"
FULL_PAGE = "bench/full-page"  # a repository with as many tags as many registries' pages have
INSTALL = (
    "no registry to measure on: install Debian's package docker-registry (Distribution 2.8), or "
    "Distribution 3.1 (go install github.com/distribution/distribution/v3/cmd/registry@v3.1.1) "
    "with DOCKHAND_LIVE_DISTRIBUTION_3 naming the program `registry`, or give --server URL"
)


@dataclass(frozen=True)
class Server:
    """A registry that contains manifests for the benchmarks.

    Attributes:
        url: the registry's URL without `/v2/`.
        name: the registry's name, for the head of the table.
        tags: the tags of the repository `MANIFESTS`, each with a different small manifest.
        storage: the registry's folder; None if the benchmarks did not start the registry.
    """

    url: str
    name: str
    tags: list[str]
    storage: Path | None = None

    def manifest_url(self, tag: str) -> str:
        """Return the URL of a manifest."""
        return f"{self.url}/v2/{MANIFESTS}/manifests/{tag}"

    def blob_url(self, digest: str) -> str:
        """Return the URL of a blob."""
        return f"{self.url}/v2/{BLOBS}/blobs/{digest}"

    def drop(self, digest: str) -> None:
        """Delete a blob's file from the storage, if the benchmarks started the registry."""
        if self.storage is not None:
            algorithm, _, encoded = digest.partition(":")
            blobs = self.storage / "docker/registry/v2/blobs" / algorithm
            shutil.rmtree(blobs / encoded[:2] / encoded, ignore_errors=True)


@contextmanager
def started_server(folder: Path, count: int) -> Iterator[Server]:
    """Run a Distribution with its blobs in a folder, and fill it with manifests.

    Args:
        folder: the folder for its configuration, blobs and log.
        count: the number of tags.
    """
    program = find_distribution()
    with running_distribution(program, folder) as (url, _):
        yield Server(url, distribution_version(program), _fill(url, count), folder / "storage")


@contextmanager
def running_distribution(
    program: str, folder: Path
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a Distribution that keeps its files in a folder; provide its URL and its process."""
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
    env = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "OTEL_TRACES_EXPORTER": "none",  # Distribution 3.1 would look for a trace collector
    }
    with running_process([program, "serve", str(file)], port, folder / "log", env) as found:
        yield found


@contextmanager
def running_process(
    command: list[str], port: int, log: Path, env: dict[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a server's command, wait until the server replies, and provide its URL and process.

    The server is stopped at the end of the `with` block.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for_reply(port, process, log)
        yield url, process
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    """Find a loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def existing_server(url: str, count: int) -> Server:
    """Push `count` tagged manifests to a registry that already runs, and return the registry."""
    url = url.rstrip("/").removesuffix("/v2")
    return Server(url, url, _fill(url, count))


def find_distribution(version: int = 2) -> str:
    """Find a Distribution; the newest where `version` is 3, else preferably Debian's 2.8."""
    named = os.environ.get("DOCKHAND_LIVE_DISTRIBUTION_3")  # precedes the PATH
    cached = Path.home() / ".cache/dockhand-live/bin/registry"
    three = shutil.which("registry") or (str(cached) if cached.exists() else None)
    two = shutil.which("docker-registry")
    found = named or ((three or two) if version == 3 else (two or three))
    if found is None:
        raise SystemExit(INSTALL)
    if not Path(found).is_file():
        raise SystemExit(
            f"DOCKHAND_LIVE_DISTRIBUTION_3 names {found}, but that file does not exist"
        )
    return found


def distribution_version(program: str) -> str:
    """Return `Distribution` and the version that the program prints."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).split()
    return "Distribution " + (words[-1].partition("+")[0].lstrip("v") if words else "")


def _wait_for_reply(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended at once: {log.read_text()[-2000:]}")
        # not httpx: the start is timed, and making an httpx client takes about as long
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
    raise RuntimeError("the server does not reply within 20 seconds")


def _fill(url: str, count: int) -> list[str]:
    with connect(url) as client:
        tags = push_tags(client, MANIFESTS, count)
        _create_repository(client)
    return tags


def push_tags(client: RegistryClient, repository: str, count: int) -> list[str]:
    """Push tags with small manifests to a repository, unless it has them; return the tags."""
    tags = [f"t{number:04}" for number in range(count)]
    there = set(client.tags(repository)) if repository in set(client.repositories()) else set()
    if not there.issuperset(tags):
        config = client.upload_blob(repository, b"{}")
        for tag in tags:
            client.put_manifest(repository, tag, _manifest(tag, config.digest))
    return tags


def _create_repository(client: RegistryClient) -> None:
    client.upload_blob(BLOBS, b"{}")  # some clients check that the repository exists


def _manifest(tag: str, config: str) -> dict[str, object]:
    layer = hashlib.sha256(b"{}").hexdigest()
    return {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": {"mediaType": media.OCI_CONFIG, "digest": config, "size": 2},
        "layers": [{"mediaType": media.OCI_LAYER, "digest": f"sha256:{layer}", "size": 2}],
        "annotations": {"org.example.tag": tag},
    }
