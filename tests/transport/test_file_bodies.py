"""Request bodies that are files, on every transport: some pass them to the system as they are."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
from raw_servers import (
    MIB,
    OK_REPLY,
    SECONDS,
    CertificateAuthority,
    Connection,
    raw_server,
    replying_server,
)
from transport_client import MakeClient, build_request

from dockhand_core.flow import FileSource
from dockhand_core.http.bodies import UploadBody


def file_request(
    url: str, source: FileSource, seen: list[int], *, write: float = SECONDS
) -> httpx.Request:
    """Build a PUT of a source that notes its progress in `seen`."""
    body = UploadBody(source, lambda done, _: seen.append(done))
    headers = [("Content-Length", str(source.size))]
    request = build_request(url, "PUT", headers=headers, write=write)
    request.stream = body
    return request


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_file_arrives_whole_or_from_an_offset(
    make_client: MakeClient, authority: CertificateAuthority, tmp_path: Path, tls: bool
) -> None:
    data = os.urandom(2 * MIB + 17)
    (tmp_path / "blob").write_bytes(data)
    with replying_server(OK_REPLY, authority.server_context() if tls else None) as server:
        client = make_client(verify=False)
        for offset in (0, MIB - 1, len(data)):
            seen: list[int] = []
            source = FileSource(tmp_path / "blob").skip(offset)
            assert client.send(file_request(server.url, source, seen))[1] == b"ok"
            assert server.requests[-1].body == data[offset:]
            assert seen[-1:] == ([len(data) - offset] if offset < len(data) else [])
        # aiohttp frees a connection when the task that sends the body has ended, which may be after
        # the reply: the next request then opens a second connection, and the one after it none.
        assert server.connections <= 2


def test_a_file_that_became_shorter_or_is_gone_is_an_error_of_the_file(
    make_client: MakeClient, tmp_path: Path
) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"x" * 3 * MIB)
    source = FileSource(path)
    with replying_server(OK_REPLY) as server:
        client = make_client(max_connections=1)
        path.write_bytes(b"x" * (MIB + 5))
        with pytest.raises(OSError, match="shorter"):
            client.send(file_request(server.url, source, []))
        path.unlink()
        with pytest.raises(FileNotFoundError):
            client.send(file_request(server.url, source, []))
        assert client.send(build_request(server.url))[1] == b"ok"


def test_a_stalled_upload_of_a_file_times_out(make_client: MakeClient, tmp_path: Path) -> None:
    def handle(connection: Connection) -> None:
        connection.read_head()
        stop.wait(SECONDS)

    stop = threading.Event()
    path = tmp_path / "blob"
    with path.open("wb") as file:
        file.truncate(256 * MIB)
    with raw_server(handle) as server:
        started = time.monotonic()
        seen: list[int] = []
        with pytest.raises(httpx.WriteTimeout):
            make_client().send(file_request(server.url, FileSource(path), seen, write=0.2))
        assert 0.15 < time.monotonic() - started < SECONDS / 2
        assert len(seen) < 32
        stop.set()


def test_an_early_refusal_of_a_file_is_read(make_client: MakeClient, tmp_path: Path) -> None:
    def handle(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 413 No\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope")
        connection.sock.shutdown(socket.SHUT_WR)
        while connection.sock.recv(MIB):
            pass

    path = tmp_path / "blob"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    with raw_server(handle) as server:
        response, text = make_client().send(file_request(server.url, FileSource(path), []))
        assert (response.status_code, text) == (413, b"nope")
