"""Uploads to registries that refuse large bodies, miscount, reply late, or leave out headers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from dockhand_testing.http_server import CUT, ReceivedRequest, ScriptedServer, Step, Wait, reply

from dockhand_core import (
    ConnectionFailed,
    Denied,
    Digest,
    DigestMismatch,
    PushResult,
    RangeInvalid,
    RegistryClient,
    ResponseInvalid,
    Unauthorized,
    Upload,
)

MakeClient = Callable[..., RegistryClient]
KIB = 1 << 10
DATA = random.Random(5).randbytes(600 * KIB)
DIGEST = Digest.of(DATA)
START = "/v2/a/b/blobs/uploads/"
REFUSED = b'{"errors":[{"code":"%s"}]}'


class Chunks:
    """A registry of one blob.

    Args:
        largest: the largest body that is accepted; a larger one gets `refusal`.
        refusal: the status of the refusal.
        high: how much too high the Range of the upload's status is.
        keeps: how many bytes of a chunk are kept when its connection is cut.
        cuts: the numbers of the chunks, from 1, whose connections are cut.
        has_status: whether an upload has a status.
    """

    def __init__(
        self,
        *,
        largest: int = 1 << 30,
        refusal: int = 413,
        high: int = 0,
        keeps: int = 0,
        cuts: tuple[int, ...] = (),
        has_status: bool = True,
    ) -> None:
        self.largest, self.refusal, self.high, self.keeps = largest, refusal, high, keeps
        self.cuts, self.has_status = cuts, has_status
        self.data, self.chunks = b"", 0
        self.blob: bytes | None = None

    def __call__(self, request: ReceivedRequest) -> list[Step] | bytes:
        if request.method == "HEAD":
            return reply(404) if self.blob is None else reply(200, length=len(self.blob))
        if request.method == "POST":
            self.data = b""
            return reply(202, Location=START + "1")
        if request.method == "GET":
            if not self.has_status:
                return reply(400, REFUSED % b"NAME_INVALID")
            last = max(0, len(self.data) - 1 + (self.high if self.data else 0))
            return reply(204, Range=f"0-{last}")
        if request.method == "DELETE":
            return reply(204)
        if len(request.body) > self.largest:
            return reply(self.refusal, REFUSED % b"BLOB_UPLOAD_INVALID")
        if request.method == "PATCH":
            self.chunks += 1
            if int(request.headers["content-range"].split("-")[0]) != len(self.data):
                return reply(416, REFUSED % b"BLOB_UPLOAD_UNKNOWN")
            if self.chunks in self.cuts:
                self.data += request.body[: self.keeps]
                return [CUT]
            self.data += request.body
            return reply(202)
        self.data += request.body
        if Digest.of(self.data) != request.query["digest"]:
            return reply(400, REFUSED % b"DIGEST_INVALID")
        self.blob = self.data
        return reply(201)


@pytest.mark.parametrize("refusal", [413, 416])
def test_a_chunk_that_is_too_large(
    make_client: MakeClient, server: ScriptedServer, refusal: int
) -> None:
    """A smaller chunk is sent, and remembered for the next upload of the connection."""
    server.handler = chunks = Chunks(largest=128 * KIB, refusal=refusal)
    registry = make_client(server.url)
    for _ in range(2):
        chunks.blob = None
        assert registry.upload_blob("a/b", iter([DATA])).digest == DIGEST
        assert chunks.blob == DATA
    sizes = [len(one.body) // KIB for one in server.with_method("PATCH")]
    assert sizes == [600, 512, 256, *[128] * 4, 88, *[128] * 4, 88]


def test_a_whole_blob_that_is_too_large(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    """A proxy that refuses a PUT of the whole blob gets it in chunks."""
    server.handler = chunks = Chunks(largest=256 * KIB)
    (tmp_path / "file").write_bytes(DATA)
    reported: list[int] = []
    registry = make_client(server.url, chunk_size=512 * KIB)
    registry.upload_blob("a/b", tmp_path / "file", progress=lambda done, _: reported.append(done))
    assert chunks.blob == DATA
    assert reported[-1] == len(DATA)
    chunks.blob = None
    registry.upload_blob("a/b", DATA)
    bodies = [len(one.body) // KIB for one in server.requests if one.method in ("PUT", "PATCH")]
    assert bodies == [600, 512, 256, 256, 88, 0, 256, 256, 88, 0]


def test_the_refusal_of_every_size(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = Chunks(largest=0, refusal=413)
    with pytest.raises(Exception, match="413"):
        make_client(server.url).upload_blob("a/b", DATA)
    assert len(server.requests) < 20


def test_chunk_size(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = chunks = Chunks()
    make_client(server.url, chunk_size=250 * KIB).upload_blob("a/b", iter([DATA]))
    assert chunks.blob == DATA
    assert [len(one.body) // KIB for one in server.with_method("PATCH")] == [250, 250, 100]


def test_a_wrong_offset_stays_an_error(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = Chunks()
    registry = make_client(server.url)
    upload = registry.upload_chunk(registry.start_upload("a/b"), b"12345")
    with pytest.raises(RangeInvalid):
        registry.upload_chunk(upload.model_copy(update={"offset": 3}), DATA)
    assert len(server.with_method("PATCH")) == 2


@pytest.mark.parametrize("keeps", [0, 1000, 100 * KIB])
def test_a_status_that_is_one_too_high(
    make_client: MakeClient, server: ScriptedServer, keeps: int
) -> None:
    """After a break the upload goes on at the right byte, and it is known from then on."""
    server.handler = chunks = Chunks(high=1, keeps=keeps, cuts=(2,))
    registry = make_client(server.url, chunk_size=100 * KIB)
    registry.upload_blob("a/b", iter([DATA]))
    assert chunks.blob == DATA
    upload = registry.upload_chunk(registry.start_upload("a/b"), b"12345")
    assert registry.upload_status(upload).offset == 5


def test_no_status(make_client: MakeClient, server: ScriptedServer) -> None:
    """The error that broke the upload is raised, not the one of the question after it."""
    server.handler = Chunks(has_status=False, cuts=(1,))
    registry = make_client(server.url)
    with pytest.raises(ConnectionFailed, match="PATCH"):
        registry.upload_blob("a/b", iter([DATA]))


def test_a_status_without_a_range(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = lambda request: reply(204)
    upload = Upload(repository="a/b", location=server.url + START + "1", offset=7)
    with pytest.raises(ResponseInvalid, match=r"uploads/1: .* no usable Range"):
        make_client(server.url).upload_status(upload)


def test_the_minimum_of_chunks(make_client: MakeClient, server: ScriptedServer) -> None:
    registry = make_client(server.url)
    for text in ("67108865", "99999999999", "9" * 30):
        server.handler = lambda request, text=text: reply(  # type: ignore[misc]
            202, Location=START + "1", OCI_Chunk_Min_Length=text
        )
        with pytest.raises(ResponseInvalid, match="uploads/.*OCI-Chunk-Min-Length") as caught:
            registry.start_upload("a/b")
        assert caught.value.status == 202
    server.handler = lambda request: reply(
        202, Location=START + "1", OCI_Chunk_Min_Length="67108864"
    )
    assert registry.start_upload("a/b").min_chunk == 64 << 20


def test_success_without_a_location(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = lambda request: reply(404 if request.method == "HEAD" else 201)
    registry = make_client(server.url)
    expected = f"{server.url}/v2/a/b/blobs/{DIGEST}"
    mounted = registry.mount_blob("a/b", DIGEST, "c/d")
    assert isinstance(mounted, PushResult)
    assert mounted.location == expected
    small = registry.upload_blob("a/b", b"small")  # a POST with its digest
    assert small.location == f"{server.url}/v2/a/b/blobs/{small.digest}"
    assert (
        registry.finish_upload(
            Upload(repository="a/b", location=server.url + START + "1"), DIGEST
        ).location
        == expected
    )


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_a_mount_that_is_refused(
    make_client: MakeClient, server: ScriptedServer, status: int
) -> None:
    server.handler = lambda request: (
        reply(status) if request.query else reply(202, Location=START + "1")
    )
    upload = make_client(server.url).mount_blob("a/b", DIGEST, "c/d")
    assert isinstance(upload, Upload)


@pytest.mark.parametrize(("status", "error"), [(401, Unauthorized), (403, Denied)])
def test_a_mount_without_access(
    make_client: MakeClient, server: ScriptedServer, status: int, error: type[Exception]
) -> None:
    server.handler = lambda request: reply(status)
    with pytest.raises(error):
        make_client(server.url).mount_blob("a/b", DIGEST, "c/d")
    assert {one.query.get("from") for one in server.requests} == {"c/d"}


def test_a_mount_of_another_blob(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = lambda request: reply(201, Docker_Content_Digest=Digest.of(b"x"))
    with pytest.raises(DigestMismatch):
        make_client(server.url).mount_blob("a/b", DIGEST, "c/d")


@pytest.mark.parametrize("data", [b"small", DATA])
def test_a_commit_that_takes_long(
    make_client: MakeClient, server: ScriptedServer, data: bytes
) -> None:
    """The final reply comes after more than `timeout`, but within `commit_timeout`."""

    def handler(request: ReceivedRequest) -> list[Step] | bytes:
        if request.method == "HEAD":
            return reply(404)
        if request.query:
            return [Wait(1.2), reply(201)]
        return reply(202, Location=START + "1")

    server.handler = handler
    registry = make_client(server.url, timeout=0.5, retries=0)
    assert registry.upload_blob("a/b", data).digest == Digest.of(data)
    with pytest.raises(ConnectionFailed):
        make_client(server.url, timeout=0.5, commit_timeout=0.5, retries=0).upload_blob("a/b", data)


@pytest.mark.parametrize("data", [b"small", DATA, iter([DATA])])
def test_a_lost_reply_is_looked_up(
    make_client: MakeClient, server: ScriptedServer, data: bytes
) -> None:
    """A blob that was sent whole is looked up before it is sent again."""
    stored: list[bool] = []

    def handler(request: ReceivedRequest) -> list[Step] | bytes:
        if request.method == "HEAD":
            return reply(200 if stored else 404)
        if request.query:
            stored.append(True)
            return [CUT]
        return reply(202, Location=START + "1")

    server.handler = handler
    data = data if isinstance(data, bytes) else iter([DATA])
    assert make_client(server.url).upload_blob("a/b", data).uploaded
    assert len(stored) == 1
