"""What servers have in common, on a socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from registries import embedded

LIMIT = 64 << 10


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[socket.socket]:
    with embedded(tmp_path) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as found:
            yield found


@pytest.mark.parametrize("kind", ["many headers", "one header", "the line", "trailing requests"])
def test_a_head_without_end(connection: socket.socket, kind: str) -> None:
    start = b"GET /v2/ HTTP/1.1\r\nHost: a\r\n"
    piece = b"x: " + b"a" * 1000 + b"\r\n"
    if kind == "one header":
        start, piece = start + b"x: ", b"a" * 1000
    elif kind == "the line":
        start, piece = b"GET /v2/", b"a" * 1000
    elif kind == "trailing requests":  # the connection has served one already
        connection.sendall(start + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    connection.sendall(start)
    sent = 0
    try:
        while sent < 4 << 20:
            connection.sendall(piece)
            sent += len(piece)
    except OSError:  # it closed; what it said may be lost with that
        pass
    else:
        pytest.fail("the server took 4 MiB of headers")


def test_a_head_below_the_limit_and_a_body_above(connection: socket.socket) -> None:
    head = b"".join(b"x%d: %s\r\n" % (number, b"a" * 1000) for number in range(50))
    body = b"b" * (3 * LIMIT)
    for _ in range(2):
        connection.sendall(
            b"POST /v2/team/app/blobs/uploads/ HTTP/1.1\r\nHost: a\r\n" + head
            + b"Content-Type: application/octet-stream\r\n"
            + b"Content-Length: %d\r\n\r\n" % len(body) + body
        )  # fmt: skip
        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")
