"""The webhook receiver: durable events per second, and the memory after very many events."""

from __future__ import annotations

import json
import selectors
import socket
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Row
from benchmarks.receivers import TOKEN
from benchmarks.server import free_port, running_process

__all__ = ["notifications"]

CONNECTIONS = 32
REPOSITORIES = 100
ROUND = 4000
WHY = (
    "It checks a token, parses the event, detects repetitions, stores a delivery for each handler, "
    "and calls the handler meanwhile; the other side does none of this."
)
_TYPE = "application/vnd.docker.distribution.events.v2+json"
_ID, _NAME = "0" * 36, "team/r000"
_EVENT = {
    "id": _ID,
    "timestamp": "2026-11-23T12:16:30.389133333Z",
    "action": "push",
    "target": {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{'4b' * 32}",
        "size": 416,
        "repository": _NAME,
        "url": f"http://127.0.0.1:5000/v2/{_NAME}/manifests/sha256:{'4b' * 32}",
        "tag": "v1",
    },
    "request": {"id": "r", "addr": "127.0.0.1:1", "host": "h", "method": "PUT", "useragent": "b"},
    "actor": {"name": "alice"},
    "source": {"addr": "vm:5000", "instanceID": "i"},
}
_BODY = json.dumps({"events": [_EVENT]}).encode()


def notifications(folder: Path, rounds: int, many: int) -> list[Row]:
    """Measure the rate of durable events, and the memory that many events add.

    Args:
        folder: the folder for the inboxes.
        rounds: the number of times that each side is measured.
        many: the number of events during which the memory must not grow.
    """
    with (
        _running_receiver("ours", folder) as (ours, process),
        _running_receiver("bare", folder) as (bare, _),
    ):
        taken: dict[str, list[float]] = {"ours": [], "bare": []}
        for number in range(rounds + 1):
            for name, clients in (("bare", bare), ("ours", ours)):
                requests = list(_requests(ROUND))
                start = time.perf_counter()
                _post(clients, iter(requests), ROUND)
                if number:  # the first round only warms up
                    taken[name].append((time.perf_counter() - start) / ROUND)
                if name == "ours":
                    _wait_until_idle(process)
        before = _memory_of(process)
        _post(ours, _requests(many), many)
        grown = (_memory_of(process) - before) / 1024
    ratios = [a / b for a, b in zip(taken["ours"], taken["bare"], strict=True)]
    each = statistics.median(taken["ours"])
    rates = f"{1 / each:.0f}/s", f"{1 / statistics.median(taken['bare']):.0f}/s"
    what = "events on disk and acknowledged, 32 connections, with a handler"
    return [
        Row(what, "a bare ASGI handler, a commit a group", statistics.median(ratios), None,
            *rates, spread=(min(ratios), max(ratios)), why=WHY),
        Row("1,000 of these (4,000/s)", "", each * 1e6, 250.0, ours=rates[0], unit=" ms",
            spread=(min(taken["ours"]) * 1e6, max(taken["ours"]) * 1e6), why=WHY),
        Row(f"memory after {many:,} more", "", grown, 16.0, ours=f"{before / 1024:.0f} MiB",
            unit=" MiB"),
    ]  # fmt: skip


@contextmanager
def _running_receiver(which: str, folder: Path) -> Iterator[tuple[list[socket.socket], int]]:
    """Run a receiver in a process, and provide connections to it and the process id."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.receivers", which, str(folder), str(port)]
    with running_process(command, port, folder / f"{which}.log") as (_, process):
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
        try:
            yield clients, process.pid
        finally:
            for client in clients:
                client.close()


def _requests(count: int) -> Iterator[bytes]:
    head = (
        f"POST /dockhand/notify HTTP/1.1\r\nHost: localhost\r\nContent-Type: {_TYPE}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(_BODY)}\r\n\r\n"
    ).encode()
    for number in range(count):
        name = f"team/r{number % REPOSITORIES:03}".encode()
        body = _BODY.replace(_ID.encode(), str(uuid.uuid4()).encode())
        yield head + body.replace(_NAME.encode(), name)


def _post(clients: list[socket.socket], requests: Iterator[bytes], count: int) -> None:
    """Send `count` requests, one at a time on each connection, and wait for all replies."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
            client.sendall(next(requests))
        done = 0
        while done < count:
            for key, _ in selector.select():
                client = key.fileobj  # type: ignore[assignment]
                assert isinstance(client, socket.socket)
                reply = client.recv(65536)
                if not reply.startswith(b"HTTP/1.1 202 "):
                    raise RuntimeError(f"the receiver refused: {reply[:200]!r}")
                done += 1
                following = next(requests, None)
                if following is not None:
                    client.sendall(following)


def _memory_of(process: int) -> int:
    """Return the resident memory of a process, in KiB."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


def _wait_until_idle(process: int) -> None:
    """Wait until a process uses almost no CPU, since its handler has got every event."""
    until = time.monotonic() + 60
    ticks = -1
    while (now := _cpu_ticks(process)) - ticks > 2 and time.monotonic() < until:
        ticks = now
        time.sleep(0.2)


def _cpu_ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])
