"""Credentials stay at home, whatever a registry says where to go next."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted_server import Asked, Scripted, reply, scripted

from dockhand_core import Digest, DockhandError, RegistryClient, ResponseInvalid
from dockhand_core.http.urls import origin_of, resolve_url
from dockhand_core.models import media

Opened = Callable[..., RegistryClient]
DATA = b"data"
DIGEST = Digest.of(DATA)
MANIFEST = b'{"schemaVersion":2,"manifests":[]}'
BASIC = {"driver": "basic", "username": "alice", "password": "s3cret-s3cret"}
OWN = {"X-Team": "registry-only", "Cookie": "session=registry-only"}
TAGS = b'{"tags":["v1"]}'


@pytest.fixture(scope="module")
def one_other() -> Iterator[Scripted]:
    with scripted() as found:
        yield found


@pytest.fixture
def other(one_other: Scripted) -> Scripted:
    """Another origin; one for all tests, since ending one takes time."""
    one_other.asked = []
    one_other.handler = lambda asked: (
        reply(200, length=4) if asked.method == "HEAD" else reply(200, DATA)
    )
    return one_other


def assert_bare(*asked: Asked) -> None:
    """Neither credentials nor the connection's own headers arrived."""
    assert asked
    for one in asked:
        assert "authorization" not in one.headers
        assert "x-team" not in one.headers
        assert "cookie" not in one.headers
        assert "s3cret" not in one.target
        assert "registry-only" not in repr(one.headers)


def assert_full(*asked: Asked) -> None:
    """They did arrive at home, or the test proves nothing."""
    assert asked
    for one in asked:
        assert one.headers["authorization"].startswith("Basic ")
        assert one.headers["x-team"] == "registry-only"


def test_another_name_of_this_host(opened: Opened, server: Scripted) -> None:
    """The same port and machine by another name is another origin."""
    elsewhere = server.url.replace("127.0.0.1", "localhost")

    def handler(asked: Asked) -> bytes:
        if asked.headers["host"].startswith("localhost"):
            return reply(200, DATA)
        return reply(307, Location=f"{elsewhere}/x")

    server.handler = handler
    registry = opened(server.url, auth=BASIC, headers=OWN)
    assert registry.read_blob("a/b", DIGEST) == DATA
    home, away = server.asked
    assert_full(home)
    assert_bare(away)


def test_there_and_back(opened: Opened, server: Scripted, other: Scripted) -> None:
    """A redirect that comes home again: nothing of the way between stays on the request."""
    other.handler = lambda asked: reply(307, Location=f"{server.url}/back")
    server.handler = lambda asked: (
        reply(200, DATA) if asked.path == "/back" else reply(307, Location=f"{other.url}/x")
    )
    assert opened(server.url, auth=BASIC, headers=OWN).read_blob("a/b", DIGEST) == DATA
    assert_full(*server.asked)
    assert_bare(*other.asked)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_redirect(opened: Opened, server: Scripted, other: Scripted, status: int) -> None:
    server.handler = lambda asked: reply(status, Location=f"{other.url}/x?signature=s")
    registry = opened(server.url, auth=BASIC, headers=OWN)
    assert registry.read_blob("a/b", DIGEST) == DATA
    with registry.open_blob("a/b", DIGEST) as blob:
        assert blob.read() == DATA
    assert registry.blob_size("a/b", DIGEST) == len(DATA)
    assert_full(*server.asked)
    assert_bare(*other.asked)


def test_a_challenge_from_elsewhere(opened: Opened, server: Scripted, other: Scripted) -> None:
    """A 401 behind a redirect is an answer, not a reason to log in there."""
    other.handler = lambda asked: reply(401, WWW_Authenticate='Basic realm="give me"')
    server.handler = lambda asked: reply(307, Location=f"{other.url}/x")
    with pytest.raises(DockhandError, match="401"):
        opened(server.url, auth=BASIC, headers=OWN).read_blob("a/b", DIGEST)
    assert len(other.asked) == 1
    assert_bare(*other.asked)


def test_body_goes_where_the_redirect_leads(
    opened: Opened, server: Scripted, other: Scripted
) -> None:
    """307 with a body: the same body arrives, without credentials."""
    server.handler = lambda asked: reply(307, Location=f"{other.url}/m")
    other.handler = lambda asked: reply(201, Location="/x")
    opened(server.url, auth=BASIC, headers=OWN).put_manifest("a/b", "v1", MANIFEST)
    [away] = other.asked
    assert away.method == "PUT"
    assert away.body == MANIFEST
    assert away.headers["content-type"] == media.OCI_INDEX
    assert_bare(away)


def test_a_body_is_not_dropped(opened: Opened, server: Scripted) -> None:
    """302 would turn a PUT into a GET: that is no push, so it is an error."""
    server.handler = lambda asked: reply(302, Location="/elsewhere")
    with pytest.raises(DockhandError, match="302"):
        opened(server.url).put_manifest("a/b", "v1", MANIFEST)
    assert [one.method for one in server.asked] == ["PUT"]


def test_chunks_at_another_place(
    opened: Opened, server: Scripted, other: Scripted, tmp_path: Path
) -> None:
    """Every request of an upload whose Location is elsewhere."""
    place = f"{other.url}/up/1?_state=s"
    server.handler = lambda asked: (
        reply(404) if asked.method == "HEAD" else reply(202, Location=place)
    )
    other.handler = lambda asked: {
        "PUT": reply(201, Location="/x"),
        "PATCH": reply(202, Location=place),
        "GET": reply(204, Location=place, Range="0-3"),
        "DELETE": reply(204),
    }[asked.method]
    registry = opened(server.url, auth=BASIC, headers=OWN)
    registry.upload_blob("a/b", iter([DATA]))
    (tmp_path / "file").write_bytes(DATA)
    registry.upload_blob("a/b", tmp_path / "file")
    upload = registry.upload_status(registry.start_upload("a/b"))
    registry.cancel_upload(upload)
    assert {one.method for one in other.asked} == {"PUT", "PATCH", "GET", "DELETE"}
    assert_bare(*other.asked)
    assert_full(*server.asked)


@pytest.mark.parametrize("link", ["<{}/next>; rel=next", '<{}/next?last=v1&n=1>; rel="next"'])
def test_links(opened: Opened, server: Scripted, other: Scripted, link: str) -> None:
    """Tags, repositories and referrers that go on elsewhere."""
    pages = {
        "tags": TAGS,
        "_catalog": b'{"repositories":["a"]}',
        "referrers": MANIFEST,
    }

    def page(asked: Asked) -> bytes:
        body = next(body for name, body in pages.items() if name in asked.path)
        return reply(200, body, Link=link.format(other.url))

    server.handler = page
    other.handler = lambda asked: reply(200, b'{"schemaVersion":2,"manifests":[],"tags":["v2"]}')
    registry = opened(server.url, auth=BASIC, headers=OWN)
    assert list(registry.tags("a/b")) == ["v1", "v2"]
    assert list(registry.repositories()) == ["a"]
    assert registry.referrers("a/b", DIGEST).manifests == ()
    assert len(other.asked) == 3
    assert_bare(*other.asked)
    assert_full(*server.asked)


@pytest.mark.parametrize("what", ["redirect", "upload", "link", "referrers"])
def test_https_never_becomes_http(
    opened: Opened, tmp_path: Path, other: Scripted, what: str
) -> None:
    """Not even to the very host, for nothing may be sent in the clear."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def handler(asked: Asked) -> bytes:
        if asked.method == "POST":
            return reply(202, Location=f"{other.url}/up")
        if asked.method == "HEAD":
            return reply(404)
        if what == "redirect":
            return reply(307, Location=f"{other.url}/x")
        return reply(200, MANIFEST, Link=f"<{other.url}/next>; rel=next")

    with scripted(handler, context) as server:
        registry = opened(
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
        assert_full(*server.asked)
    assert other.asked == []


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
def test_odd_targets(opened: Opened, server: Scripted, other: Scripted, target: str) -> None:
    """However it is written, what is not the registry's origin gets nothing."""
    away, home = (urlsplit(one.url).netloc for one in (other, server))
    place = target.format(away=away, home=home, port=away.rpartition(":")[2])

    def handler(asked: Asked) -> bytes:
        return reply(307, Location=place) if asked.path.startswith("/v2/") else reply(404)

    server.handler = handler
    registry = opened(server.url, auth=BASIC, headers=OWN, retries=0, timeout=1.0)
    try:
        assert registry.read_blob("a/b", DIGEST) == DATA
    except DockhandError as error:
        assert "s3cret" not in str(error)
    if other.asked:
        assert_bare(*other.asked)


HOSTS = st.text("regist.y:80@\\/?#[]%2f\t １。", max_size=24)


@settings(deadline=None, max_examples=400)
@given(HOSTS, HOSTS)
@example("registry:80\\", "@evil/")
@example("registry:80", "\\@evil/")
@example("evil#@registry:80", "/")
@example("registry:80%2f@evil", "/")
def test_two_parsers_agree(host: str, rest: str) -> None:
    """What is taken to be at home is what the transport connects to.

    The origin is read by urllib, the connection is made by what httpx reads of the same text.
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
