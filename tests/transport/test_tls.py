"""TLS, proxies and settings of every transport."""

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
from raw_servers import (
    OK_REPLY,
    SECONDS,
    CertificateAuthority,
    Connection,
    RawServer,
    raw_server,
    refusing_port,
    replying_server,
)
from transport_client import MakeClient, build_request

from dockhand_core.errors import ConfigError
from dockhand_core.http.transports import (
    ASYNC_TRANSPORTS,
    SYNC_TRANSPORTS,
    TRANSPORTS,
    TransportOptions,
    build_async_transport,
    build_transport,
    environment_proxy,
)


def test_a_server_certificate_is_checked_against_the_bundle(
    make_client: MakeClient, authority: CertificateAuthority
) -> None:
    with replying_server(OK_REPLY, authority.server_context()) as server:
        assert make_client(verify=authority.bundle).send(build_request(server.url))[1] == b"ok"
        assert make_client(verify=False).send(build_request(server.url))[1] == b"ok"
        for verify in (True, authority.folder / "other.pem"):
            with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
                make_client(verify=verify).send(build_request(server.url))
        with pytest.raises(httpx.ConnectError, match=r"(?i)hostname|certificate"):
            make_client(verify=authority.bundle).send(
                build_request(f"https://localhost:{server.port}/")
            )
        assert len(server.requests) == 2


def test_the_usual_authorities_are_loaded_for_the_first_tls_connection(
    make_client: MakeClient, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def where() -> str:
        loaded.append("")
        return str(authority.bundle)

    monkeypatch.setattr("certifi.where", where)
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(variable, raising=False)
    client = make_client(verify=True)
    with replying_server(OK_REPLY) as plain:
        assert client.send(build_request(plain.url))[1] == b"ok"
    assert not loaded
    with replying_server(OK_REPLY, authority.server_context()) as server:
        for _ in range(2):
            assert client.send(build_request(server.url))[1] == b"ok"
        assert len(loaded) == 1
        # the name is checked
        with pytest.raises(httpx.ConnectError, match=r"(?i)hostname|certificate"):
            client.send(build_request(f"https://localhost:{server.port}/"))


def test_https_to_a_server_without_tls_is_a_connect_error(make_client: MakeClient) -> None:
    def handle(connection: Connection) -> None:
        connection.sock.recv(65536)
        connection.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    with raw_server(handle) as server, pytest.raises(httpx.ConnectError):
        make_client(verify=False).send(build_request(f"https://127.0.0.1:{server.port}/"))


def test_a_client_certificate_is_sent(
    make_client: MakeClient, authority: CertificateAuthority
) -> None:
    with replying_server(
        OK_REPLY, authority.server_context(demand_client_certificate=True)
    ) as server:
        files = {
            "client_cert": authority.cert,
            "client_key": authority.key,
            "home": server.url,
        }
        assert (
            make_client(verify=authority.bundle, **files).send(build_request(server.url))[1]
            == b"ok"
        )
        with pytest.raises(httpx.TransportError):
            make_client(verify=authority.bundle).send(build_request(server.url))
        assert len(server.requests) == 1


# --- proxies -------------------------------------------------------------------------------


@contextmanager
def http_proxy(target: RawServer, *, secret: str | None = None) -> Iterator[RawServer]:
    """Run an HTTP proxy that connects every tunnel to `target`.

    Args:
        target: the server behind the proxy.
        secret: the value of Proxy-Authorization that the proxy demands; None for none.
    """

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    def handle(connection: Connection) -> None:
        while (received := connection.read_head()) is not None:
            server.requests.append(received)
            if secret is not None and received.header("Proxy-Authorization") != secret:
                connection.send(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
                continue
            if not received.line.startswith("CONNECT"):
                connection.send(OK_REPLY)
                continue
            with socket.create_connection(("127.0.0.1", target.port)) as upstream:
                connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=pump, args=(upstream, connection.sock), daemon=True)
                back.start()
                pump(connection.sock, upstream)
                back.join(SECONDS)
            return

    with raw_server(handle) as server:
        yield server


SECRET = "Basic dXNlcjpwQHNz"  # encodes user:p@ss


def test_http_through_a_proxy(make_client: MakeClient) -> None:
    with replying_server(OK_REPLY) as target, http_proxy(target, secret=SECRET) as proxy:
        client = make_client(proxy=f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        url = "http://registry.test:5000/v2/a?next=b%2Fc&_state=a%3D%3D"
        for _ in range(2):
            response, body = client.send(build_request(url, headers=[("X-A", "1")]))
            assert (response.status_code, body) == (200, b"ok")
        assert proxy.requests[0].line == f"GET {url} HTTP/1.1"
        assert proxy.requests[0].header("Host") == "registry.test:5000"
        assert proxy.connections == 1
        assert target.connections == 0


def test_https_through_a_proxy(make_client: MakeClient, authority: CertificateAuthority) -> None:
    with (
        replying_server(OK_REPLY, authority.server_context()) as target,
        http_proxy(target, secret=SECRET) as proxy,
    ):
        client = make_client(
            proxy=f"http://user:p%40ss@127.0.0.1:{proxy.port}", verify=authority.bundle
        )
        for _ in range(2):
            headers = [("Authorization", "Bearer t")]
            assert (
                client.send(build_request("https://registry.test/v2/", headers=headers))[1] == b"ok"
            )
        (connect,) = proxy.requests
        assert connect.line == "CONNECT registry.test:443 HTTP/1.1"
        assert connect.header("Authorization") is None
        assert target.requests[0].line == "GET /v2/ HTTP/1.1"
        assert target.requests[0].header("Proxy-Authorization") is None


def test_a_proxy_that_refuses_is_an_error(
    make_client: MakeClient, authority: CertificateAuthority
) -> None:
    with (
        replying_server(OK_REPLY, authority.server_context()) as target,
        http_proxy(target, secret=SECRET) as proxy,
    ):
        client = make_client(proxy=f"http://127.0.0.1:{proxy.port}", verify=authority.bundle)
        with pytest.raises(httpx.ProxyError):
            client.send(build_request("https://registry.test/v2/"))
        assert client.send(build_request("http://registry.test/v2/"))[0].status_code == 407
        assert target.connections == 0
    with refusing_port() as port, pytest.raises((httpx.ProxyError, httpx.ConnectError)):
        make_client(proxy=f"http://127.0.0.1:{port}").send(build_request("http://registry.test/"))


def test_a_transport_does_not_read_the_environment(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replying_server(OK_REPLY) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert make_client().send(build_request(server.url))[1] == b"ok"


def test_the_proxy_from_the_environment(set_variables: Callable[..., None]) -> None:
    assert environment_proxy("http://registry.test/") is None
    set_variables(HTTP_PROXY="http://u:p@plain:1", HTTPS_PROXY="secure:2")
    assert environment_proxy("http://registry.test/") == "http://u:p@plain:1"
    assert environment_proxy("https://registry.test/v2/") == "http://secure:2"
    set_variables(NO_PROXY="other.test,.inside.test,port.test:5000")
    assert environment_proxy("https://other.test:5000") is None
    assert environment_proxy("https://a.inside.test") is None
    assert environment_proxy("https://port.test:5000") is None
    assert environment_proxy("https://port.test:5001") == "http://secure:2"
    set_variables(NO_PROXY="*")
    assert environment_proxy("https://registry.test") is None


def test_all_proxy_leaves_out_loopback(set_variables: Callable[..., None]) -> None:
    set_variables(ALL_PROXY="http://any:3")
    assert environment_proxy("https://registry.test") == "http://any:3"
    for host in ("localhost", "LOCALHOST:5000", "a.localhost", "127.0.0.1", "127.8.8.8", "[::1]:1"):
        assert environment_proxy(f"https://user@{host}/v2/") is None
    assert environment_proxy("https://localhost.test") == "http://any:3"
    assert environment_proxy("https://[2001:db8::1]") == "http://any:3"


# --- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_invalid_settings_are_named_and_show_no_password(
    kind: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    build = build_transport if kind == "sync" else build_async_transport
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


def test_the_repr_shows_no_password_of_a_proxy() -> None:
    assert "hush" not in repr(TransportOptions(proxy="http://user:hush@proxy.test"))


def test_the_names_of_transports() -> None:
    assert set(TRANSPORTS) == {*SYNC_TRANSPORTS, *ASYNC_TRANSPORTS}
    with pytest.raises(ConfigError, match=r"aiohttp.*blocking"):
        build_transport(TransportOptions(name="aiohttp"))


def test_a_child_process_opens_its_own_connections(make_client: MakeClient) -> None:
    with replying_server(OK_REPLY) as server:
        assert make_client().send(build_request(server.url))[1] == b"ok"
        if (child := os.fork()) == 0:
            try:
                os._exit(0 if make_client().send(build_request(server.url))[1] == b"ok" else 1)
            finally:
                os._exit(2)
        for _ in range(1000):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.05)
        else:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        assert status == 0
