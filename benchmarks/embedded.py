"""The embedded registry compared with Distribution 3.1: one client sends both the same requests."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.measure import Pair, Row, compare, ratio_row
from benchmarks.server import distribution_version, free_port, running_distribution, running_process
from benchmarks.transfer import Blob
from dockhand_core import RegistryClient, connect

__all__ = ["embedded_registry"]

REPOSITORY = "bench/embedded"
BLOCK = 1 << 18
HALF_THE_THROUGHPUT = 2.0
FIVE_TIMES_THE_SPEED = 0.2
LIMIT_MIB = 64.0
_QUIET = {"driver": "null"}


class NoPeerError(Exception):
    """The program to compare with is not installed."""


def embedded_registry(folder: Path, blob: Blob, rounds: int) -> list[Row]:
    """Measure blobs, small requests, the start, the memory, and the driver without a socket.

    Raises:
        NoPeerError: Distribution 3.1 is not installed.
    """
    program = _find_distribution()
    peer = distribution_version(program)
    with ExitStack() as stack:
        theirs, their_process = stack.enter_context(_running_peer(program, folder))
        ours, our_process = stack.enter_context(_running_embedded(folder))
        rows = _blob_rows(ours, theirs, peer, blob, rounds, our_process.pid)
        rows += _small_request_rows(ours, theirs, peer, folder, rounds)
        # Last, so that the peaks include all requests before.
        rows.append(_peak_memory_row(peer, our_process.pid, their_process.pid))
    rows.append(_start_row(program, peer, folder, rounds))
    return rows


def _find_distribution() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cached = Path(base) / "dockhand-live" / "bin" / "registry"
    named = os.environ.get("DOCKHAND_LIVE_DISTRIBUTION_3") or shutil.which("registry")
    found = named or (str(cached) if cached.exists() else None)
    if found is None:
        raise NoPeerError("Distribution 3.1 is not installed: `make servers` builds it")
    return found


@contextmanager
def _running_peer(program: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    place = folder / "peer"
    place.mkdir(exist_ok=True)
    with running_distribution(program, place) as found:
        yield found
    shutil.rmtree(place)


@contextmanager
def _running_embedded(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port, root = free_port(), folder / "served"
    command = [sys.executable, "-m", "dockhand_embedded", "--root", str(root), "--port", str(port)]
    with running_process(command, port, folder / "served.log") as found:
        yield found
    shutil.rmtree(root)


class _RawClient:
    """A minimal client, which needs little time itself, so that the server is timed."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc

    def push(self, blob: Blob, digest: str) -> None:
        connection = http.client.HTTPConnection(self._host, blocksize=BLOCK, timeout=120)
        try:
            connection.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/", body=b"")
            begun = connection.getresponse()
            begun.read()
            parts = urlsplit(begun.headers["Location"])
            query = f"{parts.query}&" if parts.query else ""
            headers = {
                "Content-Length": str(blob.size),
                "Content-Type": "application/octet-stream",
            }
            with blob.path.open("rb") as file:
                connection.request("PUT", f"{parts.path}?{query}digest={digest}", file, headers)
            reply = connection.getresponse()
            reply.read()
            assert reply.status == 201, reply.status
        finally:
            connection.close()

    def pull(self, blob: Blob, digest: str) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=120)
        try:
            connection.request("GET", f"/v2/{REPOSITORY}/blobs/{digest}")
            reply = connection.getresponse()
            buffer, read = bytearray(BLOCK), 0
            while count := reply.readinto(buffer):
                read += count
            assert read == blob.size, read
        finally:
            connection.close()


def _blob_rows(ours: str, theirs: str, peer: str, blob: Blob, rounds: int, pid: int) -> list[Row]:
    size = f"{blob.size >> 20} MiB"
    here, there = _RawClient(ours), _RawClient(theirs)
    digests = [blob.digest]

    def fresh() -> None:
        blob.change()
        digests[:] = [blob.hash()]

    small = Blob(blob.path.with_suffix(".small"), 1 << 20)
    here.push(small, small.digest)
    here.pull(small, small.digest)
    before = _peak_memory(pid)
    pushes = compare(
        lambda: here.push(blob, digests[0]),
        lambda: there.push(blob, digests[0]),
        rounds,
        prepare=fresh,
        warm=False,
    )
    here.push(blob, digests[0])
    pulls = compare(
        lambda: here.pull(blob, digests[0]), lambda: there.pull(blob, digests[0]), rounds
    )
    grown = _peak_memory(pid) - before
    return [
        ratio_row(f"embedded, served: push {size}", peer, pushes, HALF_THE_THROUGHPUT),
        ratio_row(f"embedded, served: pull {size}", peer, pulls, HALF_THE_THROUGHPUT),
        Row(
            f"embedded, served: memory of pushes and pulls of {size}",
            "after 1 MiB",
            grown,
            LIMIT_MIB,
            unit=" MiB",
        ),
    ]


def _small_request_rows(ours: str, theirs: str, peer: str, folder: Path, rounds: int) -> list[Row]:
    with (
        connect(ours, logging=_QUIET) as served,
        connect(theirs, logging=_QUIET) as other,
        connect(":memory:", driver="embedded", logging=_QUIET) as memory,
        connect(str(folder / "layouts"), driver="embedded", logging=_QUIET) as layouts,
    ):
        for client in (served, other, memory, layouts):
            _push_manifest(client)
        rows = []
        cases: list[tuple[str, RegistryClient, RegistryClient, str, float | None]] = [
            ("embedded, served", served, other, peer, None),
            ("embedded, in memory", memory, other, peer, FIVE_TIMES_THE_SPEED),
            ("embedded, in memory", memory, served, "served", FIVE_TIMES_THE_SPEED),
            ("embedded, in a folder", layouts, other, peer, None),
        ]
        for name, left, right, against, target in cases:
            for what, action in (("1,000 x HEAD", _heads), ("1,000 small pushes", _pushes)):
                pair = compare(action(left), action(right), max(rounds, 5))
                rows.append(ratio_row(f"{name}: {what}", against, pair, target, times=10))
    shutil.rmtree(folder / "layouts")
    return rows


def _push_manifest(client: RegistryClient) -> None:
    digest = client.upload_blob(REPOSITORY, b"{}").digest
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [],
    }
    client.put_manifest(REPOSITORY, "v1", manifest)


def _heads(client: RegistryClient) -> Callable[[], None]:
    def hundred() -> None:
        for _ in range(100):
            client.manifest_head(REPOSITORY, "v1")

    return hundred


def _pushes(client: RegistryClient) -> Callable[[], None]:
    def hundred() -> None:
        for _ in range(100):
            client.upload_blob(REPOSITORY, os.urandom(64))

    return hundred


def _start_row(program: str, peer: str, folder: Path, rounds: int) -> Row:
    def ours() -> None:
        with _running_embedded(folder):
            pair.ours.append(time.perf_counter() - start)

    def theirs() -> None:
        with _running_peer(program, folder):
            pair.theirs.append(time.perf_counter() - start)

    pair = Pair([], [])
    for _ in range(max(rounds, 5)):
        for side in (ours, theirs):
            start = time.perf_counter()
            side()
    return ratio_row("embedded, served: start to the first reply", peer, pair, None)


def _peak_memory_row(peer: str, ours: int, theirs: int) -> Row:
    left, right = _peak_memory(ours), _peak_memory(theirs)
    return Row(
        "embedded, served: peak memory after all of this",
        peer,
        left / right,
        None,
        ours=f"{left:.0f} MiB",
        theirs=f"{right:.0f} MiB",
    )


def _peak_memory(pid: int) -> float:
    """Return the peak memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) / 1024
