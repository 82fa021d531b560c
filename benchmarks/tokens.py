"""The token endpoint: tokens per second on one core, beside what signing alone costs."""

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
from benchmarks.server import answering, free_port
from dockhand_core import Scope

__all__ = ["tokens_per_second"]

AT_ONCE = 8
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
WHY = "The rest is HTTP, the rules, and the JWT around the signature."


def tokens_per_second(folder: Path, rounds: int) -> list[Row]:
    """Rows for anonymous clients and for ones with a password, against ES256 and against a JWT."""
    key = SigningKey.generate("ES256")
    (folder / "private.pem").write_bytes(key.private_pem())
    hashed = bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"alice:{hashed}\n")
    config = folder / "authority.toml"
    config.write_text(SETTINGS)
    count = 40 * AT_ONCE
    basic = base64.b64encode(b"alice:password").decode()
    with _served(config) as port, _clients(port) as clients:
        sides: dict[str, Callable[[], None]] = {
            "es256": _signer(key, count),
            "jwt": _token_maker(key, count),
            "anonymous": lambda: _ask(clients, "", count),
            "password": lambda: _ask(clients, f"Authorization: Basic {basic}\r\n", count),
        }
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(rounds + 1):
            for name, side in sides.items():
                start = time.perf_counter()
                side()
                if number:  # the first warms up
                    taken[name].append((time.perf_counter() - start) / count)
    pairs = [
        ("anonymous", "es256", "an ES256 signature alone"),
        ("password", "es256", "an ES256 signature alone"),
        ("password", "jwt", "Token.sign in the process"),
    ]
    return [
        _row(f"tokens over HTTP on one core, {ours}", against, taken[ours], taken[theirs])
        for ours, theirs, against in pairs
    ]


def _row(what: str, against: str, ours: list[float], theirs: list[float]) -> Row:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Row(
        what,
        against,
        statistics.median(ratios),
        None,
        ours=f"{1 / statistics.median(ours):.0f}/s",
        theirs=f"{1 / statistics.median(theirs):.0f}/s",
        spread=(min(ratios), max(ratios)),
        why=WHY,
    )


def _signer(key: SigningKey, count: int) -> Callable[[], None]:
    private, data = key.private, b"x" * 2000
    assert isinstance(private, ec.EllipticCurvePrivateKey)

    def sign() -> None:
        for _ in range(count):
            private.sign(data, ec.ECDSA(hashes.SHA256()))

    return sign


def _token_maker(key: SigningKey, count: int) -> Callable[[], None]:
    token = Token.issued_by("bench").permitted_for("bench").related_to("alice")
    token = token.with_scope(Scope.write("alice/app"))

    def sign() -> None:
        for _ in range(count):
            token.sign(key)

    return sign


@contextmanager
def _served(config: Path) -> Iterator[int]:
    """The endpoint in a process of its own, on one core; its port."""
    port = free_port()
    command = [sys.executable, "-m", "dockhand_token_server", "--config", str(config)]
    log = config.with_suffix(".log")
    with answering([*command, "--port", str(port)], port, log) as (_, process):
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(process.pid))})
        yield port


@contextmanager
def _clients(port: int) -> Iterator[list[socket.socket]]:
    """Connections that stay open; what asks must cost little beside what answers."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(AT_ONCE)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def _ask(clients: list[socket.socket], header: str, count: int) -> None:
    request = f"GET {QUERY} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode()
    for _ in range(0, count, len(clients)):
        for client in clients:
            client.sendall(request)
        for client in clients:
            _read(client)


def _read(client: socket.socket) -> None:
    data = client.recv(65536)
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the token endpoint refused: {head[:40].decode()}")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65536)
