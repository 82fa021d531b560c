"""Blobs of registries and storages that refuse HEAD or ranges, or change their bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from dockhand_testing.http_server import CUT, ReceivedRequest, ScriptedServer, Step, reply

from dockhand_core import Denied, Digest, RegistryClient

MakeClient = Callable[..., RegistryClient]
DATA = random.Random(8).randbytes(100_000)
DIGEST = Digest.of(DATA)


@pytest.mark.parametrize("status", [400, 401, 403, 405, 501])
def test_a_storage_that_accepts_get_only(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer, status: int
) -> None:
    """A blob exists if the storage, to which the registry redirects, refuses a HEAD."""
    other.handler = lambda request: reply(200, DATA) if request.method == "GET" else reply(status)
    server.handler = lambda request: reply(307, Location=f"{other.url}/x?signature=abc")
    client = make_client(server.url)
    assert client.blob_exists("a/b", DIGEST)
    assert client.blob_size("a/b", DIGEST) == len(DATA)
    assert client.upload_blob("a/b", DATA).uploaded is False
    other.handler = lambda request: reply(404 if request.method == "GET" else status)
    assert not client.blob_exists("a/b", DIGEST)


@pytest.mark.parametrize("status", [400, 405, 501])
def test_a_registry_without_head(
    make_client: MakeClient, server: ScriptedServer, status: int
) -> None:
    server.handler = lambda request: reply(200, DATA) if request.method == "GET" else reply(status)
    client = make_client(server.url)
    assert client.blob_exists("a/b", DIGEST)
    assert client.blob_size("a/b", DIGEST) == len(DATA)


def test_a_registry_that_denies(make_client: MakeClient, server: ScriptedServer) -> None:
    """A 403 of the registry itself is the answer; nothing else is asked."""
    server.handler = lambda request: reply(403)
    with pytest.raises(Denied):
        make_client(server.url).blob_exists("a/b", DIGEST)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [204, 206])
def test_other_statuses_of_a_head(
    make_client: MakeClient, server: ScriptedServer, status: int
) -> None:
    server.handler = lambda request: (
        reply(200, DATA) if request.method == "GET" else reply(status, length=0)
    )
    client = make_client(server.url)
    assert client.blob_exists("a/b", DIGEST)
    assert client.blob_size("a/b", DIGEST) == len(DATA)


@pytest.mark.parametrize("status", [400, 405, 406, 412, 413, 422, 501])
def test_ranges_that_are_refused(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, status: int
) -> None:
    server.handler = lambda request: (
        reply(status) if "range" in request.headers else reply(200, DATA)
    )
    client = make_client(server.url)
    (tmp_path / f"blob.{DIGEST.encoded[:16]}.part").write_bytes(DATA[:100])
    assert client.download_blob("a/b", DIGEST, tmp_path / "blob").read_bytes() == DATA
    with client.open_blob("a/b", DIGEST, offset=100, verify=False) as blob:
        assert blob.read() == DATA[100:]


@pytest.mark.parametrize("header", ["*", "bytes */100000", "junk", "bytes 0-99999/*"])
def test_a_whole_blob_as_a_range(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, header: str
) -> None:
    """The Content-Range of a 206 may be unreadable if no range was asked for."""
    server.handler = lambda request: reply(206, DATA, Content_Range=header)
    client = make_client(server.url)
    assert client.read_blob("a/b", DIGEST) == DATA
    assert client.download_blob("a/b", DIGEST, tmp_path / "blob").read_bytes() == DATA


def test_bytes_that_change_between_replies(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    """A download from two replies, whose bytes do not belong together, begins anew once."""

    def handle(request: ReceivedRequest) -> list[Step]:
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        if len(server.requests) == 1:
            return [reply(200, length=len(DATA)) + bytes(90_000), CUT]
        if start:
            span = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
            return [reply(206, DATA[start:], Content_Range=span)]
        return [reply(200, DATA)]

    server.handler = handle
    client = make_client(server.url)
    assert client.download_blob("a/b", DIGEST, tmp_path / "blob").read_bytes() == DATA
