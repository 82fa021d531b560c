"""Blobs from registries that ignore or refuse ranges, leave out headers, or send too many bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from dockhand_testing.http_server import CUT, ReceivedRequest, ScriptedServer, Step, reply

from dockhand_core import (
    Descriptor,
    Digest,
    DigestMismatch,
    RangeInvalid,
    RegistryClient,
    ResponseInvalid,
    ResponseTooLarge,
)

MakeClient = Callable[..., RegistryClient]
DATA = random.Random(11).randbytes(200_000)
DIGEST = Digest.of(DATA)
REFUSED = b'{"errors":[{"code":"BLOB_UNKNOWN"}]}'


def part(start: int, end: int, total: int | str = len(DATA)) -> bytes:
    """A reply with a part of the blob, up to but without the byte `end`."""
    return reply(206, DATA[start:end], Content_Range=f"bytes {start}-{end - 1}/{total}")


def asked(request: ReceivedRequest) -> int:
    """The offset that a request asks for; 0 if it has no range."""
    return int(request.headers.get("range", "bytes=0-")[6:-1])


def descriptor(size: int) -> Descriptor:
    return Descriptor(media_type="application/octet-stream", digest=DIGEST, size=size)


RANGES: dict[str, Callable[[ReceivedRequest], bytes]] = {
    "ignored": lambda request: reply(200, DATA),
    "refused with a foreign code": lambda request: (
        reply(416, REFUSED) if asked(request) else reply(200, DATA)
    ),
    "refused without the announced body": lambda request: (
        reply(416, b"cut", length=200_000, Connection="close")
        if asked(request)
        else reply(200, DATA)
    ),
    "an earlier start": lambda request: part(max(0, asked(request) - 10), len(DATA)),
    "a later start": lambda request: (
        part(asked(request) + 10, len(DATA)) if asked(request) else reply(200, DATA)
    ),
    "no Content-Range": lambda request: (
        reply(206, DATA[asked(request) :]) if asked(request) else reply(200, DATA)
    ),
    "in parts": lambda request: part(asked(request), min(len(DATA), asked(request) + 70_000)),
    "no total": lambda request: part(asked(request), len(DATA), "*"),
}


def cut_short(
    handler: Callable[[ReceivedRequest], bytes],
) -> Callable[[ReceivedRequest], list[Step]]:
    """Close the connection after a reply that announces more bytes than it has."""

    def replies(request: ReceivedRequest) -> list[Step]:
        made = handler(request)
        return [made, CUT] if b"Connection: close" in made else [made]

    return replies


@pytest.mark.parametrize("kind", RANGES)
def test_blob_at_an_offset(make_client: MakeClient, server: ScriptedServer, kind: str) -> None:
    server.handler = cut_short(RANGES[kind])
    registry = make_client(server.url)
    with registry.open_blob("a/b", DIGEST, offset=1000, verify=False) as blob:
        assert blob.read() == DATA[1000:]


@pytest.mark.parametrize("kind", RANGES)
def test_download_that_resumes(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, kind: str
) -> None:
    (tmp_path / f"blob.{DIGEST.encoded[:16]}.part").write_bytes(DATA[:1000])
    server.handler = cut_short(RANGES[kind])
    make_client(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA
    assert [one.name for one in tmp_path.iterdir()] == ["blob"]


@pytest.mark.parametrize("kind", ["ignored", "refused with a foreign code"])
def test_offset_behind_the_end(make_client: MakeClient, server: ScriptedServer, kind: str) -> None:
    server.handler = cut_short(RANGES[kind])
    registry = make_client(server.url)
    with (
        pytest.raises(RangeInvalid, match="200000 bytes"),
        registry.open_blob("a/b", DIGEST, offset=len(DATA) + 1, verify=False),
    ):
        pass


def test_a_head_without_a_length(make_client: MakeClient, server: ScriptedServer) -> None:
    """The blob exists, and an upload of it is skipped; only its size is asked for by a GET."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

    def handler(request: ReceivedRequest) -> list[Step] | bytes:
        return [head, CUT] if request.method == "HEAD" else reply(200, DATA)

    server.handler = handler
    registry = make_client(server.url)
    assert registry.blob_exists("a/b", DIGEST)
    assert registry.upload_blob("a/b", DATA).uploaded is False
    assert {one.method for one in server.requests} == {"HEAD"}
    assert registry.blob_size("a/b", DIGEST) == len(DATA)
    assert registry.blob_size("a/b", Digest.of(b"")) == 0


def test_a_blob_without_a_size(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = lambda request: [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", CUT]
    with pytest.raises(ResponseInvalid, match=r"/v2/a/b/blobs/.*Content-Length"):
        make_client(server.url).blob_size("a/b", DIGEST)


@pytest.mark.parametrize("coding", ["", "identity", "IDENTITY", "aws-chunked", "gzip"])
def test_the_coding_of_a_blob(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, coding: str
) -> None:
    """The digest judges a blob, whatever coding its storage reports."""
    server.handler = lambda request: reply(200, DATA, Content_Encoding=coding)
    registry = make_client(server.url)
    assert registry.read_blob("a/b", DIGEST) == DATA
    assert registry.download_blob("a/b", DIGEST, tmp_path / "blob").read_bytes() == DATA


def endless(request: ReceivedRequest) -> list[Step]:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *[b"10000\r\n" + bytes(1 << 16) + b"\r\n"] * 200, CUT]


def announced(request: ReceivedRequest) -> list[Step]:
    return [reply(200, length=1 << 40), bytes(1 << 16), CUT]


@pytest.mark.parametrize("handler", [endless, announced])
@pytest.mark.parametrize("known", ["descriptor", "max_size"])
def test_too_many_bytes(
    make_client: MakeClient,
    server: ScriptedServer,
    tmp_path: Path,
    handler: Callable[[ReceivedRequest], list[Step]],
    known: str,
) -> None:
    server.handler = handler
    registry = make_client(server.url, retries=0)
    blob = descriptor(100_000) if known == "descriptor" else DIGEST
    limit = 100_000 if known == "max_size" else None
    with pytest.raises(ResponseTooLarge, match=rf"100000 bytes, the .*{known}"):
        registry.download_blob("a/b", blob, tmp_path / "blob", max_size=limit)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ResponseTooLarge, match="100000 bytes"):
        registry.read_blob("a/b", blob, max_size=100_000)
    with (
        pytest.raises(ResponseTooLarge, match=rf"100000 bytes, the .*{known}"),
        registry.open_blob("a/b", blob, max_size=limit) as reader,
    ):
        reader.read()


def test_an_endless_blob_without_a_limit(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockhand_distribution.blob_body.UNANNOUNCED_LIMIT", 1 << 20)
    server.handler = endless
    with pytest.raises(ResponseTooLarge, match="pass max_size"):
        make_client(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert list(tmp_path.iterdir()) == []


def test_a_descriptor_with_another_size(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    server.handler = lambda request: (
        reply(200, length=len(DATA)) if request.method == "HEAD" else reply(200, DATA)
    )
    registry = make_client(server.url)
    small, large = descriptor(len(DATA) - 1), descriptor(len(DATA) + 1)
    with pytest.raises(ResponseTooLarge):
        registry.download_blob("a/b", small, tmp_path / "blob")
    with pytest.raises(DigestMismatch, match="200001"):
        registry.download_blob("a/b", large, tmp_path / "blob")
    with pytest.raises(ResponseTooLarge, match="max_size"):
        registry.read_blob("a/b", large, max_size=1000)
    assert list(tmp_path.iterdir()) == []
    exact = descriptor(len(DATA))
    assert registry.read_blob("a/b", exact) == DATA
    assert registry.blob_exists("a/b", exact)
    with registry.open_blob("a/b", exact) as blob:
        assert blob.read() == DATA
