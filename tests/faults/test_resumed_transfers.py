"""Downloads and uploads that break."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from scripted_server import CUT, ReceivedRequest, ScriptedServer, Step, Wait, reply

from dockhand_core import (
    ConnectionFailed,
    Digest,
    DigestMismatch,
    RegistryClient,
    ResponseInvalid,
    ServerError,
    Upload,
)

MakeClient = Callable[..., RegistryClient]
DATA = random.Random(7).randbytes(300_000)
DIGEST = Digest.of(DATA)
START = "/v2/a/b/blobs/uploads/"


def part_of(folder: Path) -> Path:
    return folder / f"blob.{DIGEST.encoded[:16]}.part"


def ranged(request: ReceivedRequest, data: bytes = DATA) -> tuple[int, bytes]:
    """Where an answer starts, and its head."""
    start = int(request.headers.get("range", "bytes=0-")[6:-1])
    span = f"bytes {start}-{len(data) - 1}/{len(data)}"
    if start:
        return start, reply(206, length=len(data) - start, Content_Range=span)
    return start, reply(200, length=len(data))


class Cuts:
    """Sends a blob, and cuts each of the first answers after some bytes."""

    def __init__(self, *cuts: int) -> None:
        self.cuts = list(cuts)

    def __call__(self, request: ReceivedRequest) -> list[Step]:
        start, head = ranged(request)
        if self.cuts:
            # a pause, so that what was sent is read before the connection breaks
            return [head, DATA[start : start + self.cuts.pop(0)], Wait(0.05), CUT]
        return [head, DATA[start:]]


def assert_carried_on(server: ScriptedServer, at: list[int]) -> None:
    """Each request but the first asks for what is missing; aiohttp forgets what it has not read."""
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
    server.handler = Cuts(100_000, 50_000, 0)
    told: list[int] = []
    registry = make_client(server.url)
    registry.download_blob("a/b", DIGEST, tmp_path / "blob", progress=lambda d, _: told.append(d))
    assert (tmp_path / "blob").read_bytes() == DATA
    assert_carried_on(server, [100_000, 150_000, 150_000])
    assert told == sorted(told)
    assert told[-1] == len(DATA)
    assert not part_of(tmp_path).exists()


def test_reader_is_resumed(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = Cuts(100_000, 50_000)
    with make_client(server.url).open_blob("a/b", DIGEST) as blob:
        assert b"".join(blob) == DATA
    assert_carried_on(server, [100_000, 150_000])


def test_download_gives_up(make_client: MakeClient, server: ScriptedServer, tmp_path: Path) -> None:
    """What was received stays, for the next try."""
    server.handler = Cuts(100_000, *[0] * 20)
    registry = make_client(server.url, retries=2)
    with pytest.raises(ConnectionFailed, match=r"/v2/a/b/blobs/sha256:"):
        registry.download_blob("a/b", DIGEST, tmp_path / "blob")
    assert not (tmp_path / "blob").exists()
    left = part_of(tmp_path).read_bytes()
    assert 0 < len(left) <= 100_000
    assert DATA.startswith(left)
    server.handler = Cuts()
    registry.download_blob("a/b", DIGEST, tmp_path / "blob")
    assert server.requests[-1].headers["range"] == f"bytes={len(left)}-"
    assert (tmp_path / "blob").read_bytes() == DATA


def test_ranges_ignored(make_client: MakeClient, server: ScriptedServer, tmp_path: Path) -> None:
    """A server that sends the whole blob instead of a part."""
    part_of(tmp_path).write_bytes(DATA[:1000])
    server.handler = lambda request: reply(200, DATA)
    make_client(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA


@pytest.mark.parametrize("left", [DATA + b"more", DATA[:500] + b"wrong"])
def test_wrong_partial(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, left: bytes
) -> None:
    """What an earlier try left is not the blob: too long is begun again, wrong is refused once."""
    part_of(tmp_path).write_bytes(left)

    def handler(request: ReceivedRequest) -> list[Step]:
        start, head = ranged(request)
        return [reply(416)] if start >= len(DATA) else [head, DATA[start:]]

    server.handler = handler
    registry = make_client(server.url)
    if len(left) < len(DATA):
        with pytest.raises(DigestMismatch):
            registry.download_blob("a/b", DIGEST, tmp_path / "blob")
        assert list(tmp_path.iterdir()) == []
    registry.download_blob("a/b", DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA


def test_complete_partial(make_client: MakeClient, server: ScriptedServer, tmp_path: Path) -> None:
    part_of(tmp_path).write_bytes(DATA)
    make_client(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA
    assert server.requests == []


def test_wrong_digest(make_client: MakeClient, server: ScriptedServer, tmp_path: Path) -> None:
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


def test_wrong_digest_in_headers(make_client: MakeClient, server: ScriptedServer) -> None:
    """A registry that has another manifest in mind than was asked for."""
    said = Digest.of(b"x")
    server.handler = lambda request: reply(
        200, length=3, Docker_Content_Digest=said, Content_Type="a/b"
    )
    registry = make_client(server.url)
    assert registry.manifest_head("a/b", "v1").digest == Digest.of(b"x")
    with pytest.raises(DigestMismatch):
        registry.manifest_head("a/b", DIGEST)


@pytest.mark.parametrize("length", [len(DATA) + 10, len(DATA) - 10])
def test_lying_length(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, length: int
) -> None:
    server.handler = lambda request: [reply(200, length=length) + DATA, CUT]
    registry = make_client(server.url, retries=1)
    with pytest.raises((ConnectionFailed, DigestMismatch)):
        registry.read_blob("a/b", DIGEST)
    # A file appears if all of the blob came, whatever its length was said to be.
    with suppress(ConnectionFailed, DigestMismatch, ResponseInvalid):
        registry.download_blob("a/b", DIGEST, tmp_path / "blob")
        assert length > len(DATA)
        assert (tmp_path / "blob").read_bytes() == DATA
    assert (tmp_path / "blob").exists() <= (length > len(DATA))


class Uploads:
    """A registry that takes uploads, and breaks where it is told."""

    def __init__(self, *, keeps: bool, cut_after: int | None = None, lose: int = 0) -> None:
        self.keeps, self.cut_after, self.lose = keeps, cut_after, lose
        self.data = b""
        self.blob: bytes | None = None
        self.begun = 0

    def __call__(self, request: ReceivedRequest) -> list[Step] | bytes:
        place = f"{START}{self.begun}?_state=secret{len(self.data)}"
        if request.method == "HEAD":
            return reply(404) if self.blob is None else reply(200, length=len(self.blob))
        if request.method == "POST":
            self.begun += 1
            self.data = b""
            return reply(202, Location=f"{START}{self.begun}?_state=new")
        if request.method == "DELETE":
            return reply(204)
        if request.path != f"{START}{self.begun}":
            return reply(404)
        if request.method == "GET":
            if not self.keeps:
                return reply(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
            return reply(204, Location=place, Range=f"0-{max(0, len(self.data) - 1)}")
        if self.cut_after is not None and request.body:
            self.data += request.body[: self.cut_after]
            self.cut_after = None
            return [CUT]
        self.data += request.body
        if request.method == "PATCH":
            steps: list[Step] = [reply(202, Location=f"{START}{self.begun}?_state=x")]
        else:
            if request.query["digest"] != Digest.of(self.data):
                return reply(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
            self.blob = self.data
            steps = [reply(201, Location=f"/v2/a/b/blobs/{DIGEST}")]
        if self.lose:
            self.lose -= 1
            return [CUT]
        return steps


def test_upload_is_resumed(make_client: MakeClient, server: ScriptedServer, tmp_path: Path) -> None:
    """As on Distribution 3.1, which keeps every byte that it received."""
    server.handler = uploads = Uploads(keeps=True, cut_after=120_000)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    told: list[int] = []
    registry = make_client(server.url)
    result = registry.upload_blob("a/b", path, progress=lambda done, _: told.append(done))
    assert result.digest == DIGEST
    assert uploads.blob == DATA
    assert uploads.begun == 1
    [patch] = server.with_method("PATCH")
    assert patch.headers["content-range"] == f"120000-{len(DATA) - 1}"
    assert patch.body == DATA[120_000:]
    assert told[-1] == len(DATA)


def test_upload_is_begun_again(make_client: MakeClient, server: ScriptedServer) -> None:
    """As on Distribution 2.8, which forgets the upload."""
    server.handler = uploads = Uploads(keeps=False, cut_after=120_000)
    assert make_client(server.url).upload_blob("a/b", DATA).digest == DIGEST
    assert uploads.blob == DATA
    assert uploads.begun == 2
    assert [one.body for one in server.with_method("PUT")] == [DATA, DATA]


def test_lost_reply(make_client: MakeClient, server: ScriptedServer) -> None:
    """The blob is there; it is not sent twice."""
    server.handler = uploads = Uploads(keeps=False, lose=1)
    assert make_client(server.url).upload_blob("a/b", DATA).digest == DIGEST
    assert uploads.begun == 1
    assert len(server.with_method("PUT")) == 1


def test_lost_reply_to_chunk(make_client: MakeClient, server: ScriptedServer) -> None:
    """The registry has the chunk, or a part of it, or nothing: the status says which."""
    for uploads in (
        Uploads(keeps=True, lose=1),
        Uploads(keeps=True, cut_after=0),
        Uploads(keeps=True, cut_after=1000),
    ):
        server.handler = uploads
        registry = make_client(server.url)
        upload = registry.upload_chunk(registry.start_upload("a/b"), DATA)
        assert upload.offset == len(DATA)
        assert uploads.data == DATA
        registry.finish_upload(upload, DIGEST)
        assert uploads.blob == DATA


def test_corrupt_resume_is_begun_again(make_client: MakeClient, server: ScriptedServer) -> None:
    """A writer that was taken for dead wrote into the upload: the digest tells, once more."""
    uploads = Uploads(keeps=True, cut_after=100_000)

    def handler(request: ReceivedRequest) -> list[Step] | bytes:
        steps = uploads(request)
        if request.method == "GET" and uploads.begun == 1:
            uploads.data = b"Z" + uploads.data[1:]
        return steps

    server.handler = handler
    assert make_client(server.url).upload_blob("a/b", DATA).digest == DIGEST
    assert uploads.begun == 2
    assert uploads.blob == DATA


def test_upload_gives_up(make_client: MakeClient, server: ScriptedServer) -> None:
    """Every try breaks; what was begun is cancelled."""

    def handler(request: ReceivedRequest) -> list[Step] | bytes:
        if request.method == "PUT":
            return [CUT]
        return (
            Uploads(keeps=False)(request)
            if request.method != "POST"
            else reply(202, Location=f"{START}1?_state=x")
        )

    server.handler = handler
    with pytest.raises(ConnectionFailed):
        make_client(server.url, retries=2).upload_blob("a/b", DATA)
    assert len(server.with_method("PUT")) == 3
    assert server.with_method("DELETE")


def test_failing_source_cancels(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = uploads = Uploads(keeps=True)

    def blocks() -> Iterator[bytes]:
        yield bytes(9 << 20)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        make_client(server.url).upload_blob("a/b", blocks())
    assert uploads.blob is None
    assert len(server.with_method("DELETE")) == 1


def test_failing_progress_cancels(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = uploads = Uploads(keeps=True)

    def progress(done: int, total: int | None) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        make_client(server.url).upload_blob("a/b", DATA * 10, progress=progress)
    assert uploads.blob is None
    assert len(server.with_method("DELETE")) == 1


def test_shrinking_file(make_client: MakeClient, server: ScriptedServer, tmp_path: Path) -> None:
    """A file that changes after it was hashed is not pushed as something else."""
    uploads = Uploads(keeps=True)
    path = tmp_path / "file"
    path.write_bytes(DATA)

    def handler(request: ReceivedRequest) -> list[Step] | bytes:
        if request.method == "POST":
            os.truncate(path, 1000)
        return uploads(request)

    server.handler = handler
    with pytest.raises(OSError, match="became shorter"):
        make_client(server.url).upload_blob("a/b", path)
    assert uploads.blob is None


def test_min_chunk(make_client: MakeClient, server: ScriptedServer) -> None:
    """OCI-Chunk-Min-Length is kept by all chunks but the last."""
    uploads = Uploads(keeps=True)
    minimum = 9 << 20

    def handler(request: ReceivedRequest) -> list[Step] | bytes:
        if request.method == "POST":
            uploads.begun += 1
            return reply(202, Location=f"{START}1", OCI_Chunk_Min_Length=str(minimum))
        return uploads(request) if request.method != "PUT" else reply(201, Location="/x")

    server.handler = handler
    make_client(server.url).upload_blob("a/b", iter([bytes(1 << 20)] * 20))
    assert [len(one.body) for one in server.with_method("PATCH")] == [minimum, minimum, 2 << 20]


def test_chunk_not_repeated_blindly(make_client: MakeClient, server: ScriptedServer) -> None:
    """After a 503 nobody knows what arrived: the status is asked first."""
    uploads = Uploads(keeps=True)
    failures = iter([reply(503)])

    def handler(request: ReceivedRequest) -> list[Step] | bytes:
        return (
            next(failures, None) or uploads(request)
            if request.method == "PATCH"
            else uploads(request)
        )

    server.handler = handler
    registry = make_client(server.url)
    upload = registry.upload_chunk(registry.start_upload("a/b"), DATA)
    assert [one.method for one in server.requests] == ["POST", "PATCH", "GET", "PATCH"]
    assert isinstance(upload, Upload)
    server.handler = lambda request: reply(503) if request.method == "PATCH" else uploads(request)
    with pytest.raises(ServerError):
        registry.upload_chunk(upload, DATA)
