"""The routes of requests on every transport: addresses, proxies and the client certificate."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_dns import FakeDNS
from raw_servers import (
    OK_REPLY,
    SECONDS,
    CertificateAuthority,
    Connection,
    RawServer,
    raw_server,
    replying_server,
)
from transport_client import MakeClient, build_request

from dockhand_core.errors import ConfigError, DockhandError
from dockhand_core.http.addresses import ADDRESSES, AddressRule
from dockhand_core.http.transports import environment_proxy


class Refused(DockhandError):
    pass


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> FakeDNS:
    return FakeDNS(monkeypatch)


def ruled(url: str, home: str, **options: Any) -> httpx.Request:
    """Build a request that may go to public addresses and those of `home`."""
    request = build_request(url, **options)
    request.extensions[ADDRESSES] = AddressRule(home, Refused)
    return request


# --- addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["inside.test", "mixed.test", "127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::1]",
     "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "127。0。0。1"],
)  # fmt: skip
def test_a_refused_address_is_not_connected_to(
    make_client: MakeClient, dns: FakeDNS, host: str
) -> None:
    dns.add("inside.test", ["127.0.0.1"])
    dns.add("mixed.test", ["93.184.216.34", "127.0.0.1"])
    with replying_server(OK_REPLY) as server:
        client = make_client()
        for home in ("registry.test", "10.0.0.1"):
            with pytest.raises(Refused, match="private address"):
                client.send(ruled(f"http://{host}:{server.port}/", home))
        assert client.send(build_request(server.url))[1] == b"ok"  # no rule
        assert len(server.requests) == 1


def test_the_address_that_is_judged_is_the_one_connected_to(
    make_client: MakeClient, dns: FakeDNS
) -> None:
    """The second look-up would have another answer, but there is none."""
    dns.add("other.test", ["127.0.0.1"], ["127.0.0.3"])
    with replying_server(OK_REPLY) as server:
        url = f"http://other.test:{server.port}/"
        assert make_client().send(ruled(url, "localhost"))[1] == b"ok"
        assert server.requests[0].header("Host") == f"other.test:{server.port}"
        assert dns.lookups == ["other.test"]


def test_every_address_of_a_host_is_tried(make_client: MakeClient, dns: FakeDNS) -> None:
    """Nothing listens at the first address."""
    dns.add("other.test", ["127.0.0.7", "127.0.0.1"])
    with replying_server(OK_REPLY) as server:
        url = f"http://other.test:{server.port}/"
        assert make_client().send(ruled(url, "127.0.0.1", connect=2.0))[1] == b"ok"


def test_a_connection_under_another_rule_is_not_reused(
    make_client: MakeClient, dns: FakeDNS
) -> None:
    dns.add("other.test", ["127.0.0.1"])
    with replying_server(OK_REPLY) as server:
        client, url = make_client(), f"http://other.test:{server.port}/"
        for _ in range(2):
            assert client.send(build_request(url))[1] == b"ok"
            assert client.send(ruled(url, "127.0.0.1"))[1] == b"ok"
            assert client.send(ruled(url, "other.test"))[1] == b"ok"
        with pytest.raises(Refused):
            client.send(ruled(url, "registry.test"))
        assert (len(server.requests), server.connections) == (6, 3)


def test_tls_names_the_host_and_not_its_address(
    make_client: MakeClient, dns: FakeDNS, authority: CertificateAuthority
) -> None:
    context, asked = authority.server_context(), []
    context.sni_callback = lambda sock, name, _: asked.append(name)
    dns.add("registry.test", ["127.0.0.1"])
    dns.add("other.test", ["127.0.0.1"])
    with replying_server(OK_REPLY, context) as server:
        client = make_client(verify=authority.bundle)
        request = ruled(f"https://registry.test:{server.port}/", "127.0.0.1")
        assert client.send(request)[1] == b"ok"
        assert server.requests[0].header("Host") == f"registry.test:{server.port}"
        with pytest.raises(httpx.ConnectError, match=r"(?i)certificate|hostname"):
            client.send(ruled(f"https://other.test:{server.port}/", "127.0.0.1"))
        assert asked == ["registry.test", "other.test"]
        assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["unknown.test", "a" * 70 + ".test", "a..test", "x" * 300])
def test_a_name_that_cannot_be_looked_up_is_a_transport_error(
    make_client: MakeClient, dns: FakeDNS, name: str
) -> None:
    dns.add("unknown.test", [])
    client = make_client()
    for request in (
        build_request(f"http://{name}/"),
        ruled(f"http://{name}/", "registry.test"),
    ):
        with pytest.raises(httpx.TransportError):
            client.send(request)


def test_a_proxy_looks_the_host_up(make_client: MakeClient, dns: FakeDNS) -> None:
    """With a proxy, only a URL with an address in place of a host name is judged."""
    dns.add("auth.test", [])
    with replying_server(OK_REPLY) as proxy:
        client = make_client(proxy=proxy.url)
        assert client.send(ruled("http://auth.test/token", "registry.test"))[1] == b"ok"
        for host in ("10.0.0.1", "0xa.1", "localhost", "[::ffff:a00:1]"):
            with pytest.raises(Refused):
                client.send(ruled(f"http://{host}/token", "registry.test"))
        assert [each.line.split()[1] for each in proxy.requests] == ["http://auth.test/token"]


# --- the client certificate ----------------------------------------------------------------


@contextmanager
def curious_server(authority: CertificateAuthority) -> Iterator[tuple[RawServer, list[bool]]]:
    """Run a TLS server that asks for a client certificate; the list has whether it got one."""
    shown: list[bool] = []

    def handle(connection: Connection) -> None:
        while connection.read_request() is not None:
            assert isinstance(connection.sock, ssl.SSLSocket)
            shown.append(bool(connection.sock.getpeercert()))
            connection.send(OK_REPLY)

    context = authority.server_context(demand_client_certificate=True)
    context.verify_mode = ssl.CERT_OPTIONAL
    with raw_server(handle, context) as server:
        yield server, shown


def test_the_client_certificate_is_shown_to_the_registry_alone(
    make_client: MakeClient, authority: CertificateAuthority, dns: FakeDNS
) -> None:
    dns.add("registry.test", ["127.0.0.1"])
    with curious_server(authority) as (home, at_home), curious_server(authority) as (away, shown):
        client = make_client(
            verify=authority.bundle,
            client_cert=authority.cert,
            client_key=authority.key,
            home=f"{home.url}/prefix",
        )
        for _ in range(2):
            client.send(build_request(f"{home.url}/v2/"))
            client.send(build_request(f"{away.url}/v2/"))
            client.send(build_request(f"https://registry.test:{away.port}/v2/"))
        assert (at_home, shown) == ([True, True], [False] * 4)
        client.send(build_request(f"https://registry.test:{home.port}/v2/"))
        assert at_home == [True, True, False]  # another name is another origin


def test_a_renewed_client_certificate_is_used(
    make_client: MakeClient, authority: CertificateAuthority, tmp_path: Path
) -> None:
    shown: list[str] = []

    def handle(connection: Connection) -> None:
        while connection.read_request() is not None:
            assert isinstance(connection.sock, ssl.SSLSocket)
            found: Any = connection.sock.getpeercert()
            shown.append(found["subjectAltName"][0][1])
            connection.send(OK_REPLY)

    cert, key, fresh = tmp_path / "client.pem", tmp_path / "client.key", tmp_path / "fresh"

    def replace(file: Path, data: bytes) -> None:  # as programs do that renew certificates
        fresh.write_bytes(data)
        fresh.replace(file)

    old, new = (authority.ca.issue_cert(name) for name in ("old.test", "new.test"))
    replace(cert, old.cert_chain_pems[0].bytes())
    replace(key, old.private_key_pem.bytes())
    context = authority.server_context(demand_client_certificate=True)
    with raw_server(handle, context) as server:
        client = make_client(
            verify=authority.bundle, client_cert=cert, client_key=key, home=server.url
        )

        def send() -> None:
            assert client.send(build_request(server.url))[1] == b"ok"

        send()
        replace(cert, new.cert_chain_pems[0].bytes())
        send()  # the key of the new certificate is missing: the old pair is used
        replace(key, new.private_key_pem.bytes())
        send()
        cert.unlink()
        send()
        replace(cert, old.cert_chain_pems[0].bytes())
        replace(key, old.private_key_pem.bytes())
        send()
        assert shown == ["old.test", "old.test", "new.test", "new.test", "old.test"]
        assert server.connections == 3


def test_an_https_proxy_is_not_shown_the_client_certificate(
    make_client: MakeClient, authority: CertificateAuthority
) -> None:
    with curious_server(authority) as (proxy, shown):
        client = make_client(
            verify=authority.bundle,
            client_cert=authority.cert,
            client_key=authority.key,
            home="http://registry.test",
            proxy=f"https://127.0.0.1:{proxy.port}",
        )
        assert client.send(build_request("http://registry.test/v2/"))[1] == b"ok"
        assert shown == [False]
        with pytest.raises(httpx.TransportError):  # "200 OK" to CONNECT, and then no TLS
            client.send(build_request("https://registry.test/v2/", read=1.0, connect=1.0))
        assert shown == [False, False]


# --- proxies of the environment ------------------------------------------------------------


def test_the_environment_chooses_a_proxy_for_each_request(
    make_client: MakeClient, set_variables: Callable[..., None], dns: FakeDNS
) -> None:
    dns.add("storage.test", ["127.0.0.1"])
    with replying_server(OK_REPLY) as proxy, replying_server(OK_REPLY) as storage:
        set_variables(HTTP_PROXY=f"http://u:p@127.0.0.1:{proxy.port}", NO_PROXY="storage.test")
        client = make_client(environment=True, home="http://registry.test")
        for _ in range(2):
            client.send(build_request("http://registry.test/v2/"))
            client.send(build_request(f"http://storage.test:{storage.port}/x"))
        assert [each.line for each in proxy.requests] == [
            "GET http://registry.test/v2/ HTTP/1.1"
        ] * 2
        assert [each.line for each in storage.requests] == ["GET /x HTTP/1.1"] * 2
        assert proxy.requests[0].header("Proxy-Authorization") == "Basic dTpw"
        assert storage.requests[0].header("Proxy-Authorization") is None
        assert (proxy.connections, storage.connections) == (1, 1)


def test_a_proxy_in_the_settings_is_for_all_requests(
    make_client: MakeClient, set_variables: Callable[..., None]
) -> None:
    with replying_server(OK_REPLY) as proxy, replying_server(OK_REPLY) as server:
        set_variables(HTTP_PROXY="http://127.0.0.1:9", NO_PROXY="*")
        client = make_client(environment=True, proxy=proxy.url, home="http://registry.test")
        client.send(build_request("http://registry.test/v2/"))
        client.send(build_request(f"{server.url}/x"))
        assert (len(proxy.requests), len(server.requests)) == (2, 0)


def test_an_invalid_proxy_in_the_environment_is_named(
    make_client: MakeClient, set_variables: Callable[..., None]
) -> None:
    set_variables(HTTPS_PROXY="socks5://u:hush@127.0.0.1:9")
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        make_client(environment=True, home="https://registry.test")
    assert "hush" not in str(caught.value)
    client = make_client(environment=True, home="http://registry.test")
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        client.send(build_request("https://storage.test/"))


@pytest.mark.parametrize(
    ("entries", "url", "direct"),
    [
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.0.0.0/8", "https://ten.test/", False),
        ("10.0.0.0/8", "https://[::ffff:10.0.0.1]:5000/", True),
        ("10.0.0.0/8", "https://167772161/", True),
        ("10.1.2.3/8", "https://10.9.9.9/", True),
        ("2001:db8::/32", "https://[2001:db8::7]:5000/", True),
        ("2001:db8::/32", "https://[2001:db9::7]/", False),
        ("[2001:db8::]/32", "https://[2001:db8::7]/", True),
        ("10.0.0.300/8", "https://10.0.0.1/", False),
        ("10.0.0.1", "https://10.0.0.1/", True),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/", True),
        ("10.0.0.1:5000", "https://10.0.0.1:5001/", False),
        ("0.0.1", "https://10.0.0.1/", False),
        ("2001:db8::1", "https://[2001:DB8::1]/", True),
        ("[2001:db8::1]:443", "https://[2001:db8::1]/", True),
        ("[2001:db8::1]:443", "https://[2001:db8::1]:5000/", False),
        ("inside.test", "https://registry.INSIDE.test/", True),
        ("inside.test", "https://inside.test./", True),
        ("inside.test", "https://outinside.test/", False),
        (".inside.test", "https://inside.test/", True),
        (".inside.test", "https://a.b.inside.test/", True),
        ("*.inside.test", "https://a.inside.test/", True),
        ("a.test, .inside.test  b.test", "https://b.test/", True),
        ("a.test,*", "https://any.test/", True),
        ("a.test:443", "https://a.test/", True),
        (".inside.test:5000", "https://a.inside.test:5000/", True),
        (".inside.test:5000", "https://a.inside.test/", False),
        (",, ,.", "https://a.test/", False),
    ],
)
def test_no_proxy(set_variables: Callable[..., None], entries: str, url: str, direct: bool) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        set_variables(https_proxy="http://proxy.test:3128", **{name: entries})
        assert environment_proxy(url) == (None if direct else "http://proxy.test:3128")


# --- the limit on connections --------------------------------------------------------------


def test_the_connections_to_several_origins_stay_within_the_limit(make_client: MakeClient) -> None:
    with replying_server(OK_REPLY) as first, replying_server(OK_REPLY) as second:
        client = make_client(max_connections=2)
        for _ in range(20):
            for server in (first, second):
                assert client.send(build_request(server.url, pool=SECONDS))[1] == b"ok"
        assert (first.connections, second.connections) == (1, 1)
