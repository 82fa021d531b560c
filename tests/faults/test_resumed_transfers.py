"""Downloads and uploads that break."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from scripted_server import CUT, Asked, Scripted, Step, Wait, reply

from dockhand_core import (
    ConnectionFailed,
    Digest,
    DigestMismatch,
    RegistryClient,
    ResponseInvalid,
    ServerError,
    Upload,
)

Opened = Callable[..., RegistryClient]
DATA = random.Random(7).randbytes(300_000)
DIGEST = Digest.of(DATA)
START = "/v2/a/b/blobs/uploads/"


def part_of(folder: Path) -> Path:
    return folder / f"blob.{DIGEST.encoded[:16]}.part"


def ranged(asked: Asked, data: bytes = DATA) -> tuple[int, bytes]:
    """Where an answer starts, and its head."""
    start = int(asked.headers.get("range", "bytes=0-")[6:-1])
    span = f"bytes {start}-{len(data) - 1}/{len(data)}"
    if start:
        return start, reply(206, length=len(data) - start, Content_Range=span)
    return start, reply(200, length=len(data))


class Cuts:
    """Sends a blob, and cuts each of the first answers after some bytes."""

    def __init__(self, *cuts: int) -> None:
        self.cuts = list(cuts)

    def __call__(self, asked: Asked) -> list[Step]:
        start, head = ranged(asked)
        if self.cuts:
            # a pause, so that what was sent is read before the connection breaks
            return [head, DATA[start : start + self.cuts.pop(0)], Wait(0.05), CUT]
        return [head, DATA[start:]]


def assert_carried_on(server: Scripted, at: list[int]) -> None:
    """Each request but the first asks for what is missing; aiohttp forgets what it has not read."""
    first, *later = [one.headers.get("range") for one in server.asked]
    assert first is None
    starts = [int((found or "bytes=0-")[6:-1]) for found in later]
    assert len(starts) == len(at)
    assert starts == sorted(starts)
    assert all(start <= cut for start, cut in zip(starts, at, strict=True))
    assert starts[-1] > 0


def test_download_is_resumed(opened: Opened, server: Scripted, tmp_path: Path) -> None:
    server.handler = Cuts(100_000, 50_000, 0)
    told: list[int] = []
    registry = opened(server.url)
    registry.download_blob("a/b", DIGEST, tmp_path / "blob", progress=lambda d, _: told.append(d))
    assert (tmp_path / "blob").read_bytes() == DATA
    assert_carried_on(server, [100_000, 150_000, 150_000])
    assert told == sorted(told)
    assert told[-1] == len(DATA)
    assert not part_of(tmp_path).exists()


def test_reader_is_resumed(opened: Opened, server: Scripted) -> None:
    server.handler = Cuts(100_000, 50_000)
    with opened(server.url).open_blob("a/b", DIGEST) as blob:
        assert b"".join(blob) == DATA
    assert_carried_on(server, [100_000, 150_000])


def test_download_gives_up(opened: Opened, server: Scripted, tmp_path: Path) -> None:
    """What was received stays, for the next try."""
    server.handler = Cuts(100_000, *[0] * 20)
    registry = opened(server.url, retries=2)
    with pytest.raises(ConnectionFailed, match=r"/v2/a/b/blobs/sha256:"):
        registry.download_blob("a/b", DIGEST, tmp_path / "blob")
    assert not (tmp_path / "blob").exists()
    left = part_of(tmp_path).read_bytes()
    assert 0 < len(left) <= 100_000
    assert DATA.startswith(left)
    server.handler = Cuts()
    registry.download_blob("a/b", DIGEST, tmp_path / "blob")
    assert server.asked[-1].headers["range"] == f"bytes={len(left)}-"
    assert (tmp_path / "blob").read_bytes() == DATA


def test_ranges_ignored(opened: Opened, server: Scripted, tmp_path: Path) -> None:
    """A server that sends the whole blob instead of a part."""
    part_of(tmp_path).write_bytes(DATA[:1000])
    server.handler = lambda asked: reply(200, DATA)
    opened(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA


@pytest.mark.parametrize("left", [DATA + b"more", DATA[:500] + b"wrong"])
def test_wrong_partial(opened: Opened, server: Scripted, tmp_path: Path, left: bytes) -> None:
    """What an earlier try left is not the blob: too long is begun again, wrong is refused once."""
    part_of(tmp_path).write_bytes(left)

    def handler(asked: Asked) -> list[Step]:
        start, head = ranged(asked)
        return [reply(416)] if start >= len(DATA) else [head, DATA[start:]]

    server.handler = handler
    registry = opened(server.url)
    if len(left) < len(DATA):
        with pytest.raises(DigestMismatch):
            registry.download_blob("a/b", DIGEST, tmp_path / "blob")
        assert list(tmp_path.iterdir()) == []
    registry.download_blob("a/b", DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA


def test_complete_partial(opened: Opened, server: Scripted, tmp_path: Path) -> None:
    part_of(tmp_path).write_bytes(DATA)
    opened(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA
    assert server.asked == []


def test_wrong_digest(opened: Opened, server: Scripted, tmp_path: Path) -> None:
    server.handler = lambda asked: reply(200, bytes([DATA[0] ^ 1]) + DATA[1:])
    registry = opened(server.url)
    with pytest.raises(DigestMismatch) as caught:
        registry.download_blob("a/b", DIGEST, tmp_path / "blob")
    assert caught.value.expected == DIGEST
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DigestMismatch):
        registry.read_blob("a/b", DIGEST)
    with registry.open_blob("a/b", DIGEST) as blob, pytest.raises(DigestMismatch):
        blob.read()


def test_wrong_digest_in_headers(opened: Opened, server: Scripted) -> None:
    """A registry that has another manifest in mind than was asked for."""
    said = Digest.of(b"x")
    server.handler = lambda asked: reply(
        200, length=3, Docker_Content_Digest=said, Content_Type="a/b"
    )
    registry = opened(server.url)
    assert registry.manifest_head("a/b", "v1").digest == Digest.of(b"x")
    with pytest.raises(DigestMismatch):
        registry.manifest_head("a/b", DIGEST)


@pytest.mark.parametrize("length", [len(DATA) + 10, len(DATA) - 10])
def test_lying_length(opened: Opened, server: Scripted, tmp_path: Path, length: int) -> None:
    server.handler = lambda asked: [reply(200, length=length) + DATA, CUT]
    registry = opened(server.url, retries=1)
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

    def __call__(self, asked: Asked) -> list[Step] | bytes:
        place = f"{START}{self.begun}?_state=secret{len(self.data)}"
        if asked.method == "HEAD":
            return reply(404) if self.blob is None else reply(200, length=len(self.blob))
        if asked.method == "POST":
            self.begun += 1
            self.data = b""
            return reply(202, Location=f"{START}{self.begun}?_state=new")
        if asked.method == "DELETE":
            return reply(204)
        if asked.path != f"{START}{self.begun}":
            return reply(404)
        if asked.method == "GET":
            if not self.keeps:
                return reply(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
            return reply(204, Location=place, Range=f"0-{max(0, len(self.data) - 1)}")
        if self.cut_after is not None and asked.body:
            self.data += asked.body[: self.cut_after]
            self.cut_after = None
            return [CUT]
        self.data += asked.body
        if asked.method == "PATCH":
            steps: list[Step] = [reply(202, Location=f"{START}{self.begun}?_state=x")]
        else:
            if asked.query["digest"] != Digest.of(self.data):
                return reply(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
            self.blob = self.data
            steps = [reply(201, Location=f"/v2/a/b/blobs/{DIGEST}")]
        if self.lose:
            self.lose -= 1
            return [CUT]
        return steps


def test_upload_is_resumed(opened: Opened, server: Scripted, tmp_path: Path) -> None:
    """As on Distribution 3.1, which keeps every byte that it received."""
    server.handler = uploads = Uploads(keeps=True, cut_after=120_000)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    told: list[int] = []
    registry = opened(server.url)
    result = registry.upload_blob("a/b", path, progress=lambda done, _: told.append(done))
    assert result.digest == DIGEST
    assert uploads.blob == DATA
    assert uploads.begun == 1
    [patch] = server.said("PATCH")
    assert patch.headers["content-range"] == f"120000-{len(DATA) - 1}"
    assert patch.body == DATA[120_000:]
    assert told[-1] == len(DATA)


def test_upload_is_begun_again(opened: Opened, server: Scripted) -> None:
    """As on Distribution 2.8, which forgets the upload."""
    server.handler = uploads = Uploads(keeps=False, cut_after=120_000)
    assert opened(server.url).upload_blob("a/b", DATA).digest == DIGEST
    assert uploads.blob == DATA
    assert uploads.begun == 2
    assert [one.body for one in server.said("PUT")] == [DATA, DATA]


def test_lost_reply(opened: Opened, server: Scripted) -> None:
    """The blob is there; it is not sent twice."""
    server.handler = uploads = Uploads(keeps=False, lose=1)
    assert opened(server.url).upload_blob("a/b", DATA).digest == DIGEST
    assert uploads.begun == 1
    assert len(server.said("PUT")) == 1


def test_lost_reply_to_chunk(opened: Opened, server: Scripted) -> None:
    """The registry has the chunk, or a part of it, or nothing: the status says which."""
    for uploads in (
        Uploads(keeps=True, lose=1),
        Uploads(keeps=True, cut_after=0),
        Uploads(keeps=True, cut_after=1000),
    ):
        server.handler = uploads
        registry = opened(server.url)
        upload = registry.upload_chunk(registry.start_upload("a/b"), DATA)
        assert upload.offset == len(DATA)
        assert uploads.data == DATA
        registry.finish_upload(upload, DIGEST)
        assert uploads.blob == DATA


def test_corrupt_resume_is_begun_again(opened: Opened, server: Scripted) -> None:
    """A writer that was taken for dead wrote into the upload: the digest tells, once more."""
    uploads = Uploads(keeps=True, cut_after=100_000)

    def handler(asked: Asked) -> list[Step] | bytes:
        steps = uploads(asked)
        if asked.method == "GET" and uploads.begun == 1:
            uploads.data = b"Z" + uploads.data[1:]
        return steps

    server.handler = handler
    assert opened(server.url).upload_blob("a/b", DATA).digest == DIGEST
    assert uploads.begun == 2
    assert uploads.blob == DATA


def test_upload_gives_up(opened: Opened, server: Scripted) -> None:
    """Every try breaks; what was begun is cancelled."""

    def handler(asked: Asked) -> list[Step] | bytes:
        if asked.method == "PUT":
            return [CUT]
        return (
            Uploads(keeps=False)(asked)
            if asked.method != "POST"
            else reply(202, Location=f"{START}1?_state=x")
        )

    server.handler = handler
    with pytest.raises(ConnectionFailed):
        opened(server.url, retries=2).upload_blob("a/b", DATA)
    assert len(server.said("PUT")) == 3
    assert server.said("DELETE")


def test_failing_source_cancels(opened: Opened, server: Scripted) -> None:
    server.handler = uploads = Uploads(keeps=True)

    def blocks() -> Iterator[bytes]:
        yield bytes(9 << 20)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        opened(server.url).upload_blob("a/b", blocks())
    assert uploads.blob is None
    assert len(server.said("DELETE")) == 1


def test_failing_progress_cancels(opened: Opened, server: Scripted) -> None:
    server.handler = uploads = Uploads(keeps=True)

    def progress(done: int, total: int | None) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        opened(server.url).upload_blob("a/b", DATA * 10, progress=progress)
    assert uploads.blob is None
    assert len(server.said("DELETE")) == 1


def test_shrinking_file(opened: Opened, server: Scripted, tmp_path: Path) -> None:
    """A file that changes after it was hashed is not pushed as something else."""
    uploads = Uploads(keeps=True)
    path = tmp_path / "file"
    path.write_bytes(DATA)

    def handler(asked: Asked) -> list[Step] | bytes:
        if asked.method == "POST":
            os.truncate(path, 1000)
        return uploads(asked)

    server.handler = handler
    with pytest.raises(OSError, match="became shorter"):
        opened(server.url).upload_blob("a/b", path)
    assert uploads.blob is None


def test_min_chunk(opened: Opened, server: Scripted) -> None:
    """OCI-Chunk-Min-Length is kept by all chunks but the last."""
    uploads = Uploads(keeps=True)
    minimum = 9 << 20

    def handler(asked: Asked) -> list[Step] | bytes:
        if asked.method == "POST":
            uploads.begun += 1
            return reply(202, Location=f"{START}1", OCI_Chunk_Min_Length=str(minimum))
        return uploads(asked) if asked.method != "PUT" else reply(201, Location="/x")

    server.handler = handler
    opened(server.url).upload_blob("a/b", iter([bytes(1 << 20)] * 20))
    assert [len(one.body) for one in server.said("PATCH")] == [minimum, minimum, 2 << 20]


def test_chunk_not_repeated_blindly(opened: Opened, server: Scripted) -> None:
    """After a 503 nobody knows what arrived: the status is asked first."""
    uploads = Uploads(keeps=True)
    failures = iter([reply(503)])

    def handler(asked: Asked) -> list[Step] | bytes:
        return next(failures, None) or uploads(asked) if asked.method == "PATCH" else uploads(asked)

    server.handler = handler
    registry = opened(server.url)
    upload = registry.upload_chunk(registry.start_upload("a/b"), DATA)
    assert [one.method for one in server.asked] == ["POST", "PATCH", "GET", "PATCH"]
    assert isinstance(upload, Upload)
    server.handler = lambda asked: reply(503) if asked.method == "PATCH" else uploads(asked)
    with pytest.raises(ServerError):
        registry.upload_chunk(upload, DATA)
