"""A registry on loopback that looks at tokens as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # with 5, as it is, many that come at once wait for a second
    daemon_threads = True


class Registry:
    """Remembers the tokens that it saw; `judge` gives a status and a header for each."""

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
    def access(self) -> list[list[str]]:
        return [
            [f"{e['type']}:{e['name']}:{','.join(e['actions'])}" for e in claims["access"]]
            for claims in self.claims
        ]


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry that accepts every token until told otherwise."""
    found = Registry()
    lock = threading.Lock()

    class Handle(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            with lock:
                found.tokens.append(token)
            status, headers = found.judge(token)
            body = json.dumps({"repositories": ["a"], "name": "a", "tags": ["b"]}).encode()
            self.send_response(status)
            fields = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
            for key, value in {**fields, **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _any

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = Server(("127.0.0.1", 0), Handle)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield found
    server.shutdown()
    server.server_close()
