"""Retries, redirects, and limits on time, size and the number of pages."""

from __future__ import annotations

import json
import ssl
import time
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from dockhand_testing.http_server import (
    CUT,
    HANG,
    ReceivedRequest,
    ScriptedServer,
    Step,
    Wait,
    reply,
    scripted_server,
)
from raw_servers import refusing_port

from dockhand_core import (
    ConnectionFailed,
    Digest,
    DigestMismatch,
    DockhandError,
    ManifestUnknown,
    RegistryClient,
    ResponseInvalid,
    ResponseTooLarge,
    ServerError,
    Timeout,
    TooManyRequests,
    connect,
)
from dockhand_core.flow import RetryPolicy

MakeClient = Callable[..., RegistryClient]
TAGS = json.dumps({"name": "a/b", "tags": ["v1"]}).encode()
BASIC = {"driver": "basic", "username": "alice", "password": "s3cret-s3cret"}
DATA = b"data"
DIGEST = Digest.of(DATA)


def replies_in_turn(first: Sequence[bytes | list[Step]], then: bytes = reply(200, TAGS)) -> Any:
    """Make a handler that sends the replies in `first`, one for each request, and then `then`."""
    waiting = iter(first)
    return lambda request: next(waiting, then)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_statuses_that_are_retried(
    make_client: MakeClient, server: ScriptedServer, status: int
) -> None:
    server.handler = replies_in_turn([reply(status), reply(status)])
    assert list(make_client(server.url).tags("a/b")) == ["v1"]
    assert len(server.requests) == 3


def test_errors_that_are_not_retried(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = replies_in_turn([reply(500, b"broken")])
    with pytest.raises(ServerError, match="500: broken"):
        list(make_client(server.url).tags("a/b"))
    server.handler = replies_in_turn([reply(503)])
    with pytest.raises(ServerError):
        list(make_client(server.url, retries=0).tags("a/b"))
    assert len(server.requests) == 2


def test_retries_end(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = lambda request: reply(503)
    with pytest.raises(ServerError) as caught:
        list(make_client(server.url, retries=2).tags("a/b"))
    assert caught.value.attempts == len(server.requests) == 3


def test_retry_after_in_seconds(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = replies_in_turn([reply(429, Retry_After="1")])
    start = time.monotonic()
    assert list(make_client(server.url).tags("a/b")) == ["v1"]
    assert time.monotonic() - start >= 1.0


def test_retry_after_as_a_date(make_client: MakeClient, server: ScriptedServer) -> None:
    then = datetime.now(UTC) + timedelta(seconds=1.0)
    server.handler = replies_in_turn([reply(503, Retry_After=format_datetime(then, usegmt=True))])
    assert list(make_client(server.url).tags("a/b")) == ["v1"]
    assert datetime.now(UTC) >= then.replace(microsecond=0)


def test_a_long_retry_after_is_an_error(make_client: MakeClient, server: ScriptedServer) -> None:
    """The client raises instead of waiting for an hour."""
    server.handler = lambda request: reply(429, Retry_After="3600")
    with pytest.raises(TooManyRequests) as caught:
        list(make_client(server.url).tags("a/b"))
    assert caught.value.retry_after == 3600
    assert len(server.requests) == 1


def test_a_cut_connection_is_retried(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = replies_in_turn(
        [[CUT], [reply(200, TAGS)[:30], CUT], [reply(200, TAGS)[:-3], CUT]]
    )
    assert list(make_client(server.url).tags("a/b")) == ["v1"]
    assert len(server.requests) == 4


def test_a_retry_sends_the_body_again(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = replies_in_turn([[CUT], reply(503)], reply(201, Location="/x"))
    manifest = b'{"schemaVersion":2,"config":{"mediaType":"x/y","digest":"%s","size":4}}' % (
        DIGEST.encode()
    )
    make_client(server.url).put_manifest("a/b", "v1", manifest)
    assert [one.body for one in server.requests] == [manifest] * 3


def test_a_lost_reply_to_a_deletion(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = replies_in_turn([[CUT]], reply(404))
    make_client(server.url).delete_blob("a/b", DIGEST)
    with pytest.raises(ManifestUnknown):
        make_client(server.url).delete_tag("a/b", "v1")


def test_a_refused_connection(make_client: MakeClient) -> None:
    with refusing_port() as port:
        url = f"http://127.0.0.1:{port}"
        registry = make_client(url, retries=1)
        assert registry.is_online() is False
        with pytest.raises(ConnectionFailed, match=f"GET {url}/v2/"):
            registry.ping()


def test_is_online_is_not_retried(make_client: MakeClient, server: ScriptedServer) -> None:
    """The caller asks for the present state, so the client does not wait for the registry."""
    with refusing_port() as port:
        registry = make_client(f"http://127.0.0.1:{port}", retries=5)
        registry.driver.retry = RetryPolicy(5, base=60.0, cap=60.0)
        getattr(registry, "_inner", registry)._runner.endpoint.retry = registry.driver.retry
        start = time.monotonic()
        assert registry.is_online() is False
        assert time.monotonic() - start < 20  # the first retry would wait for 30 seconds
    server.handler = lambda request: reply(503)
    assert make_client(server.url).is_online() is False
    server.handler = lambda request: reply(429, Retry_After="30")
    assert make_client(server.url).is_online() is True
    assert len(server.requests) == 2


def test_silence_is_a_timeout(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = lambda request: [HANG]
    with pytest.raises(Timeout, match="/v2/a/b/tags/list"):
        list(make_client(server.url, timeout=0.2, retries=0).tags("a/b"))


def test_a_body_that_trickles_is_a_timeout(make_client: MakeClient, server: ScriptedServer) -> None:
    """Each byte arrives within the timeout, but the whole body takes too long."""
    body = [step for byte in TAGS * 16 for step in (bytes([byte]), Wait(0.05))]
    server.handler = lambda request: [reply(200, length=len(TAGS) * 16), *body]
    start = time.monotonic()
    with pytest.raises(Timeout, match="too slowly"):
        list(make_client(server.url, timeout=1.0, retries=0).tags("a/b"))
    assert time.monotonic() - start < 15  # the whole body would take more than 20 seconds


def same_reply(steps: list[Step], _: ReceivedRequest) -> list[Step]:
    """Reply to every request with these steps."""
    return steps


def test_body_of_100_mib(make_client: MakeClient, server: ScriptedServer) -> None:
    """The client expects a short JSON document, and stops reading a body that is so large."""
    block = b"[" * (1 << 20)
    endless: list[Step] = [reply(200, length=100 << 20), *[block] * 100]
    server.handler = lambda request: endless
    without_length = [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", *[block] * 100, CUT]
    tracemalloc.start()
    try:
        for steps in (endless, without_length):
            server.handler = partial(same_reply, steps)
            registry = make_client(server.url, retries=0)
            with pytest.raises(ResponseTooLarge):
                list(registry.tags("a/b"))
            with pytest.raises(ResponseTooLarge):
                registry.manifest("a/b", "v1")
            with pytest.raises(ResponseTooLarge, match="larger than 1000 bytes"):
                registry.read_blob("a/b", DIGEST, max_size=1000)
        server.handler = lambda request: [reply(500, length=100 << 20), *[block] * 100]
        with pytest.raises(ServerError):
            make_client(server.url, retries=0).ping()
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_gzip_bomb(make_client: MakeClient, server: ScriptedServer) -> None:
    bomb = zlib.compress(bytes(50 << 20), 9, wbits=31)
    server.handler = lambda request: reply(200, bomb, Content_Encoding="gzip")
    registry = make_client(server.url, retries=0)
    for operation in (lambda: list(registry.tags("a/b")), lambda: registry.manifest("a/b", "v1")):
        with pytest.raises(ResponseInvalid, match="gzip"):
            operation()
    with pytest.raises(DigestMismatch):  # a blob is judged by its digest
        registry.read_blob("a/b", DIGEST)
    assert {one.headers["accept-encoding"] for one in server.requests} == {"identity"}


def test_endless_pages(make_client: MakeClient, server: ScriptedServer) -> None:
    same = '</v2/a/b/tags/list?last=v1&n=1>; rel="next"'
    server.handler = lambda request: reply(200, TAGS, Link=same)
    with pytest.raises(ResponseInvalid, match="circle"):
        list(make_client(server.url).tags("a/b"))

    def empty(request: ReceivedRequest) -> bytes:
        following = f'</v2/a/b/tags/list?last={len(server.requests)}>; rel="next"'
        return reply(200, b'{"tags":null}', Link=following)

    server.handler = empty
    with pytest.raises(ResponseInvalid, match="circle"):
        list(make_client(server.url).tags("a/b"))
    repeated = iter(range(10**9))
    server.handler = lambda request: reply(200, TAGS, Link=f"</v2/?x={next(repeated)}>; rel=next")
    with pytest.raises(ResponseInvalid, match="circle"):
        list(make_client(server.url).tags("a/b"))


@pytest.fixture
def other(other: ScriptedServer) -> ScriptedServer:
    """Start a server at another origin, which has the blob DATA at every path."""
    other.handler = lambda request: reply(200, DATA)
    return other


def test_a_redirect_to_another_origin_gets_no_credentials(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer
) -> None:
    server.handler = lambda request: reply(307, Location=f"{other.url}/somewhere?signature=abc")
    registry = make_client(server.url, auth=BASIC, headers={"X-Team": "registry-only"})
    assert registry.read_blob("a/b", DIGEST) == DATA
    [home], [away] = server.requests, other.requests
    assert home.headers["authorization"].startswith("Basic ")
    assert home.headers["x-team"] == "registry-only"
    assert "authorization" not in away.headers
    assert "x-team" not in away.headers
    assert away.target == "/somewhere?signature=abc"


def test_an_upload_location_at_another_origin_gets_no_credentials(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer
) -> None:
    other.handler = lambda request: reply(201, Location="/x")
    server.handler = lambda request: (
        reply(404) if request.method == "HEAD" else reply(202, Location=f"{other.url}/up?_state=s")
    )
    make_client(server.url, auth=BASIC).upload_blob("a/b", DATA)
    [away] = other.requests
    assert away.body == DATA
    assert away.target == f"/up?_state=s&digest={DIGEST.replace(':', '%3A')}"
    assert "authorization" not in away.headers


def test_a_link_to_another_origin_gets_no_credentials(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer
) -> None:
    other.handler = lambda request: reply(200, b'{"tags":["v2"]}')
    server.handler = lambda request: reply(200, TAGS, Link=f'<{other.url}/next>; rel="next"')
    assert list(make_client(server.url, auth=BASIC).tags("a/b")) == ["v1", "v2"]
    assert "authorization" not in other.requests[0].headers


def test_a_redirect_within_the_origin(make_client: MakeClient, server: ScriptedServer) -> None:
    """The redirected request has the same credentials and the same body."""
    server.handler = lambda request: (
        reply(201, Location="/x") if request.path == "/new" else reply(307, Location="/new")
    )
    manifest = b'{"schemaVersion":2,"manifests":[]}'
    make_client(server.url, auth=BASIC).put_manifest("a/b", "v1", manifest)
    first, second = server.requests
    assert first.headers["authorization"] == second.headers["authorization"]
    assert second.body == manifest


def test_redirects_in_a_circle(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = lambda request: reply(302, Location=request.target)
    with pytest.raises(ResponseInvalid, match="more than 5 redirects"):
        list(make_client(server.url).tags("a/b"))


def test_https_never_becomes_http(
    make_client: MakeClient, tmp_path: Path, other: ScriptedServer
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with scripted_server(lambda request: reply(307, Location=f"{other.url}/x"), context) as server:
        registry = make_client(server.url, verify=str(tmp_path / "ca.pem"), auth=BASIC)
        for operation in (
            lambda: list(registry.tags("a/b")),
            lambda: registry.read_blob("a/b", DIGEST),
        ):
            with pytest.raises(ResponseInvalid, match="https never becomes http"):
                operation()
        server.handler = lambda request: reply(202, Location=f"{other.url}/x")
        upload = registry.start_upload("a/b")
        with pytest.raises(ResponseInvalid, match="X-Forwarded-Proto"):
            registry.upload_chunk(upload, b"data")
        assert other.requests == []
        untrusting = make_client(server.url)
        with pytest.raises(ConnectionFailed, match=r"(?i)certificate"):
            untrusting.ping()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc Said\r\n\r\n",
        b"HTTP/1.1 999 Said\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        reply(200, b"{}", length=-5),
        reply(200, b"{}", length="many"),
        reply(200, b"", Content_Type="application/json"),
        reply(200, b"null"),
        reply(200, b"[]"),
        reply(200, b'{"tags":5,"repositories":{},"manifests":3}'),
        reply(200, b"\xff\xfe", Docker_Content_Digest="nonsense"),
        reply(200, b"[" * 100_000),
        reply(200, b"{}", Docker_Content_Digest="sha256:" + "0" * 64),
        reply(206, DATA, Content_Range="bytes 7-3/x"),
        reply(204),
        reply(301),
        reply(302, Location="http://[::bad/"),
        reply(302, Location="javascript:alert(1)"),
        reply(302, Location="http://a:99999999/"),
        reply(404, b"<html><title>No such page</title>", Content_Type="text/html"),
        reply(404, b'{"errors":"none"}'),
        reply(404, b'{"errors":[null,{"code":5},{"code":"X","message":{"a":1}}]}'),
        reply(401, WWW_Authenticate='Bearer realm="', Retry_After="soon"),
        reply(403, bytes(range(256))),
        reply(418, b"teapot"),
    ],
)
def test_malformed_replies(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, answer: bytes
) -> None:
    """Each operation returns, or raises a Dockhand error that shows no secret."""
    server.handler = lambda request: [answer, CUT] if request.method != "HEAD" else [answer]
    registry = make_client(server.url, retries=0, timeout=0.5, auth=BASIC)
    operations: list[Callable[[], object]] = [
        registry.ping,
        lambda: list(registry.tags("a/b")),
        lambda: registry.tag_page("a/b"),
        lambda: list(registry.repositories()),
        lambda: registry.manifest("a/b", "v1"),
        lambda: registry.manifest_head("a/b", "v1"),
        lambda: registry.read_blob("a/b", DIGEST),
        lambda: registry.download_blob("a/b", DIGEST, tmp_path / "blob"),
        lambda: registry.blob_size("a/b", DIGEST),
        lambda: registry.referrers("a/b", DIGEST),
        lambda: registry.upload_blob("a/b", DATA),
        lambda: registry.upload_blob("a/b", iter([DATA])),
        lambda: registry.mount_blob("a/b", DIGEST, "a/c"),
        lambda: registry.delete_tag("a/b", "v1"),
        lambda: registry.delete_manifest("a/b", DIGEST),
        registry.api_version,
    ]
    errors: list[DockhandError] = []
    for operation in operations:
        try:
            operation()
        except DockhandError as error:
            errors.append(error)
    assert len(errors) >= 7
    for raised in errors:
        assert "s3cret" not in repr(raised)
        assert "YWxpY2U6" not in repr(raised)  # base64 of `alice:`
        assert len(str(raised)) < 2000
        assert str(raised).isprintable()
    if (tmp_path / "blob").exists():
        assert (tmp_path / "blob").read_bytes() == DATA


def test_threads(server: ScriptedServer) -> None:
    """The threads share one client and its few connections."""
    server.handler = lambda request: reply(200, TAGS)
    with (
        connect(server.url, max_connections=4, logging={"driver": "null"}) as registry,
        ThreadPoolExecutor(16) as pool,
    ):
        found = list(pool.map(lambda _: list(registry.tags("a/b")), range(200)))
    assert found == [["v1"]] * 200
    assert server.connections < 16
