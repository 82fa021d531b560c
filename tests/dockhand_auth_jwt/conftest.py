"""A fake registry on loopback that records the tokens it receives."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # with the default of 5, simultaneous connections wait a second
    daemon_threads = True


class FakeRegistry:
    """A fake registry, which records the tokens that it receives; `judge` decides its replies.

    Attributes:
        tokens: the received tokens, in order.
        judge: maps a received token to the status and the headers of the reply.
        url: the base URL of the registry.
    """

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.judge: Callable[[str], tuple[int, dict[str, str]]] = lambda _: (200, {})
        self.url = ""

    @property
    def claims(self) -> list[dict[str, Any]]:
        return [jwt.decode(t, options={"verify_signature": False}) for t in self.tokens]

    @property
    def headers(self) -> list[dict[str, Any]]:
        return [jwt.get_unverified_header(token) for token in self.tokens]

    @property
    def scopes(self) -> list[list[str]]:
        return [
            [f"{e['type']}:{e['name']}:{','.join(e['actions'])}" for e in claims["access"]]
            for claims in self.claims
        ]


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """Provide a fake registry that accepts every token, unless a test replaces `judge`."""
    fake = FakeRegistry()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            with lock:
                fake.tokens.append(token)
            status, headers = fake.judge(token)
            body = json.dumps({"repositories": ["a"], "name": "a", "tags": ["b"]}).encode()
            self.send_response(status)
            fields = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
            for key, value in {**fields, **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _handle

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield fake
    server.shutdown()
    server.server_close()
