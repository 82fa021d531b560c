"""Malformed and stalling replies: every transport turns them into Dockhand's errors."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from dockhand_testing.http_server import CUT, HANG, ScriptedServer, Step, Wait, reply
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dockhand_core import Digest, DockhandError, RegistryClient, Timeout, async_connect
from dockhand_core.flow import RetryPolicy
from dockhand_core.http.transports import ASYNC_TRANSPORTS

MakeClient = Callable[..., RegistryClient]
DATA = b"data"
DIGEST = Digest.of(DATA)
TAGS = b'{"name":"a/b","tags":["v1"]}'
BASIC = {"driver": "basic", "username": "alice", "password": "s3cret-s3cret"}
TAGS_REPLY = reply(200, TAGS)
SECONDS = 15.0  # seconds; an operation that takes longer counts as hanging


@pytest.fixture
def registry(make_client: MakeClient, server: ScriptedServer) -> RegistryClient:
    """Connect a client that does not retry."""
    return make_client(server.url, retries=0, timeout=2.0, auth=BASIC)


def operations(registry: RegistryClient, folder: Path) -> dict[str, Callable[[], object]]:
    """Return operations by name; each of them parses replies differently."""
    return {
        "ping": registry.ping,
        "online": registry.is_online,
        "version": registry.api_version,
        "repositories": lambda: list(registry.repositories(page_size=3)),
        "tags": lambda: list(registry.tags("a/b")),
        "manifest": lambda: registry.manifest("a/b", "v1"),
        "by digest": lambda: registry.manifest("a/b", DIGEST),
        "head": lambda: registry.manifest_head("a/b", "v1"),
        "exists": lambda: registry.manifest_exists("a/b", DIGEST),
        "image": lambda: registry.image("a/b", "v1"),
        "referrers": lambda: registry.referrers("a/b", DIGEST),
        "read": lambda: registry.read_blob("a/b", DIGEST),
        "size": lambda: registry.blob_size("a/b", DIGEST),
        "download": lambda: registry.download_blob("a/b", DIGEST, folder / "blob"),
        "open": lambda: read_opened_blob(registry),
        "upload": lambda: registry.upload_blob("a/b", DATA),
        "stream": lambda: registry.upload_blob("a/b", iter([DATA])),
        "by hand": lambda: registry.upload_status(registry.start_upload("a/b")),
        "mount": lambda: registry.mount_blob("a/b", DIGEST, "a/c"),
        "put": lambda: registry.put_manifest("a/b", "v1", b'{"schemaVersion":2,"manifests":[]}'),
        "delete": lambda: registry.delete_tag("a/b", "v1"),
    }


def read_opened_blob(registry: RegistryClient) -> bytes:
    """Read the blob DIGEST with `open_blob`."""
    with registry.open_blob("a/b", DIGEST) as blob:
        return blob.read()


def assert_harmless(operation: Callable[[], object]) -> None:
    """Assert that an operation returns, or raises a Dockhand error with one printable line.

    The line must contain no secret.
    """
    start = time.monotonic()
    try:
        operation()
    except DockhandError as error:
        text = f"{error!s} {error!r}"
        assert "s3cret" not in text
        assert "YWxpY2U6" not in text  # base64 of `alice:`
        assert len(str(error)) < 2000
        assert str(error).isprintable()
        assert str(error)
    assert time.monotonic() - start < SECONDS


def raw_reply(*lines: str, status: str = "200 OK", body: bytes = b"") -> bytes:
    """Return the bytes of a reply with exactly these header lines."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body


MANY_DIGITS = "1" * 5000
DEEP_JSON = b'{"errors":[{"code":"X","message":' + b"[" * 900 + b"]" * 900 + b"}]}"
ODD_REPLIES: dict[str, bytes] = {
    "two lengths": raw_reply("Content-Length: 3", "Content-Length: 28", body=TAGS),
    "the same length twice": raw_reply("Content-Length: 28", "Content-Length: 28", body=TAGS),
    "length with a plus": raw_reply("Content-Length: +28", body=TAGS),
    "length in hex": raw_reply("Content-Length: 0x1c", body=TAGS),
    "length of 5000 digits": raw_reply(f"Content-Length: {MANY_DIGITS}", body=TAGS),
    "length in Arabic digits": raw_reply("Content-Length: \xd9\xa2", body=TAGS),
    "length and chunks": raw_reply(
        "Content-Length: 3", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "chunk sizes that are no numbers": raw_reply(
        "Transfer-Encoding: chunked", body=b"xyz\r\n{}\r\n"
    ),
    "a negative chunk size": raw_reply("Transfer-Encoding: chunked", body=b"-5\r\n{}\r\n0\r\n\r\n"),
    "a chunk shorter than its size": raw_reply(
        "Transfer-Encoding: chunked", body=b"40\r\n{}\r\n0\r\n\r\n"
    ),
    "a chunk of 2^70": raw_reply("Transfer-Encoding: chunked", body=b"4" + b"0" * 17 + b"\r\n{}"),
    "an endless chunk size": raw_reply("Transfer-Encoding: chunked", body=b"0" * 100_000),
    "another transfer encoding": raw_reply("Transfer-Encoding: gzip", body=TAGS),
    "no end of chunks": raw_reply("Transfer-Encoding: chunked", body=b"1c\r\n" + TAGS + b"\r\n"),
    "trailers": raw_reply("Transfer-Encoding: chunked", body=b"0\r\nX: " + b"y" * 2000),
    "a body falsely said to be deflated": raw_reply(
        "Content-Encoding: deflate", "Content-Length: 28", body=TAGS
    ),
    "two encodings": raw_reply("Content-Encoding: gzip, br", "Content-Length: 28", body=TAGS),
    "empty encoding": raw_reply("Content-Encoding: ", "Content-Length: 28", body=TAGS),
    "a header without a name": raw_reply(": x", "Content-Length: 28", body=TAGS),
    "a header without a colon": raw_reply("nonsense", "Content-Length: 28", body=TAGS),
    "a folded header": raw_reply("X: a", " b", "Content-Length: 28", body=TAGS),
    "a space before the colon": raw_reply("Content-Length : 28", body=TAGS),
    "a NUL in a header": raw_reply("X: a\0b", "Content-Length: 28", body=TAGS),
    "bytes beyond ASCII in headers": raw_reply(
        "Location: /\xff\xfe\x80", "Link: <\xe4>; rel=next", status="202 X"
    ),
    "a huge header": raw_reply("X: " + "y" * 300_000, "Content-Length: 28", body=TAGS),
    "a huge link": raw_reply("Link: " + "<a>;rel=x," * 9000, "Content-Length: 28", body=TAGS),
    "many headers": raw_reply(*[f"X-{n}: y" for n in range(2000)], "Content-Length: 28", body=TAGS),
    "a version of 5000 digits": raw_reply(
        f"Docker-Distribution-Api-Version: registry/{MANY_DIGITS}.0",
        "Content-Length: 28",
        body=TAGS,
    ),
    "a range of 5000 digits": raw_reply(
        f"Range: 0-{MANY_DIGITS}", "Location: /v2/x", "Content-Length: 0", status="202 X"
    ),
    "a minimum of 5000 digits": raw_reply(
        f"OCI-Chunk-Min-Length: {MANY_DIGITS}",
        "Location: /v2/x",
        "Content-Length: 0",
        status="202 X",
    ),
    "a Retry-After of 5000 digits": raw_reply(
        f"Retry-After: {MANY_DIGITS}", "Content-Length: 0", status="429 X"
    ),
    "a Retry-After in the year 9999": raw_reply(
        "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", "Content-Length: 0", status="429 X"
    ),
    "a Retry-After that is no date": raw_reply(
        "Retry-After: Xxx, 99 Xxx 99999 99:99:99 +9999", "Content-Length: 0", status="429 X"
    ),
    "a huge request id": raw_reply(
        "X-Request-Id: " + "z" * 50_000, "Content-Length: 0", status="404 X"
    ),
    "huge challenges": raw_reply(
        "WWW-Authenticate: " + "Basic " * 5000, "Content-Length: 0", status="401 X"
    ),
    "a secret in a bad Location": raw_reply(
        "Location: http://[x/?_state=s3cret", "Content-Length: 0", status="307 X"
    ),
    "control characters in a Location": raw_reply(
        "Location: /v2/\x1b[2J\x08?n=1", "Content-Length: 0", status="202 X"
    ),
    "an error message made of lists": reply(400, DEEP_JSON),
    "an error detail made of lists": reply(400, DEEP_JSON.replace(b"message", b"detail")),
    "a number of 6000 digits": reply(200, b'{"tags":[' + b"9" * 6000 + b"]}"),
    "a lone surrogate": reply(200, b'{"tags":["\\ud800"],"repositories":["\\ud800"]}'),
    "a lone surrogate in an error": reply(400, b'{"errors":[{"code":"X","message":"\\ud800"}]}'),
    "a control character in an error": reply(400, b"\x1b[2J\x07 gone \xe2\x80\xae"),
    "UTF-16": reply(200, '{"tags":["v1"]}'.encode("utf-16")),
    "a byte order mark": reply(200, b"\xef\xbb\xbf" + TAGS),
    "status 99": raw_reply("Content-Length: 0", status="99 X"),
    "status 1000": raw_reply("Content-Length: 0", status="1000 X"),
    "status 099": raw_reply("Content-Length: 0", status="099 X"),
    "status -1": raw_reply("Content-Length: 0", status="-1 X"),
    "status 600": raw_reply("Content-Length: 0", status="600 X"),
    "HTTP/0.9": TAGS,
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 28\r\n\r\n" + TAGS,
    "HTTP/9.9": b"HTTP/9.9 200 OK\r\nContent-Length: 28\r\n\r\n" + TAGS,
    "a frame of HTTP/2": b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64",
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    "only line feeds": b"HTTP/1.1 200 OK\nContent-Length: 28\n\n" + TAGS,
    "no reason": raw_reply("Content-Length: 28", status="200", body=TAGS),
    "a reason beyond ASCII": raw_reply("Content-Length: 28", status="200 \xff\xfe", body=TAGS),
    "a huge reason": raw_reply("Content-Length: 28", status="200 " + "x" * 200_000, body=TAGS),
    "early hints": raw_reply(status="103 Early Hints") * 50 + TAGS_REPLY,
    "very many 100 Continue": raw_reply(status="100 Continue") * 2000,
    "switching protocols": raw_reply(
        "Upgrade: h2c", "Connection: upgrade", status="101 X", body=DATA
    ),
    "205 with a body": raw_reply("Content-Length: 28", status="205 X", body=TAGS),
    "204 with a body": raw_reply("Content-Length: 28", status="204 X", body=TAGS),
    "304": raw_reply("Content-Length: 28", status="304 X"),
    "nothing": b"",
    "an empty line": b"\r\n",
    "half a line": b"HTTP/1.1 20",
    "half a header": b"HTTP/1.1 200 OK\r\nContent-Le",
}


@pytest.mark.parametrize("odd", ODD_REPLIES)
def test_odd_replies(
    registry: RegistryClient, server: ScriptedServer, tmp_path: Path, odd: str
) -> None:
    server.handler = lambda request: [ODD_REPLIES[odd], CUT]
    by_name = operations(registry, tmp_path)
    for name in by_name.keys() - {"online", "by digest", "exists", "image", "open", "delete"}:
        assert_harmless(by_name[name])
    if (tmp_path / "blob").exists():
        assert (tmp_path / "blob").read_bytes() == DATA
    server.handler = lambda request: TAGS_REPLY
    registry._runner.endpoint.retry = RetryPolicy(retries=3, base=0.001)
    assert list(registry.tags("a/b")) == ["v1"]  # the client is still usable


NAMES = [
    "Location", "Link", "Content-Type", "Content-Length", "Content-Range", "Content-Encoding",
    "Range", "Docker-Content-Digest", "OCI-Subject", "OCI-Chunk-Min-Length", "Retry-After",
    "Docker-Distribution-Api-Version", "WWW-Authenticate", "Transfer-Encoding", "Connection",
    "X-Request-Id",
]  # fmt: skip
VALUES = st.sampled_from(
    ["", "0", "-1", "4", "28", "99999", "1e3", MANY_DIGITS, "0-0", "0-3", "bytes 0-3/4",
     "bytes 2-1/*", "chunked", "gzip", "identity", "close", "keep-alive", "/v2/", "//", "///",
     "?", "#", "http://", "http://[", "http://a:b/", "http://127.0.0.1:1/", "javascript:x", "<",
     "<>; rel=next", "</v2/a/b/tags/list?last=v1>; rel=next", "</v2/x>; rel=next",
     "<http://[>; rel=next",
     "Basic", "Bearer realm=", "sha256:", str(DIGEST), "sha512:00", "md5:" + "0" * 32,
     "registry/2.0", f"registry/{MANY_DIGITS}.{MANY_DIGITS}",
     "application/vnd.oci.image.index.v1+json",
     "application/vnd.oci.image.manifest.v1+json; charset=utf-8", "text/html"]
) | st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=30)  # fmt: skip
LEAVES: list[object] = [None, True, -1, 1e300, "", "v1", str(DIGEST), "\ud800", 10**30, [], {}]
LEAF = st.sampled_from(LEAVES)
TREE = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["errors", "code", "message", "detail", "tags", "repositories", "config", "layers",
             "manifests", "digest", "size", "mediaType", "schemaVersion", "subject", "platform",
             "annotations", "os", "architecture", "urls", "data", "artifactType"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=12,
)  # fmt: skip
BODIES = TREE.map(lambda tree: json.dumps(tree).encode()) | st.binary(max_size=60)


@st.composite
def any_reply(draw: st.DrawFn) -> bytes:
    """Draw a raw reply from plausible and implausible parts; some replies are cut short."""
    status = draw(
        st.sampled_from([200, 200, 200, 201, 202, 204, 206, 301, 304, 307, 308, 400, 401, 403, 404,
                         405, 416, 429, 500, 503, 100, 0, 999])
        | st.integers(-5, 1005)
    )  # fmt: skip
    fields = draw(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=4))
    body = draw(BODIES)
    lines = [f"{name}: {value}" for name, value in fields]
    if draw(st.booleans()):
        lines.append(f"Content-Length: {len(body)}")
    raw = raw_reply(*lines, status=f"{status} X", body=body)
    if draw(st.integers(0, 5)) == 0:
        raw = raw[: draw(st.integers(0, len(raw)))]
    return raw


@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(raw=any_reply(), data=st.data())
def test_any_reply(
    registry: RegistryClient,
    server: ScriptedServer,
    tmp_path: Path,
    raw: bytes,
    data: st.DataObject,
) -> None:
    server.handler = lambda request: [raw, CUT]
    by_name = operations(registry, tmp_path)
    for name in data.draw(st.lists(st.sampled_from(sorted(by_name)), min_size=1, max_size=4)):
        assert_harmless(by_name[name])
    if (tmp_path / "blob").exists():
        assert (tmp_path / "blob").read_bytes() == DATA
        (tmp_path / "blob").unlink()


# -- slow and stalling replies ---------------------------------------------------------------


READS = ("ping", "tags", "manifest", "read", "open", "download")
WRITES = ("upload", "stream", "put", "delete")


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        pytest.param([HANG], READS + WRITES, id="no answer"),
        pytest.param([TAGS_REPLY[:20], HANG], ("tags", "put"), id="half a head"),
        pytest.param([TAGS_REPLY[:-5], HANG], ("tags", "open"), id="most of a body"),
        pytest.param([raw_reply("Transfer-Encoding: chunked"), HANG], ("read",), id="no chunk"),
    ],
)
def test_silence_is_a_timeout(
    make_client: MakeClient,
    server: ScriptedServer,
    tmp_path: Path,
    steps: list[Step],
    names: tuple[str, ...],
) -> None:
    """If the registry stops sending, each kind of request raises `Timeout`."""
    server.handler = lambda request: steps
    registry = make_client(server.url, retries=0, timeout=0.1)
    by_name = operations(registry, tmp_path)
    for name in names:
        start = time.monotonic()
        with pytest.raises(Timeout):
            by_name[name]()
        assert time.monotonic() - start < SECONDS


def test_the_body_of_an_error_that_trickles(
    make_client: MakeClient, server: ScriptedServer
) -> None:
    """The time for reading the body of an error reply is limited, too."""
    endless = [step for _ in range(600) for step in (b"x", Wait(0.05))]
    server.handler = lambda request: [reply(500, length=1000), *endless]
    start = time.monotonic()
    with pytest.raises(DockhandError):
        make_client(server.url, retries=0, timeout=0.2).ping()
    assert time.monotonic() - start < SECONDS


def test_a_blob_may_be_slow(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    """A blob may take any time as long as bytes arrive, unlike a body that is parsed."""
    data = b"sixteen bytes it is"
    digest = Digest.of(data)
    server.handler = lambda request: [
        reply(200, length=len(data)),
        *[step for byte in data for step in (Wait(0.1), bytes([byte]))],
    ]
    registry = make_client(server.url, retries=0, timeout=1.5)
    assert registry.download_blob("a/b", digest, tmp_path / "blob").read_bytes() == data
    with registry.open_blob("a/b", digest) as blob:
        assert blob.read() == data


BROKEN_BODIES = {
    "a chunk size that is no number": (b"2\r\n{}\r\n", b"xyz\r\n{}\r\n"),
    "a negative chunk": (b"", b"-5\r\n{}\r\n"),
    "a NUL in a trailer": (b"", b"0\r\nX\0: y\r\n\r\n"),
    "endless trailers": (b"", b"0\r\nX: " + b"y" * 300_000),
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
@pytest.mark.parametrize("transport", ASYNC_TRANSPORTS)
def test_a_body_that_breaks_after_the_head(
    server: ScriptedServer, tmp_path: Path, transport: str, name: str
) -> None:
    """The head of the reply arrives well before the part of the body that cannot be parsed."""
    start, rest = BROKEN_BODIES[name]
    server.handler = lambda request: [
        raw_reply("Transfer-Encoding: chunked", body=start), Wait(0.05), rest, HANG
    ]  # fmt: skip

    async def main() -> None:
        quiet = {"driver": "null"}
        async with async_connect(
            server.url, transport=transport, retries=0, timeout=0.2, logging=quiet
        ) as registry:
            for work in (
                registry.ping(),
                registry.read_blob("a/b", DIGEST),
                registry.download_blob("a/b", DIGEST, tmp_path / "blob"),
            ):
                async with asyncio.timeout(SECONDS):
                    with pytest.raises(DockhandError):
                        await work

    asyncio.run(main())


def test_bytes_after_a_reply_are_not_the_next_reply(
    request: pytest.FixtureRequest, make_client: MakeClient, server: ScriptedServer
) -> None:
    if request.node.callspec.params["make_client"].endswith("httpx"):
        reason = "httpcore keeps h11's unread bytes for the next cycle of the connection"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=False))
    more = reply(200, b'{"tags":["not this"]}')
    waiting = iter([reply(200, b'{"tags":["first"]}') + more])
    server.handler = lambda request: next(waiting, TAGS_REPLY)
    registry = make_client(server.url)
    assert list(registry.tags("a/b")) == ["first"]
    with suppress(DockhandError):
        assert list(registry.tags("a/b")) == ["v1"]
