"""Uploads that break and are resumed, begun again or given up."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dockhand_testing.http_server import CUT, ReceivedRequest, ScriptedServer, Step, reply

from dockhand_core import (
    ConnectionFailed,
    Digest,
    RegistryClient,
    ServerError,
    Upload,
)

MakeClient = Callable[..., RegistryClient]
DATA = random.Random(7).randbytes(300_000)
DIGEST = Digest.of(DATA)
START = "/v2/a/b/blobs/uploads/"


class Uploads:
    """A registry that accepts one blob and cuts some connections.

    Args:
        keeps: whether the registry keeps the bytes of a broken upload, as Distribution 3.1 does
            and 2.8 does not.
        cut_after: the number of bytes after which the first body is cut; None for no cut.
        lose: the number of requests with a body whose reply is lost.
    """

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
    """Distribution 3.1 keeps the bytes that it received, so the client sends only the rest."""
    server.handler = uploads = Uploads(keeps=True, cut_after=120_000)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    reported: list[int] = []
    registry = make_client(server.url)
    result = registry.upload_blob("a/b", path, progress=lambda done, _: reported.append(done))
    assert result.digest == DIGEST
    assert uploads.blob == DATA
    assert uploads.begun == 1
    [patch] = server.with_method("PATCH")
    assert patch.headers["content-range"] == f"120000-{len(DATA) - 1}"
    assert patch.body == DATA[120_000:]
    assert reported[-1] == len(DATA)


def test_upload_is_begun_again(make_client: MakeClient, server: ScriptedServer) -> None:
    """Distribution 2.8 drops a broken upload, so the client sends the whole blob again."""
    server.handler = uploads = Uploads(keeps=False, cut_after=120_000)
    assert make_client(server.url).upload_blob("a/b", DATA).digest == DIGEST
    assert uploads.blob == DATA
    assert uploads.begun == 2
    assert [one.body for one in server.with_method("PUT")] == [DATA, DATA]


def test_a_lost_reply_to_an_upload(make_client: MakeClient, server: ScriptedServer) -> None:
    """The client finds the blob in the registry, and does not send it again."""
    server.handler = uploads = Uploads(keeps=False, lose=1)
    assert make_client(server.url).upload_blob("a/b", DATA).digest == DIGEST
    assert uploads.begun == 1
    assert len(server.with_method("PUT")) == 1


def test_a_lost_reply_to_a_chunk(make_client: MakeClient, server: ScriptedServer) -> None:
    """The registry has the chunk, a part of it, or nothing; the upload's status shows how much."""
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


def test_a_corrupted_upload_is_begun_again(make_client: MakeClient, server: ScriptedServer) -> None:
    """Another writer has changed the resumed upload; its digest is wrong, so a new one is begun."""
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
    """If every attempt breaks, the client cancels the upload."""

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


def test_an_exception_from_the_source_cancels_the_upload(
    make_client: MakeClient, server: ScriptedServer
) -> None:
    server.handler = uploads = Uploads(keeps=True)

    def blocks() -> Iterator[bytes]:
        yield bytes(9 << 20)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        make_client(server.url).upload_blob("a/b", blocks())
    assert uploads.blob is None
    assert len(server.with_method("DELETE")) == 1


def test_an_exception_from_progress_cancels_the_upload(
    make_client: MakeClient, server: ScriptedServer
) -> None:
    server.handler = uploads = Uploads(keeps=True)

    def progress(done: int, total: int | None) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        make_client(server.url).upload_blob("a/b", DATA * 10, progress=progress)
    assert uploads.blob is None
    assert len(server.with_method("DELETE")) == 1


def test_a_file_that_shrinks_after_hashing(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
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


def test_the_minimum_size_of_chunks(make_client: MakeClient, server: ScriptedServer) -> None:
    """Each chunk but the last has at least OCI-Chunk-Min-Length bytes."""
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


def test_a_chunk_is_repeated_only_after_its_status(
    make_client: MakeClient, server: ScriptedServer
) -> None:
    """After a 503 it is unknown which bytes arrived, so the client asks for the status first."""
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
