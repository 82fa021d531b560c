"""The token server's tokens per second on one core, compared with signatures alone."""

from __future__ import annotations

import base64
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from dockhand_auth_jwt import SigningKey, Token

from benchmarks.measure import Row
from benchmarks.server import free_port, running_process
from dockhand_core import Scope

__all__ = ["tokens_per_second"]

CONNECTIONS = 8
QUERY = "/token?service=bench&scope=repository:alice/app:pull,push"
SETTINGS = """
issuer = "bench"
services = ["bench"]
private_key = "private.pem"
users = "htpasswd"
refresh_tokens = false
[[rules]]
user = "*"
repository = "{user}/**"
actions = ["pull", "push"]
"""
WHY = "The token server also handles HTTP, the rules, and the JWT around the signature."


def tokens_per_second(folder: Path, rounds: int) -> list[Row]:
    """Measure token requests with and without a password, compared with signing a token.

    Args:
        folder: the folder for the files of the token server.
        rounds: the number of rounds that count; one round before them warms up.
    """
    key = SigningKey.generate("ES256")
    (folder / "private.pem").write_bytes(key.private_pem())
    hashed = bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"alice:{hashed}\n")
    config = folder / "authority.toml"
    config.write_text(SETTINGS)
    count = 40 * CONNECTIONS
    basic = base64.b64encode(b"alice:password").decode()
    with _token_server(config) as port, _open_connections(port) as connections:
        tasks: dict[str, Callable[[], None]] = {
            "es256": _sign_bytes(key, count),
            "jwt": _sign_jwts(key, count),
            "anonymous": lambda: _request_tokens(connections, "", count),
            "password": lambda: _request_tokens(
                connections, f"Authorization: Basic {basic}\r\n", count
            ),
        }
        seconds: dict[str, list[float]] = {name: [] for name in tasks}
        for number in range(rounds + 1):
            for name, task in tasks.items():
                start = time.perf_counter()
                task()
                if number:  # the first round only warms up
                    seconds[name].append((time.perf_counter() - start) / count)
    pairs = [
        ("anonymous", "es256", "an ES256 signature alone"),
        ("password", "es256", "an ES256 signature alone"),
        ("password", "jwt", "Token.sign in the process"),
    ]
    return [
        _row(f"tokens over HTTP on one core, {name}", against, seconds[name], seconds[baseline])
        for name, baseline, against in pairs
    ]


def _row(what: str, against: str, measured: list[float], baseline: list[float]) -> Row:
    ratios = [a / b for a, b in zip(measured, baseline, strict=True)]
    return Row(
        what,
        against,
        statistics.median(ratios),
        None,
        ours=f"{1 / statistics.median(measured):.0f}/s",
        theirs=f"{1 / statistics.median(baseline):.0f}/s",
        spread=(min(ratios), max(ratios)),
        why=WHY,
    )


def _sign_bytes(key: SigningKey, count: int) -> Callable[[], None]:
    private, data = key.private, b"x" * 2000
    assert isinstance(private, ec.EllipticCurvePrivateKey)

    def sign() -> None:
        for _ in range(count):
            private.sign(data, ec.ECDSA(hashes.SHA256()))

    return sign


def _sign_jwts(key: SigningKey, count: int) -> Callable[[], None]:
    token = Token.issued_by("bench").permitted_for("bench").related_to("alice")
    token = token.with_scope(Scope.write("alice/app"))

    def sign() -> None:
        for _ in range(count):
            token.sign(key)

    return sign


@contextmanager
def _token_server(config: Path) -> Iterator[int]:
    """Run a token server in a process of its own on one core, and provide its port."""
    port = free_port()
    command = [sys.executable, "-m", "dockhand_token_server", "--config", str(config)]
    log = config.with_suffix(".log")
    with running_process([*command, "--port", str(port)], port, log) as (_, process):
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(process.pid))})
        yield port


@contextmanager
def _open_connections(port: int) -> Iterator[list[socket.socket]]:
    """Open persistent connections as plain sockets, which take little time in the client."""
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def _request_tokens(connections: list[socket.socket], header: str, count: int) -> None:
    """Send `count` token requests, one at a time on each connection."""
    request = f"GET {QUERY} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode()
    for _ in range(0, count, len(connections)):
        for connection in connections:
            connection.sendall(request)
        for connection in connections:
            _read_reply(connection)


def _read_reply(connection: socket.socket) -> None:
    data = connection.recv(65536)
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the token server did not issue a token: {head[:40].decode()}")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
