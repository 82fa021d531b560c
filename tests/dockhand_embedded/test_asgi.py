"""The ASGI application: files sent by path, and hostile requests on a raw socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from dockhand_embedded import create_app
from registries import embedded

from dockhand_core import Digest, connect

QUIET = {"driver": "null"}


def sent_messages(
    root: Path, path: str, *headers: tuple[bytes, bytes], by_path: bool = True
) -> Any:
    """Send a GET request to the application, and return the messages that it sends."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers),
        "extensions": {"http.response.pathsend": {}} if by_path else {},
    }

    async def main() -> None:
        await create_app(root)(scope, receive, send)

    asyncio.run(main())
    return sent


def test_files_are_sent_by_path_if_the_server_supports_it(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    with connect(str(tmp_path), driver="embedded", logging=QUIET) as registry:
        digest = registry.upload_blob("a/b", data).digest
    path = f"/v2/a/b/blobs/{digest}"
    start, body = sent_messages(tmp_path, path)
    assert start["status"] == 200
    assert dict(start["headers"])[b"content-length"] == str(len(data)).encode()
    assert body["type"] == "http.response.pathsend"
    assert Path(body["path"]).is_absolute()
    assert Path(body["path"]).read_bytes() == data
    # A range of a file cannot be sent by path.
    start, *pieces = sent_messages(tmp_path, path, (b"range", b"bytes=10-19"))
    assert start["status"] == 206
    assert b"".join(piece.get("body", b"") for piece in pieces) == data[10:20]
    start, *pieces = sent_messages(tmp_path, path, by_path=False)
    assert b"".join(piece.get("body", b"") for piece in pieces) == data
    assert not pieces[-1].get("more_body")


HEX = "ab" * 32
SECRET = b"outside of the registry"
HOSTILE_PATHS = [
    "/v2/../../../etc/passwd",
    "/v2/../secret/blobs/sha256:{secret}",
    "/v2/%2e%2e/secret/blobs/sha256:{secret}",
    "/v2/%2e%2e%2fsecret/blobs/sha256:{secret}",
    "/v2/a%2f..%2f..%2fsecret/blobs/sha256:{secret}",
    "/v2/..%5csecret/blobs/sha256:{secret}",
    "/v2/a%00b/blobs/sha256:{secret}",
    "/v2/link/blobs/sha256:{secret}",
    "/v2/TEAM/app/blobs/sha256:{mine}",
    "/v2/Team/app/tags/list",
    "/v2/team/app/blobs/SHA256:{mine}",
    "/v2/team/app/blobs/sha256:{MINE}",
    "/v2/team/app/blobs/sha256:..%2f..%2f..%2f..%2fsecret",
    "/v2/team/app/blobs/sha256:%00",
    "/v2/team/app/manifests/..%2findex.json",
    "/v2/team/app/manifests/%2e%2e",
    "/v2/team/app/manifests/V1",
    "/v2/team/_app/tags/list",
    "/v2/team/.uploads/tags/list",
    "/v2/.uploads/tags/list",
    "/v2/team/app/blobs/uploads/..%2f..%2fsecret",
    "/v2/team/app/blobs/uploads/%00",
    f"/v2/{'a' * 300}/tags/list",
    f"/v2/{'a/' * 200}b/tags/list",
    f"/v2/team/app/manifests/{'v' * 200}",
    f"/v2/team/app/blobs/sha256:{HEX * 40}",
    "/v2/team/app/referrers/sha256:zz",
    "/v2/t\xc3\xa9am/app/tags/list",
    "/v2/%ff%fe/tags/list",
    "//v2/team/app/tags/list",
    "/v2//team/app/tags/list",
]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_hostile_paths_are_rejected(tmp_path: Path, method: str) -> None:
    """The request lines are sent on a raw socket, since no URL library would send such paths."""
    outside = tmp_path / "secret"
    secret = Digest.of(SECRET)
    (outside / "blobs/sha256").mkdir(parents=True)
    (outside / "blobs/sha256" / secret.encoded).write_bytes(SECRET)
    (outside / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    with embedded(tmp_path) as url, connect(url, logging=QUIET) as registry:
        mine = registry.upload_blob("team/app", b"mine").digest
        (tmp_path / "root/link").symlink_to(outside, target_is_directory=True)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        names = {"secret": secret.encoded, "mine": mine.encoded, "MINE": mine.encoded.upper()}
        for pattern in HOSTILE_PATHS:
            reply = _raw_request(url, method, pattern.format(**names))
            status = int(reply.split()[1])
            assert 400 <= status < 500, (pattern, reply[:200])
            assert SECRET not in reply
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        assert registry.read_blob("team/app", mine) == b"mine"


def _raw_request(url: str, method: str, target: str) -> bytes:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as client:
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        client.sendall(f"{head}Content-Length: 2\r\n\r\n".encode("latin-1") + b"{}")
        reply = b""
        while piece := client.recv(65536):
            reply += piece
    return reply
