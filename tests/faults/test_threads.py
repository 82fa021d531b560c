"""One sync client, used by many threads while connections break."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripted_server import CUT, ReceivedRequest, ScriptedServer, Step, reply

from dockhand_core import Digest, connect
from dockhand_core.flow import RetryPolicy

BLOBS = {Digest.of(data): data for data in (os.urandom(40_000) for _ in range(16))}


class UnreliableRegistry:
    """A registry of blobs that cuts one reply in five at a random byte."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.random = random.Random(1)
        self.kept: dict[str, bytes] = {}
        self.cut_replies = self.uploads = 0

    def __call__(self, request: ReceivedRequest) -> list[Step] | bytes:
        answer = self.answer(request)
        with self.lock:
            breaks = self.random.random() < 0.2
            self.cut_replies += breaks
            place = self.random.randrange(len(answer))
        return [answer[:place], CUT] if breaks else answer

    def answer(self, request: ReceivedRequest) -> bytes:
        _, _, name = request.path.rpartition("/")
        if request.method == "POST":
            with self.lock:
                self.uploads += 1
                return reply(202, Location=f"{request.path}{self.uploads}")
        if request.method == "PUT":
            digest = request.query["digest"]
            if Digest.of(request.body) != digest:
                return reply(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
            self.kept[f"{request.path.split('/blobs/')[0]}/{digest}"] = request.body
            return reply(201, Location="/x")
        if request.method == "HEAD":
            kept = self.kept.get(f"{request.path.split('/blobs/')[0]}/{name}")
            return reply(404) if kept is None else reply(200, length=len(kept))
        if request.method == "DELETE" or "/uploads/" in request.path:
            return reply(404)
        data = BLOBS[Digest(name)]
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return reply(206 if start else 200, data[start:], Content_Range=span)


def test_sixteen_threads_on_four_connections(server: ScriptedServer, tmp_path: Path) -> None:
    server.handler = upstream = UnreliableRegistry()
    with connect(
        server.url, max_connections=4, timeout=30.0, logging={"driver": "null"}
    ) as registry:
        registry._runner.endpoint.retry = registry.driver.retry = RetryPolicy(
            retries=20, base=0.001
        )
        barrier = threading.Barrier(16)

        def work(number: int) -> None:
            barrier.wait(30)
            for digest, data in random.Random(number).sample(sorted(BLOBS.items()), 5):
                path = tmp_path / f"{number}-{digest.encoded[:12]}"
                assert registry.download_blob("a/b", digest, path).read_bytes() == data
                assert registry.upload_blob(f"to/{number}", path).digest == digest
                assert upstream.kept[f"/v2/to/{number}/{digest}"] == data

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))
    assert upstream.cut_replies > 20  # of about 400
    assert not list(tmp_path.glob("*.part"))
