"""Names, headers and whole replies that nobody thought of."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime

import httpx
import pytest
from dockhand_distribution import DistributionDriver
from hypothesis import given, settings
from hypothesis import strategies as st

from dockhand_core import (
    Digest,
    DigestInvalid,
    DockhandError,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ManifestInvalid,
    NameInvalid,
    Platform,
    RegistryClient,
    Scope,
    ScopeInvalid,
    TagInvalid,
)
from dockhand_core.auth import NullAuth
from dockhand_core.flow import RetryPolicy
from dockhand_core.http.error_replies import error_from_reply
from dockhand_core.http.exchange import RegistryEndpoint
from dockhand_core.http.headers import parse_challenges, parse_link_header, retry_after
from dockhand_core.http.runners import SyncRunner
from dockhand_core.http.urls import redacted_url, resolve_url
from dockhand_core.logs import LogSettings, null
from dockhand_core.models import check_reference, check_repository, check_tag, parse_manifest

settings.register_profile("dockhand", deadline=None, max_examples=150)
settings.load_profile("dockhand")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
KEYS = st.sampled_from(
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "annotations",
     "tags", "repositories", "errors", "code", "digest", "size", "platform", "artifactType"]
)  # fmt: skip
DOCUMENT = st.dictionaries(KEYS, JSON | st.lists(st.dictionaries(KEYS, JSON), max_size=2))
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@given(st.text())
def test_digest(text: str) -> None:
    with suppress(DigestInvalid):
        digest = Digest(text)
        assert digest == text
        assert f"{digest.algorithm}:{digest.encoded}" == text
        assert not set(text) & set("/?#% \n")


@given(st.binary(), st.sampled_from(["sha256", "sha512"]))
def test_digest_of(data: bytes, algorithm: str) -> None:
    assert Digest(str(Digest.of(data, algorithm))).algorithm == algorithm
    with pytest.raises(DigestInvalid):
        Digest(Digest.of(data, algorithm)[:-1])
    with pytest.raises(DigestInvalid):
        Digest(Digest.of(data, algorithm).upper())


@given(st.text() | st.text("abc/._-%?#\n A", max_size=300))
def test_names(text: str) -> None:
    with suppress(NameInvalid):
        assert check_repository(text) == text
        assert httpx.URL(f"http://a/v2/{text}/tags/list").path == f"/v2/{text}/tags/list"
        assert ".." not in text
    with suppress(TagInvalid):
        assert check_tag(text) == text
        assert httpx.URL(f"http://a/{text}").path == f"/{text}"
    with suppress(TagInvalid, DigestInvalid):
        check_reference(text)


@given(st.text() | st.from_regex(r"[a-z]{1,9}:[a-z/:]{0,9}:[a-z,*]{0,9}", fullmatch=True))
def test_scope(text: str) -> None:
    with suppress(ScopeInvalid):
        scope = Scope.parse(text)
        assert Scope.parse(str(scope)) == scope
        assert scope.covers(scope)


@given(HEADER | st.text(max_size=200))
def test_headers(text: str) -> None:
    for target, relation in parse_link_header(text):
        assert target in text
        assert relation == relation.lower()
    for challenge in parse_challenges(text):
        assert challenge.scheme in text
    wait = retry_after({"retry-after": text}, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert wait is None or wait >= 0
    assert "\n" not in redacted_url(text) or "\n" in text
    with suppress(DockhandError):
        resolve_url("http://a/b", text)


@pytest.mark.parametrize(
    "text", ["<" * 50_000, "a=" * 50_000, '"\\' * 50_000, "<a>;" + ",;=" * 20_000, "a " * 50_000]
)
def test_headers_take_no_time(text: str) -> None:
    """A pattern that backtracks would not come to an end here."""
    assert len(parse_link_header(text)) <= 1 << 14
    assert len(parse_challenges(text)) <= 1 << 14


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Basic realm="r"', [("Basic", {"realm": "r"})]),
        (
            'Bearer service="s" , realm="http://a/t,x",scope=""',
            [("Bearer", {"service": "s", "realm": "http://a/t,x", "scope": ""})],
        ),
        (
            'Negotiate, Bearer realm=plain, error="a \\"b\\"", Basic realm="r"',
            [
                ("Negotiate", {}),
                ("Bearer", {"realm": "plain", "error": 'a "b"'}),
                ("Basic", {"realm": "r"}),
            ],
        ),
        ("", []),
    ],
)
def test_challenges(text: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, dict(one.parameters)) for one in parse_challenges(text)] == expected


def test_links() -> None:
    text = '</v2/_catalog?last=a%2Cb&n=1>; rel="next", <http://x/,y>;title="a, b";rel=prev'
    assert parse_link_header(text) == [
        ("/v2/_catalog?last=a%2Cb&n=1", "next"),
        ("http://x/,y", "prev"),
    ]


@given(st.binary(max_size=200) | DOCUMENT.map(lambda d: json.dumps(d).encode()), HEADER)
def test_manifest(raw: bytes, kind: str) -> None:
    with suppress(ManifestInvalid):
        document = parse_manifest(raw, media_type=kind)
        assert document.raw == raw
        assert document.digest == Digest.of(raw)
        again = parse_manifest(document.model_copy(update={"annotations": {"a": "b"}}).raw)
        assert again.annotations == {"a": "b"}
    with suppress(ManifestInvalid):
        config = ImageConfig.parse(raw)
        assert config.raw == raw
        _ = (config.platform, config.env, config.labels, config.entrypoint, config.diff_ids)


@given(st.text(max_size=30))
def test_platform(text: str) -> None:
    with suppress(DockhandError):
        platform = Platform.parse(text)
        assert Platform.parse(str(platform)) == platform
        assert platform.best([platform]) == 0


@given(
    st.integers(300, 599), HEADER, st.binary(max_size=300) | JSON.map(json.dumps).map(str.encode)
)
def test_errors(status: int, header: str, body: bytes) -> None:
    names = ("www-authenticate", "retry-after", "content-type", "x-request-id")
    error = error_from_reply(
        method="GET",
        url="http://a/v2/?_state=hidden",
        kind="blob",
        repository="a/b",
        status=status,
        headers=httpx.Headers(dict.fromkeys(names, header)),
        body=body,
    )
    assert error.status == status
    assert "hidden" not in str(error)
    assert len(str(error)) < 1500


ODD = ["/v2/", "http://other/", "<", '<//[>; rel="next"', "0-5", "9" * 30]


class Anything(httpx.BaseTransport):
    """Answers every request with one reply."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.args = (status, headers, body)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        status, headers, body = self.args
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


@given(
    st.sampled_from([200, 201, 202, 204, 206, 301, 304, 307, 400, 404, 416, 500]),
    st.dictionaries(
        st.sampled_from(
            ["Location", "Link", "Content-Type", "Content-Length", "Content-Range", "Range",
             "Docker-Content-Digest", "OCI-Subject", "OCI-Chunk-Min-Length", "Retry-After",
             "Docker-Distribution-Api-Version", "Content-Encoding", "WWW-Authenticate"]
        ),
        HEADER | st.sampled_from(ODD),
    ),
    st.binary(max_size=100) | DOCUMENT.map(lambda d: json.dumps(d).encode()),
)  # fmt: skip
def test_replies(status: int, headers: dict[str, str], body: bytes) -> None:
    """No reply makes anything but a Dockhand error come out."""
    driver = DistributionDriver(DistributionDriver.Settings(base_uri="http://registry"))
    driver.retry = RetryPolicy(0)
    log = null(LogSettings(), "fuzz")
    wire = RegistryEndpoint(
        base="http://registry",
        make_auth=lambda: NullAuth(NullAuth.Settings()),
        log=log,
        retry=driver.retry,
    )
    client = RegistryClient(driver, SyncRunner(wire, lambda: Anything(status, headers, body)))
    digest = Digest.of(b"data")
    manifest = ImageManifest.model_validate(
        {"config": {"mediaType": "a/b", "digest": digest, "size": 4}}
    )
    with_subject = manifest.model_copy(update={"subject": manifest.config})
    for operation in (
        client.ping,
        client.is_online,
        client.api_version,
        lambda: list(client.repositories()),
        client.repository_page,
        lambda: list(client.tags("a", page_size=2)),
        lambda: client.tag_page("a"),
        lambda: client.manifest("a", "v1"),
        lambda: client.image("a", digest),
        lambda: client.manifest_head("a", "v1"),
        lambda: client.put_manifest("a", "v1", with_subject),
        lambda: client.put_manifest("a", "v1", ImageIndex()),
        lambda: client.referrers("a", digest),
        lambda: client.image_config("a", manifest),
        lambda: client.read_blob("a", digest),
        lambda: client.open_blob("a", digest).read(),
        lambda: client.open_blob("a", digest, offset=2, verify=False).read(),
        lambda: client.blob_size("a", digest),
        lambda: client.upload_blob("a", b"data"),
        lambda: client.upload_blob("a", iter([b"data"])),
        lambda: client.mount_blob("a", digest, "b"),
        lambda: client.upload_status(client.start_upload("a")),
        lambda: client.cancel_upload(client.start_upload("a")),
        lambda: client.delete_blob("a", digest),
        lambda: client.delete_tag("a", "v1"),
        lambda: client.delete_manifest("a", digest),
    ):
        with suppress(DockhandError):
            operation()
