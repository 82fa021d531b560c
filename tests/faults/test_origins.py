"""Credentials are sent to the registry's origin only, whatever URL a reply points to."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from dockhand_testing.http_server import ReceivedRequest, ScriptedServer, reply, scripted_server
from fake_dns import FakeDNS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dockhand_core import ConfigError, Digest, DockhandError, RegistryClient, ResponseInvalid
from dockhand_core.config.files import load_config
from dockhand_core.flow import BytesSource, call
from dockhand_core.http.urls import origin_of, resolve_url
from dockhand_core.models import media

MakeClient = Callable[..., RegistryClient]
DATA = b"data"
DIGEST = Digest.of(DATA)
MANIFEST = b'{"schemaVersion":2,"manifests":[]}'
BASIC = {"driver": "basic", "username": "alice", "password": "s3cret-s3cret"}
OWN = {"X-Team": "registry-only", "Cookie": "session=registry-only"}
TAGS = b'{"tags":["v1"]}'


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> FakeDNS:
    return FakeDNS(monkeypatch)


@pytest.fixture
def other(other: ScriptedServer) -> ScriptedServer:
    """Start a server at another origin, which has the blob DATA at every path."""
    other.handler = lambda request: (
        reply(200, length=4) if request.method == "HEAD" else reply(200, DATA)
    )
    return other


def assert_without_credentials(*requests: ReceivedRequest) -> None:
    """Assert that these requests have neither credentials nor the connection's own headers."""
    assert requests
    for one in requests:
        assert "authorization" not in one.headers
        assert "x-team" not in one.headers
        assert "cookie" not in one.headers
        assert "s3cret" not in one.target
        assert "registry-only" not in repr(one.headers)


def assert_with_credentials(*requests: ReceivedRequest) -> None:
    """Assert that these requests have the credentials and the connection's own headers."""
    assert requests
    for one in requests:
        assert one.headers["authorization"].startswith("Basic ")
        assert one.headers["x-team"] == "registry-only"


def test_another_name_of_the_same_host_is_another_origin(
    make_client: MakeClient, server: ScriptedServer
) -> None:
    """The machine and the port are the same; only the host name differs."""
    elsewhere = server.url.replace("127.0.0.1", "localhost")

    def handler(request: ReceivedRequest) -> bytes:
        if request.headers["host"].startswith("localhost"):
            return reply(200, DATA)
        return reply(307, Location=f"{elsewhere}/x")

    server.handler = handler
    registry = make_client(server.url, auth=BASIC, headers=OWN)
    assert registry.read_blob("a/b", DIGEST) == DATA
    home, away = server.requests
    assert_with_credentials(home)
    assert_without_credentials(away)


def redirect_there_and_back(server: ScriptedServer, other: ScriptedServer) -> None:
    """Let `server` redirect each request to `other`, which redirects it back."""
    other.handler = lambda request: reply(307, Location=f"{server.url}/back")
    server.handler = lambda request: (
        reply(200, DATA) if request.path == "/back" else reply(307, Location=f"{other.url}/x")
    )


def test_a_redirect_that_returns_to_the_registry(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer
) -> None:
    """The headers of each request depend on its own origin, not on the redirects before it."""
    redirect_there_and_back(server, other)
    assert make_client(server.url, auth=BASIC, headers=OWN).read_blob("a/b", DIGEST) == DATA
    assert_with_credentials(*server.requests)
    assert_without_credentials(*other.requests)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_of_every_status(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer, status: int
) -> None:
    server.handler = lambda request: reply(status, Location=f"{other.url}/x?signature=s")
    registry = make_client(server.url, auth=BASIC, headers=OWN)
    assert registry.read_blob("a/b", DIGEST) == DATA
    with registry.open_blob("a/b", DIGEST) as blob:
        assert blob.read() == DATA
    assert registry.blob_size("a/b", DIGEST) == len(DATA)
    assert_with_credentials(*server.requests)
    assert_without_credentials(*other.requests)


def test_a_challenge_from_another_origin(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer
) -> None:
    """A 401 from the target of a redirect is an error; the client does not log in there."""
    other.handler = lambda request: reply(401, WWW_Authenticate='Basic realm="give me"')
    server.handler = lambda request: reply(307, Location=f"{other.url}/x")
    with pytest.raises(DockhandError, match="401"):
        make_client(server.url, auth=BASIC, headers=OWN).read_blob("a/b", DIGEST)
    assert len(other.requests) == 1
    assert_without_credentials(*other.requests)


def test_a_body_follows_a_redirect(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer
) -> None:
    """After a 307, the PUT is sent to the other origin with its body, but without credentials."""
    server.handler = lambda request: reply(307, Location=f"{other.url}/m")
    other.handler = lambda request: reply(201, Location="/x")
    make_client(server.url, auth=BASIC, headers=OWN).put_manifest("a/b", "v1", MANIFEST)
    [away] = other.requests
    assert away.method == "PUT"
    assert away.body == MANIFEST
    assert away.headers["content-type"] == media.OCI_INDEX
    assert_without_credentials(away)


SECRET = "s3cret-of-a-driver"
SECRET_HEADERS = {
    "X-Quayside-Token": SECRET,
    "X-Api-Key": SECRET,
    "Authorization": f"Token {SECRET}",
    "Cookie": f"session={SECRET}",
    "Private-Token": SECRET,
}
BODY_HEADERS = {
    "accept": "application/json",
    "content-type": "application/vnd.acme+json",
    "if-none-match": '"one"',
    "range": "bytes=0-1",
}


def assert_without_headers_of_the_call(*requests: ReceivedRequest) -> None:
    """Assert that these requests have those headers of the call that HTTP needs, and no others."""
    assert requests
    for one in requests:
        assert SECRET not in repr(one.headers)
        assert {name: one.headers.get(name) for name in BODY_HEADERS} == BODY_HEADERS


@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_the_headers_of_a_call_and_a_redirect(
    make_client: MakeClient,
    server: ScriptedServer,
    other: ScriptedServer,
    method: str,
    anonymous: bool,
) -> None:
    """A driver's own secret is for the registry, whatever the name of its header."""
    server.handler = lambda request: reply(307, Location=f"{other.url}/x")
    registry = make_client(server.url, auth=BASIC, upload_origins=[other.url])
    headers = {**SECRET_HEADERS, **BODY_HEADERS}
    registry.run(call(method, "api/labels", headers=headers, anonymous=anonymous))
    [home], [away] = server.requests, other.requests
    for name, value in SECRET_HEADERS.items():
        if name != "Authorization" or anonymous:  # else it is the auth driver's
            assert value in home.headers[name.lower()]
    assert away.method == method
    assert_without_headers_of_the_call(away)
    assert_without_credentials(away)


def test_the_headers_of_a_call_return_with_a_redirect(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer
) -> None:
    redirect_there_and_back(server, other)
    headers = {"X-Quayside-Token": SECRET, **BODY_HEADERS}
    make_client(server.url).run(call("GET", "api/labels", headers=headers))
    assert [one.headers["x-quayside-token"] for one in server.requests] == [SECRET, SECRET]
    assert_without_headers_of_the_call(*other.requests)


def test_the_headers_of_a_call_and_a_url_at_another_origin(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer
) -> None:
    """The URL of a `Location` or a `Link` gets no more than the target of a redirect."""
    headers = {**SECRET_HEADERS, **BODY_HEADERS}
    registry = make_client(server.url, auth=BASIC, headers=OWN, upload_origins=[other.url])
    registry.run(call("GET", f"{other.url}/next?last=a", headers=headers))
    registry.run(call("PUT", f"{other.url}/upload", headers=headers, body=BytesSource(DATA)))
    assert [one.method for one in other.requests] == ["GET", "PUT"]
    assert other.requests[1].body == DATA
    assert_without_headers_of_the_call(*other.requests)
    assert_without_credentials(*other.requests)


def test_a_redirect_that_would_drop_the_body(
    make_client: MakeClient, server: ScriptedServer
) -> None:
    """A 302 would turn the PUT into a GET, which pushes nothing, so it is an error."""
    server.handler = lambda request: reply(302, Location="/elsewhere")
    with pytest.raises(DockhandError, match="302"):
        make_client(server.url).put_manifest("a/b", "v1", MANIFEST)
    assert [one.method for one in server.requests] == ["PUT"]


def test_an_upload_location_at_another_origin(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer, tmp_path: Path
) -> None:
    """Every request of the upload goes to the upload's Location, without credentials."""
    place = f"{other.url}/up/1?_state=s"
    server.handler = lambda request: (
        reply(404) if request.method == "HEAD" else reply(202, Location=place)
    )
    other.handler = lambda request: {
        "PUT": reply(201, Location="/x"),
        "PATCH": reply(202, Location=place),
        "GET": reply(204, Location=place, Range="0-3"),
        "DELETE": reply(204),
    }[request.method]
    registry = make_client(server.url, auth=BASIC, headers=OWN)
    registry.upload_blob("a/b", iter([DATA]))
    (tmp_path / "file").write_bytes(DATA)
    registry.upload_blob("a/b", tmp_path / "file")
    upload = registry.upload_status(registry.start_upload("a/b"))
    registry.cancel_upload(upload)
    assert {one.method for one in other.requests} == {"PUT", "PATCH", "GET", "DELETE"}
    assert_without_credentials(*other.requests)
    assert_with_credentials(*server.requests)


@pytest.mark.parametrize("how", ["upload", "redirect"])
@pytest.mark.parametrize("name", ["127.0.0.1", "inside.test", "localhost", "2130706433"])
def test_uploads_to_private_addresses(
    make_client: MakeClient,
    server: ScriptedServer,
    other: ScriptedServer,
    dns: FakeDNS,
    name: str,
    how: str,
) -> None:
    """A registry with a host name cannot direct a PUT to an address in the client's network.

    It may direct a GET there, which changes nothing.
    """
    dns.add("registry.test", ["127.0.0.1"])
    dns.add("inside.test", ["127.0.0.1"])
    port = urlsplit(other.url).port
    place = f"http://{name}:{port}/up/1?_state=s"
    server.handler = lambda request: {
        "HEAD": reply(404),
        "POST": reply(202, Location=place),
    }.get(request.method, reply(307, Location=place))
    other.handler = lambda request: {
        "PUT": reply(201, Location="/x"),
        "PATCH": reply(202, Location=place),
        "DELETE": reply(202),
    }.get(request.method, reply(200, DATA))
    base = f"http://registry.test:{urlsplit(server.url).port}"
    registry = make_client(base, auth=BASIC, headers=OWN)
    operations: list[Callable[[RegistryClient], object]] = [
        lambda client: client.upload_blob("a/b", DATA),
        lambda client: client.upload_blob("a/b", iter([DATA])),
        lambda client: client.cancel_upload(client.start_upload("a/b")),
    ]
    if how == "redirect":
        operations = [
            lambda client: client.put_manifest("a/b", "v1", MANIFEST),
            lambda client: client.delete_blob("a/b", DIGEST),
        ]
    setting = f"http://{name}:{port}"
    for operation in operations:
        with pytest.raises(ResponseInvalid, match="private address") as caught:
            operation(registry)
        assert f'upload_origins = ["{setting}"]' in str(caught.value)
    assert other.requests == []
    if name != "2130706433":  # aiohttp refuses this spelling
        assert registry.read_blob("a/b", DIGEST) == DATA
        allowed = make_client(base, auth=BASIC, headers=OWN, upload_origins=[setting])
        for operation in operations:
            operation(allowed)
        assert {one.method for one in other.requests} >= {"PUT", "DELETE", "GET"}
        assert_without_credentials(*other.requests)


def test_an_upload_to_another_port_of_the_registry_is_allowed(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer, dns: FakeDNS
) -> None:
    dns.add("registry.test", ["127.0.0.1"])
    place = f"http://registry.test:{urlsplit(other.url).port}/up/1"
    server.handler = lambda request: (
        reply(404) if request.method == "HEAD" else reply(202, Location=place)
    )
    other.handler = lambda request: reply(201, Location="/x")
    registry = make_client(f"http://registry.test:{urlsplit(server.url).port}")
    registry.upload_blob("a/b", DATA)
    assert [one.method for one in other.requests] == ["PUT"]


def test_the_origins_of_uploads_are_checked(make_client: MakeClient) -> None:
    for wrong in ("uploads.test", "ftp://uploads.test", "https://"):
        with pytest.raises(ConfigError, match=r"upload_origins.*each entry is an origin"):
            make_client("http://registry.test", upload_origins=[wrong])


def test_the_origins_of_uploads_in_the_environment(tmp_path: Path) -> None:
    environ = {
        "DOCKHAND_BASE_URI": "http://registry.test",
        "DOCKHAND_CONNECTIONS__DEFAULT__UPLOAD_ORIGINS": "http://a.test, https://b.test:1",
    }
    (tmp_path / "dockhand.toml").write_text("")
    config = load_config(tmp_path / "dockhand.toml", environ)
    assert config.connection()[1].upload_origins == ("http://a.test", "https://b.test:1")


def test_a_proxy_of_the_environment_is_chosen_for_each_url(
    make_client: MakeClient,
    server: ScriptedServer,
    other: ScriptedServer,
    dns: FakeDNS,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The registry is reached without a proxy, and the storage of its blobs through one."""
    dns.add("registry.test", ["127.0.0.1"])
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", other.url)
    monkeypatch.setenv("NO_PROXY", "registry.test")
    server.handler = lambda request: reply(307, Location="http://storage.test/x")
    registry = make_client(f"http://registry.test:{urlsplit(server.url).port}", auth=BASIC)
    assert registry.read_blob("a/b", DIGEST) == DATA
    assert_without_credentials(*other.requests)
    assert [one.target for one in other.requests] == ["http://storage.test/x"]
    assert [one.target for one in server.requests] == [f"/v2/a/b/blobs/{DIGEST}"]


@pytest.mark.parametrize("link", ["<{}/next>; rel=next", '<{}/next>; rel="next"'])
def test_links_to_another_origin(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer, link: str
) -> None:
    """The next page of tags, repositories or referrers is at another origin."""
    pages = {
        "tags": TAGS,
        "_catalog": b'{"repositories":["a"]}',
        "referrers": MANIFEST,
    }

    def page(request: ReceivedRequest) -> bytes:
        body = next(body for name, body in pages.items() if name in request.path)
        return reply(200, body, Link=link.format(other.url))

    server.handler = page
    other.handler = lambda request: reply(200, b'{"schemaVersion":2,"manifests":[],"tags":["v2"]}')
    registry = make_client(server.url, auth=BASIC, headers=OWN)
    assert list(registry.tags("a/b")) == ["v1", "v2"]
    assert list(registry.repositories()) == ["a"]
    assert registry.referrers("a/b", DIGEST).manifests == ()
    assert len(other.requests) == 3
    assert_without_credentials(*other.requests)
    assert_with_credentials(*server.requests)


@pytest.mark.parametrize("what", ["redirect", "upload", "link", "referrers"])
def test_https_never_becomes_http(
    make_client: MakeClient, tmp_path: Path, other: ScriptedServer, what: str
) -> None:
    """A redirect, upload or link to http is refused, even if it is on the same host."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def handler(request: ReceivedRequest) -> bytes:
        if request.method == "POST":
            return reply(202, Location=f"{other.url}/up")
        if request.method == "HEAD":
            return reply(404)
        if what == "redirect":
            return reply(307, Location=f"{other.url}/x")
        return reply(200, MANIFEST, Link=f"<{other.url}/next>; rel=next")

    with scripted_server(handler, context) as server:
        registry = make_client(
            server.url, verify=str(tmp_path / "ca.pem"), auth=BASIC, headers=OWN, retries=0
        )
        operations: dict[str, Callable[[], object]] = {
            "redirect": lambda: registry.read_blob("a/b", DIGEST),
            "upload": lambda: registry.upload_blob("a/b", iter([DATA])),
            "link": lambda: list(registry.tags("a/b")),
            "referrers": lambda: registry.referrers("a/b", DIGEST),
        }
        with pytest.raises(ResponseInvalid, match="https never becomes http"):
            operations[what]()
        assert_with_credentials(*server.requests)
    assert other.requests == []


@pytest.mark.parametrize(
    "target",
    [
        "//{away}/x",
        "///{away}/x",
        "http://{home}@{away}/x",
        "http://{away}\\@{home}/x",
        "http://{home}\\@{away}/x",
        "http:\\\\{away}\\x",
        "HTTP://{away}/x",
        "http://{away}#@{home}/",
        "http://{away}?@{home}/",
        "http://{home}.{away}/x",
        "http:/{away}/x",
        "\thttp://{away}/x",
        " //{away}/x",
        "http://{home}%40{away}/x",
        "http://{home}%2f@{away}/x",
        "http://[::ffff:127.0.0.1]:{port}/x",
        "file:///etc/passwd",
        "gopher://{away}/x",
    ],
)
def test_oddly_written_redirect_targets(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer, target: str
) -> None:
    """However the URL of another origin is written, that origin gets no credentials."""
    away, home = (urlsplit(one.url).netloc for one in (other, server))
    place = target.format(away=away, home=home, port=away.rpartition(":")[2])

    def handler(request: ReceivedRequest) -> bytes:
        return reply(307, Location=place) if request.path.startswith("/v2/") else reply(404)

    server.handler = handler
    registry = make_client(server.url, auth=BASIC, headers=OWN, retries=0, timeout=1.0)
    try:
        assert registry.read_blob("a/b", DIGEST) == DATA
    except DockhandError as error:
        assert "s3cret" not in str(error)
    if other.requests:
        assert_without_credentials(*other.requests)


HOSTS = st.text("regist.y:80@\\/?#[]%2f\t １。", max_size=24)


@settings(deadline=None, max_examples=400)
@given(HOSTS, HOSTS)
@example("registry:80\\", "@evil/")
@example("registry:80", "\\@evil/")
@example("evil#@registry:80", "/")
@example("registry:80%2f@evil", "/")
def test_both_url_parsers_see_the_same_origin(host: str, rest: str) -> None:
    """If Dockhand takes a URL for the registry's origin, httpx connects to the registry for it.

    Dockhand finds the origin with urllib; httpx parses the URL by itself.
    """
    try:
        url = resolve_url("http://registry:80/v2/", f"http://{host}{rest}")
        at_home = origin_of(url) == ("http", "registry", 80)
        parsed = httpx.URL(url)
    except (DockhandError, ValueError, httpx.InvalidURL):
        return
    if at_home:
        assert parsed.host == "registry"
        assert parsed.port in (None, 80)
