"""Rules for the three servers: no redirects, and no plain HTTP on a public address."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import dockhand_embedded
import dockhand_token_server
import dockhand_webhook
import httpx
import pytest
from authority import write_authority
from registries import HTPASSWD, running_server
from starlette.applications import Starlette
from starlette.routing import Mount

SERVERS = ["dockhand_embedded", "dockhand_token_server", "dockhand_webhook"]
PATHS = {
    "dockhand_embedded": [
        "/", "/v2", "/v2/", "/v2//", "/v2/_catalog", "/v2/a/b/tags/list", "/v2/a/b/blobs/uploads",
        "/v2/a/b/manifests/v1",
    ],
    "dockhand_token_server": ["/", "/token", "/.well-known/jwks.json", "/.well-known"],
    "dockhand_webhook": [
        "/", "/dockhand/notify", "/dockhand/notify/staging", "/healthz", "/metrics", "/dockhand",
    ],
}  # fmt: skip


@pytest.fixture
def make_app(tmp_path: Path) -> Callable[[str], Any]:
    """A function that creates a server's application."""

    def make(server: str) -> Any:
        if server == "dockhand_embedded":
            return dockhand_embedded.create_app(":memory:")
        if server == "dockhand_token_server":
            return dockhand_token_server.create_app(write_authority(tmp_path))
        return dockhand_webhook.create_app(inbox=tmp_path / "inbox.db", anonymous=True)

    return make


@pytest.mark.parametrize("prefix", ["", "/mounted"])
@pytest.mark.parametrize("server", SERVERS)
def test_no_request_is_redirected(make_app: Any, server: str, prefix: str) -> None:
    """A redirect by a server behind a TLS proxy would lead clients with a password to http."""
    app = make_app(server)
    served = Starlette(routes=[Mount(prefix, app)]) if prefix else app

    async def statuses() -> dict[tuple[str, str], int]:
        transport = httpx.ASGITransport(served)
        found = {}
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            for path in PATHS[server]:
                for target in (path, path + "/", path.rstrip("/"), path + "?a=b", path + "/?a=b"):
                    for method in ("GET", "POST", "HEAD", "OPTIONS"):
                        if prefix and not target.strip("/"):
                            continue  # the outer application's own paths
                        reply = await http.request(method, prefix + target)
                        found[method, target] = reply.status_code
        return found

    found = asyncio.run(statuses())
    assert found
    assert {key: status for key, status in found.items() if 300 <= status < 400} == {}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "registry.example.com", ""])
def test_a_public_address_needs_tls_or_plain_http(server: str, host: str, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(HTPASSWD)
    variants = {
        "dockhand_embedded": [
            ["--root", str(tmp_path / "root"), "--anonymous"],
            ["--root", str(tmp_path / "root"), "--htpasswd", str(tmp_path / "users")],
        ],
        "dockhand_token_server": [["--config", str(write_authority(tmp_path))]],
        "dockhand_webhook": [["--inbox", str(tmp_path / "inbox.db"), "--anonymous"]],
    }
    for options in variants[server]:
        done = subprocess.run(
            [sys.executable, "-m", server, *options, "--host", host, "--port", "0"],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert "--plain-http" in done.stderr
        assert "--tls-certificate" in done.stderr
    assert not (tmp_path / "root").exists()
    assert not (tmp_path / "inbox.db").exists()


@pytest.mark.parametrize("server", SERVERS)
def test_the_programs_limit_what_clients_may_do(server: str, tmp_path: Path) -> None:
    """The options reach the server: deadlines, connections, and the size of a head."""
    options = {
        "dockhand_embedded": ["--root", ":memory:"],
        "dockhand_token_server": ["--config", str(write_authority(tmp_path))],
        "dockhand_webhook": ["--inbox", str(tmp_path / "inbox.db"), "--anonymous"],
    }[server]
    limits = ["--head-timeout", "1", "--stall-timeout", "1", "--max-connections", "5"]
    start = f"POST {PATHS[server][1]} HTTP/1.1\r\nHost: a\r\n".encode()
    hostile = {
        b"": b"",
        start: b"HTTP/1.1 408 ",
        start + b"Content-Length: 9\r\n\r\nhalf": b"HTTP/1.1 4",
        start + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n": b"HTTP/1.1 400 ",
        start + b"x: " + b"a" * (128 << 10) + b"\r\n\r\n": b"HTTP/1.1 4",
    }
    with (
        (tmp_path / "log").open("wb") as log,
        running_server(server, *options, *limits, stderr=log) as url,
    ):
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        for sent, expected in hostile.items():
            began = time.monotonic()
            with socket.create_connection(address, 10) as connection:
                connection.sendall(sent)
                reply = b""
                with suppress(ConnectionError):  # if the server leaves bytes unread
                    while piece := connection.recv(65536):
                        reply += piece
            # without a body, nothing but the end of the connection is expected
            assert reply.startswith(expected) or (not reply and len(sent) > 1000), sent[:100]
            assert time.monotonic() - began < 7  # uvicorn's keep-alive time is 5 s
        with ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(socket.create_connection(address, 10))
            assert httpx.get(url + PATHS[server][1], timeout=10).status_code < 500
    assert "--max-connections" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("server", SERVERS)
def test_help_names_the_limits(server: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", server, "--help"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    for option in (
        "--head-timeout", "--stall-timeout", "--max-connections", "--backlog", "--plain-http",
    ):  # fmt: skip
        assert option in done.stdout
