"""TLS, proxies, and the settings of every transport."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from raw_servers import OK, SECONDS, Authority, Endpoint, Make, Peer, answering, ask, wire

from dockhand_core.errors import ConfigError
from dockhand_core.http import transports as rooms
from dockhand_core.http.transports import TransportOptions, environment_proxy


def test_a_server_is_checked_against_the_bundle(make: Make, authority: Authority) -> None:
    with answering(OK, authority.server()) as server:
        assert make(verify=authority.bundle)(ask(server.url))[1] == b"ok"
        assert make(verify=False)(ask(server.url))[1] == b"ok"
        for verify in (True, authority.folder / "other.pem"):
            with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
                make(verify=verify)(ask(server.url))
        with pytest.raises(httpx.ConnectError, match=r"(?i)hostname|certificate"):
            make(verify=authority.bundle)(ask(f"https://localhost:{server.port}/"))
        assert len(server.received) == 2


def test_tls_to_a_server_without_it(make: Make) -> None:
    def handle(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    with wire(handle) as server, pytest.raises(httpx.ConnectError):
        make(verify=False)(ask(f"https://127.0.0.1:{server.port}/"))


def test_client_certificates(make: Make, authority: Authority) -> None:
    with answering(OK, authority.server(clients=True)) as server:
        files = {"client_cert": authority.cert, "client_key": authority.key}
        assert make(verify=authority.bundle, **files)(ask(server.url))[1] == b"ok"
        with pytest.raises(httpx.TransportError):
            make(verify=authority.bundle)(ask(server.url))
        assert len(server.received) == 1


# --- proxies -------------------------------------------------------------------------------


@contextmanager
def proxying(target: Endpoint, *, secret: str | None = None) -> Iterator[Endpoint]:
    """An HTTP proxy that sends everything to `target`."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    def handle(peer: Peer) -> None:
        while (received := peer.head()) is not None:
            server.received.append(received)
            if secret is not None and received.get("Proxy-Authorization") != secret:
                peer.send(b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n")
                continue
            if not received.line.startswith("CONNECT"):
                peer.send(OK)
                continue
            with socket.create_connection(("127.0.0.1", target.port)) as upstream:
                peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=pump, args=(upstream, peer.sock), daemon=True)
                back.start()
                pump(peer.sock, upstream)
                back.join(SECONDS)
            return

    with wire(handle) as server:
        yield server


SECRET = "Basic dXNlcjpwQHNz"  # user:p@ss


def test_a_proxy_for_http(make: Make) -> None:
    with answering(OK) as target, proxying(target, secret=SECRET) as proxy:
        carrier = make(proxy=f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        url = "http://registry.test:5000/v2/a?next=b%2Fc&_state=a%3D%3D"
        for _ in range(2):
            response, body = carrier(ask(url, headers=[("X-A", "1")]))
            assert (response.status_code, body) == (200, b"ok")
        assert proxy.received[0].line == f"GET {url} HTTP/1.1"
        assert proxy.received[0].get("Host") == "registry.test:5000"
        assert proxy.connections == 1
        assert target.connections == 0


def test_a_proxy_for_https(make: Make, authority: Authority) -> None:
    with (
        answering(OK, authority.server()) as target,
        proxying(target, secret=SECRET) as proxy,
    ):
        carrier = make(proxy=f"http://user:p%40ss@127.0.0.1:{proxy.port}", verify=authority.bundle)
        for _ in range(2):
            headers = [("Authorization", "Bearer t")]
            assert carrier(ask("https://registry.test/v2/", headers=headers))[1] == b"ok"
        (connect,) = proxy.received
        assert connect.line == "CONNECT registry.test:443 HTTP/1.1"
        assert connect.get("Authorization") is None
        assert target.received[0].line == "GET /v2/ HTTP/1.1"
        assert target.received[0].get("Proxy-Authorization") is None


def test_a_proxy_that_refuses(make: Make, authority: Authority) -> None:
    with (
        answering(OK, authority.server()) as target,
        proxying(target, secret=SECRET) as proxy,
    ):
        carrier = make(proxy=f"http://127.0.0.1:{proxy.port}", verify=authority.bundle)
        with pytest.raises(httpx.ProxyError):
            carrier(ask("https://registry.test/v2/"))
        assert carrier(ask("http://registry.test/v2/"))[0].status_code == 407
        assert target.connections == 0
    with pytest.raises((httpx.ProxyError, httpx.ConnectError)):
        make(proxy=f"http://127.0.0.1:{proxy.port}")(ask("http://registry.test/"))


def test_the_environment_is_not_read_by_a_transport(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(OK) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert make()(ask(server.url))[1] == b"ok"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def put(**names: str) -> None:
        for name, value in names.items():
            monkeypatch.setenv(name, value)

    return put


def test_environment_proxy(environment: Callable[..., None]) -> None:
    assert environment_proxy("http://registry.test/") is None
    environment(HTTP_PROXY="http://u:p@plain:1", HTTPS_PROXY="secure:2")
    assert environment_proxy("http://registry.test/") == "http://u:p@plain:1"
    assert environment_proxy("https://registry.test/v2/") == "http://secure:2"
    environment(NO_PROXY="other.test,.inside.test,port.test:5000")
    assert environment_proxy("https://other.test:5000") is None
    assert environment_proxy("https://a.inside.test") is None
    assert environment_proxy("https://port.test:5000") is None
    assert environment_proxy("https://port.test:5001") == "http://secure:2"
    environment(NO_PROXY="*")
    assert environment_proxy("https://registry.test") is None


def test_environment_proxy_for_all(environment: Callable[..., None]) -> None:
    environment(ALL_PROXY="http://any:3")
    assert environment_proxy("https://registry.test") == "http://any:3"
    for host in ("localhost", "LOCALHOST:5000", "a.localhost", "127.0.0.1", "127.8.8.8", "[::1]:1"):
        assert environment_proxy(f"https://user@{host}/v2/") is None
    assert environment_proxy("https://localhost.test") == "http://any:3"
    assert environment_proxy("https://[2001:db8::1]") == "http://any:3"


# --- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_settings_that_cannot_be(kind: str, authority: Authority, tmp_path: Path) -> None:
    build = rooms.build_transport if kind == "sync" else rooms.build_async_transport
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    locked = tmp_path / "locked.pem"
    key = load_pem_private_key(authority.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )
    missing = tmp_path / "missing.pem"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"name": "carrier-pigeon"}, "carrier-pigeon.*httpx"),
        ({"verify": missing}, "missing.pem"),
        ({"verify": empty}, "empty.pem"),
        ({"client_cert": missing}, "missing.pem"),
        ({"client_cert": authority.cert}, "cert.pem"),
        ({"client_cert": authority.cert, "client_key": missing}, "missing.pem"),
        ({"client_cert": authority.cert, "client_key": locked}, "locked.pem"),
        ({"client_key": authority.key}, "key.pem"),
        ({"proxy": "socks5://user:hush@proxy.test"}, "proxy"),
        ({"proxy": "http://user:hush@proxy.test:x"}, "proxy"),
        ({"proxy": "http://user:hush@"}, "proxy"),
        ({"proxy": "proxy.test:3128"}, "proxy"),
    ]
    for options, named in cases:
        with pytest.raises(ConfigError, match=named) as caught:
            build(TransportOptions(**options))
        shown: BaseException | None = caught.value
        while shown is not None:
            assert "hush" not in str(shown)
            shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)


def test_a_proxys_password_is_not_shown() -> None:
    assert "hush" not in repr(TransportOptions(proxy="http://user:hush@proxy.test"))


def test_the_names_offered() -> None:
    assert set(rooms.TRANSPORTS) == {*rooms.SYNC_TRANSPORTS, *rooms.ASYNC_TRANSPORTS}
    with pytest.raises(ConfigError, match=r"aiohttp.*blocking"):
        rooms.build_transport(TransportOptions(name="aiohttp"))


def test_a_child_process_makes_its_own(make: Make) -> None:
    with answering(OK) as server:
        assert make()(ask(server.url))[1] == b"ok"
        if (child := os.fork()) == 0:
            try:
                os._exit(0 if make()(ask(server.url))[1] == b"ok" else 1)
            finally:
                os._exit(2)
        for _ in range(100):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.05)
        else:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        assert status == 0
