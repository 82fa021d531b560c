"""Downloads that break and are resumed, begun again or given up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from dockhand_testing.http_server import (
    CUT,
    ReceivedRequest,
    ScriptedServer,
    Step,
    WaitUntil,
    reply,
)

from dockhand_core import (
    ConnectionFailed,
    Digest,
    DigestMismatch,
    DockhandError,
    RegistryClient,
    ResponseInvalid,
    async_connect,
)
from dockhand_core.flow import RetryPolicy

MakeClient = Callable[..., RegistryClient]
DATA = random.Random(7).randbytes(300_000)
DIGEST = Digest.of(DATA)


def partial_file(folder: Path) -> Path:
    """The path of the partial file of an unfinished download."""
    return folder / f"blob.{DIGEST.encoded[:16]}.part"


def ranged(request: ReceivedRequest, data: bytes = DATA) -> tuple[int, bytes]:
    """Return the offset that a request asks for, and the head of the reply with these bytes."""
    start = int(request.headers.get("range", "bytes=0-")[6:-1])
    span = f"bytes {start}-{len(data) - 1}/{len(data)}"
    if start:
        return start, reply(206, length=len(data) - start, Content_Range=span)
    return start, reply(200, length=len(data))


class CutDownloads:
    """A handler that sends the blob DATA, and cuts the first replies after some bytes.

    Args:
        cuts: for each reply that is cut, the number of bytes that are sent of it.
        has_read: returns whether the client has read bytes of a reply; the cut waits for this,
            since aiohttp drops bytes that were not read before the connection broke.
    """

    def __init__(self, *cuts: int, has_read: Callable[[], bool] = lambda: True) -> None:
        self.cuts, self.has_read = list(cuts), has_read

    def __call__(self, request: ReceivedRequest) -> list[Step]:
        start, head = ranged(request)
        if self.cuts:
            sent = DATA[start : start + self.cuts.pop(0)]
            # Async clients collect bytes in batches that are larger than this blob, so their
            # `has_read` stays false; the connection is cut after a second then.
            return [head, sent, WaitUntil(self.has_read, 1.0), CUT]
        return [head, DATA[start:]]


def assert_resumed(server: ScriptedServer, at: list[int]) -> None:
    """Assert that each request but the first asks for the rest of the blob.

    Args:
        server: the server that received the requests.
        at: for each later request, the offset of the cut before it. The request may start at an
            earlier offset, since aiohttp drops bytes that were not read yet.
    """
    first, *later = [one.headers.get("range") for one in server.requests]
    assert first is None
    starts = [int((found or "bytes=0-")[6:-1]) for found in later]
    assert len(starts) == len(at)
    assert starts == sorted(starts)
    assert all(start <= cut for start, cut in zip(starts, at, strict=True))
    assert starts[-1] > 0


def test_download_is_resumed(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    reported: list[int] = []
    server.handler = CutDownloads(100_000, 50_000, 0, has_read=lambda: bool(reported))
    registry = make_client(server.url)
    registry.download_blob(
        "a/b", DIGEST, tmp_path / "blob", progress=lambda d, _: reported.append(d)
    )
    assert (tmp_path / "blob").read_bytes() == DATA
    assert_resumed(server, [100_000, 150_000, 150_000])
    assert reported == sorted(reported)
    assert reported[-1] == len(DATA)
    assert not partial_file(tmp_path).exists()


def test_reader_is_resumed(make_client: MakeClient, server: ScriptedServer) -> None:
    first = b""
    server.handler = CutDownloads(100_000, 50_000, has_read=lambda: bool(first))
    with make_client(server.url).open_blob("a/b", DIGEST) as blob:
        first = blob.read(1000)
        assert first + b"".join(blob) == DATA
    assert_resumed(server, [100_000, 150_000])


def test_reader_waits_before_it_resumes(make_client: MakeClient, server: ScriptedServer) -> None:
    first = b""
    server.handler = CutDownloads(100_000, has_read=lambda: bool(first))
    client = make_client(server.url)
    getattr(client, "_inner", client)._runner.endpoint.retry = RetryPolicy(retries=3, base=0.4)
    with client.open_blob("a/b", DIGEST) as blob:
        first = blob.read(1000)
        start = time.monotonic()
        assert first + b"".join(blob) == DATA
    assert time.monotonic() - start >= 0.2  # at least half of the first back-off
    assert_resumed(server, [100_000])


def test_a_reader_that_failed_does_not_end(make_client: MakeClient, server: ScriptedServer) -> None:
    """A later `read` is an error: it must not look like the end of the blob."""
    first = b""
    server.handler = CutDownloads(100_000, *[0] * 20, has_read=lambda: bool(first))
    with make_client(server.url, retries=0).open_blob("a/b", DIGEST) as blob:
        first = blob.read(1000)
        with pytest.raises(ConnectionFailed):
            blob.read()
        for _ in range(2):
            with pytest.raises(DockhandError, match="failed at byte 100000, before the end"):
                blob.read()


def test_a_cancelled_wait_does_not_end_a_reader(server: ScriptedServer) -> None:
    first = b""
    server.handler = CutDownloads(100_000, has_read=lambda: bool(first))

    async def main() -> None:
        nonlocal first
        async with async_connect(server.url, logging={"driver": "null"}) as client:
            client._runner.endpoint.retry = RetryPolicy(retries=3, base=30.0)
            async with client.open_blob("a/b", DIGEST) as blob:
                first = await blob.read(1000)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(blob.read(), 2.0)
                with pytest.raises(DockhandError, match="before the end of the blob"):
                    await blob.read()

    asyncio.run(main())


def test_leaving_a_loop_does_not_end_a_reader(
    make_client: MakeClient, server: ScriptedServer
) -> None:
    server.handler = CutDownloads()
    with make_client(server.url).open_blob("a/b", DIGEST) as blob:
        start = b""
        for block in blob:
            start = block
            break
        assert start + blob.read() == DATA


def test_reader_gives_up(make_client: MakeClient, server: ScriptedServer) -> None:
    """The number of failures in a row, without new bytes, is limited by the setting `retries`."""
    first = b""
    server.handler = CutDownloads(100_000, *[0] * 20, has_read=lambda: bool(first))
    with make_client(server.url, retries=2).open_blob("a/b", DIGEST) as blob:
        first = blob.read(1000)
        with pytest.raises(ConnectionFailed, match=r"/v2/a/b/blobs/sha256:"):
            blob.read()
    assert len(server.requests) == 3


def test_download_gives_up(make_client: MakeClient, server: ScriptedServer, tmp_path: Path) -> None:
    """The bytes that arrived are kept for the next download."""
    reported: list[int] = []
    server.handler = CutDownloads(100_000, *[0] * 20, has_read=lambda: bool(reported))
    registry = make_client(server.url, retries=2)
    with pytest.raises(ConnectionFailed, match=r"/v2/a/b/blobs/sha256:"):
        registry.download_blob(
            "a/b", DIGEST, tmp_path / "blob", progress=lambda done, _: reported.append(done)
        )
    assert not (tmp_path / "blob").exists()
    left = partial_file(tmp_path).read_bytes()
    assert 0 < len(left) <= 100_000
    assert DATA.startswith(left)
    server.handler = CutDownloads()
    registry.download_blob("a/b", DIGEST, tmp_path / "blob")
    assert server.requests[-1].headers["range"] == f"bytes={len(left)}-"
    assert (tmp_path / "blob").read_bytes() == DATA


def test_a_server_that_ignores_ranges(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    """The server replies with the whole blob instead of the missing rest."""
    partial_file(tmp_path).write_bytes(DATA[:1000])
    server.handler = lambda request: reply(200, DATA)
    make_client(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA


@pytest.mark.parametrize("left", [DATA + b"more", DATA[:500] + b"wrong"])
def test_a_partial_file_of_another_blob(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, left: bytes
) -> None:
    """A partial file that is too long, or whose bytes are wrong, is replaced silently."""
    partial_file(tmp_path).write_bytes(left)

    def handler(request: ReceivedRequest) -> list[Step]:
        start, head = ranged(request)
        return [reply(416)] if start >= len(DATA) else [head, DATA[start:]]

    server.handler = handler
    make_client(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA
    assert [one.headers.get("range") for one in server.requests] == [f"bytes={len(left)}-", None]


def test_a_partial_file_that_is_complete(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    partial_file(tmp_path).write_bytes(DATA)
    make_client(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA
    assert server.requests == []


def test_a_blob_with_a_wrong_digest(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    server.handler = lambda request: reply(200, bytes([DATA[0] ^ 1]) + DATA[1:])
    registry = make_client(server.url)
    with pytest.raises(DigestMismatch) as caught:
        registry.download_blob("a/b", DIGEST, tmp_path / "blob")
    assert caught.value.expected == DIGEST
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DigestMismatch):
        registry.read_blob("a/b", DIGEST)
    with registry.open_blob("a/b", DIGEST) as blob, pytest.raises(DigestMismatch):
        blob.read()


def test_a_wrong_digest_in_headers(make_client: MakeClient, server: ScriptedServer) -> None:
    """The digest in the reply is not the digest in the request."""
    other = Digest.of(b"x")
    server.handler = lambda request: reply(
        200, length=3, Docker_Content_Digest=other, Content_Type="a/b"
    )
    registry = make_client(server.url)
    assert registry.manifest_head("a/b", "v1").digest == other
    with pytest.raises(DigestMismatch):
        registry.manifest_head("a/b", DIGEST)


@pytest.mark.parametrize("length", [len(DATA) + 10, len(DATA) - 10])
def test_a_wrong_content_length(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, length: int
) -> None:
    server.handler = lambda request: [reply(200, length=length) + DATA, CUT]
    registry = make_client(server.url, retries=1)
    with pytest.raises((ConnectionFailed, DigestMismatch)):
        registry.read_blob("a/b", DIGEST)
    # A download may succeed if the whole blob arrived and only the Content-Length was too large.
    with suppress(ConnectionFailed, DigestMismatch, ResponseInvalid):
        registry.download_blob("a/b", DIGEST, tmp_path / "blob")
        assert length > len(DATA)
        assert (tmp_path / "blob").read_bytes() == DATA
    assert (tmp_path / "blob").exists() <= (length > len(DATA))
