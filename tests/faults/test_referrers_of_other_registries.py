"""Referrers at registries that have no API, refuse it or answer nonsense, and the referrers tag."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from dockhand_testing.http_server import ReceivedRequest, ScriptedServer, reply

from dockhand_core import (
    Denied,
    Digest,
    DigestMismatch,
    ImageIndex,
    ImageManifest,
    RegistryClient,
    RegistryError,
    ResponseInvalid,
    ResponseTooLarge,
    ServerError,
    Unauthorized,
    Unsupported,
)
from dockhand_core.models import media

MakeClient = Callable[..., RegistryClient]
CONFIG = {"mediaType": media.OCI_EMPTY, "digest": str(Digest.of(b"{}")), "size": 2}
SUBJECT = ImageManifest.model_validate({"config": CONFIG})
SUBJECT_TAG = SUBJECT.digest.replace(":", "-")
NO_ENDPOINT = reply(404, b"404 page not found")


def artifact(name: str, kind: str = "application/vnd.example") -> ImageManifest:
    """Return an artifact that refers to SUBJECT."""
    return ImageManifest.model_validate(
        {
            "config": CONFIG,
            "artifactType": kind,
            "subject": SUBJECT.descriptor(),
            "annotations": {"name": name},
        }
    )


def error(status: int, code: str, **headers: str) -> bytes:
    """Return an error reply with a code."""
    return reply(status, json.dumps({"errors": [{"code": code}]}).encode(), **headers)


class Registry:
    """A registry of manifests, whose referrers API answers `api`; None for the requests' own tag.

    Attributes:
        manifests: the stored bytes, by digest and by tag.
        api: the reply of the referrers API, or a function that makes it.
        overwrite: called with each change of the referrers tag, after it; may change it again.
    """

    def __init__(self, api: Any = NO_ENDPOINT) -> None:
        self.api = api
        self.manifests: dict[str, bytes] = {}
        self.overwrite: Callable[[bytes], None] = lambda raw: None
        self.put(SUBJECT.raw)

    def put(self, raw: bytes, name: str = "") -> None:
        """Store a manifest by digest and, if it is given, by tag."""
        self.manifests[Digest.of(raw)] = self.manifests[name or Digest.of(raw)] = raw

    def listed(self) -> set[str]:
        """Return the digests in the referrers tag of SUBJECT."""
        index = ImageIndex.model_validate_json(self.manifests[SUBJECT_TAG])
        return {entry.digest for entry in index.manifests}

    def __call__(self, request: ReceivedRequest) -> bytes:
        name = request.path.rpartition("/")[2]
        if "/referrers/" in request.path:
            answer: bytes = self.api(request) if callable(self.api) else self.api
            return answer
        if request.method == "PUT":
            self.put(request.body, name)
            if name == SUBJECT_TAG:
                self.overwrite(request.body)
            return reply(201)
        found = self.manifests.get(name)
        if found is None:
            return reply(404)
        if request.method == "DELETE":
            del self.manifests[name]
            return reply(202)
        kind = json.loads(found).get("mediaType", "") if found.startswith(b"{") else ""
        return reply(200, found, Content_Type=kind)


@pytest.fixture
def registry(server: ScriptedServer) -> Registry:
    """Serve a registry without the referrers API."""
    found = Registry()
    server.handler = found
    return found


@pytest.fixture
def client(make_client: MakeClient, registry: Registry, server: ScriptedServer) -> RegistryClient:
    """Connect a client that does not retry."""
    return make_client(server.url, retries=0)


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause before the second look at a referrers tag."""
    monkeypatch.setattr("dockhand_distribution.referrers_tag.PAUSE", 0.05)


def attach(client: RegistryClient, name: str) -> Digest:
    """Push an artifact that refers to SUBJECT, and return its digest."""
    found = artifact(name)
    client.put_manifest("a/b", found.digest, found)
    return found.digest


# -- GitLab: the tag resolves to the subject ---------------------------------------------------


def index_subject() -> ImageIndex:
    """Return an index, which is easily taken for an index of referrers."""
    return ImageIndex(manifests=(SUBJECT.descriptor(),))


@pytest.mark.parametrize("kind", ["manifest", "index", "an image of somebody else"])
def test_a_tag_that_is_no_index_of_referrers(
    client: RegistryClient, registry: Registry, server: ScriptedServer, kind: str
) -> None:
    """No referrers are reported, and a push says that it cannot list the manifest."""
    subject: Any = index_subject() if kind == "index" else SUBJECT
    tag = subject.digest.replace(":", "-")
    stored = artifact("else").raw if kind.startswith("an") else subject.raw
    registry.put(stored, tag)
    assert client.referrers("a/b", subject.digest).manifests == ()
    new = artifact("x").model_copy(update={"subject": subject.descriptor()})
    with pytest.raises(Unsupported, match=f"{tag} is not an index .*{new.digest} was pushed"):
        client.put_manifest("a/b", new.digest, new)
    assert registry.manifests[tag] == stored
    assert registry.manifests[new.digest] == new.raw
    assert [r.path for r in server.with_method("PUT")] == [f"/v2/a/b/manifests/{new.digest}"]
    client.delete_manifest("a/b", new.digest)
    assert new.digest not in registry.manifests
    assert registry.manifests[tag] == stored


# -- what an error of the API means ------------------------------------------------------------


@pytest.mark.parametrize("code", ["NAME_UNKNOWN", "MANIFEST_UNKNOWN"])
def test_an_unknown_repository_says_nothing_of_the_api(
    client: RegistryClient, registry: Registry, code: str
) -> None:
    listed = ImageIndex(manifests=(artifact("x").descriptor(),)).raw

    def api(request: ReceivedRequest) -> bytes:
        if "/a/b/" in request.path:
            return reply(200, listed, Content_Type=media.OCI_INDEX)
        return error(404, code)

    registry.api = api
    assert client.referrers("no/such", SUBJECT.digest).manifests == ()
    assert len(client.referrers("a/b", SUBJECT.digest).manifests) == 1


def test_a_registry_without_the_api_is_remembered(
    client: RegistryClient, server: ScriptedServer
) -> None:
    for _ in range(3):
        assert client.referrers("a/b", SUBJECT.digest).manifests == ()
    assert sum("/referrers/" in request.path for request in server.requests) == 1


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
def test_an_api_that_does_not_work(client: RegistryClient, registry: Registry, status: int) -> None:
    """The referrers tag is read, which pushes keep."""
    registry.api = reply(status)
    assert client.referrers("a/b", SUBJECT.digest).manifests == ()
    found = attach(client, "x")
    assert [d.digest for d in client.referrers("a/b", SUBJECT.digest).manifests] == [found]


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (403, Denied)])
def test_an_api_that_is_refused(
    client: RegistryClient, registry: Registry, status: int, kind: type[RegistryError]
) -> None:
    """Without a referrers tag the error is raised: an empty list would be a wrong answer."""
    registry.api = reply(status)
    with pytest.raises(kind, match="/referrers/"):
        client.referrers("a/b", SUBJECT.digest)
    found = attach(client, "x")
    assert [d.digest for d in client.referrers("a/b", SUBJECT.digest).manifests] == [found]


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b'{"manifests":5}', artifact("x").raw, b'{"manifests":[{}]}']
)
def test_an_api_that_sends_no_index(
    client: RegistryClient, registry: Registry, body: bytes
) -> None:
    registry.api = reply(200, body)
    with pytest.raises(ResponseInvalid, match=r"/referrers/.*not an index"):
        client.referrers("a/b", SUBJECT.digest)


def test_a_failing_server_is_an_error(client: RegistryClient, registry: Registry) -> None:
    registry.api = reply(500)
    with pytest.raises(ServerError):
        client.referrers("a/b", SUBJECT.digest)


# -- deletion ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "api",
    [reply(n) for n in (400, 401, 403, 404, 406, 500, 503)] + [reply(200, b"<html>")],
    ids=["400", "401", "403", "404", "406", "500", "503", "HTML"],
)
def test_a_deletion_is_sent_whatever_the_api_answers(
    client: RegistryClient, registry: Registry, api: bytes
) -> None:
    kept, gone = attach(client, "kept"), attach(client, "gone")
    registry.api = api
    client.delete_manifest("a/b", gone)
    assert gone not in registry.manifests
    assert registry.listed() == {kept}


@pytest.mark.parametrize("stored", [b"damaged", b"", b"{}", b'{"schemaVersion":2,"manifests":[1]}'])
def test_a_deletion_of_damaged_bytes(
    client: RegistryClient,
    registry: Registry,
    caplog: pytest.LogCaptureFixture,
    stored: bytes,
) -> None:
    found = attach(client, "x")
    registry.manifests[found] = stored
    with pytest.raises(DigestMismatch):
        client.manifest("a/b", found)
    with caplog.at_level(logging.INFO, "dockhand.distribution"):
        client.delete_manifest("a/b", found)
    assert found not in registry.manifests
    assert found in caplog.text


@pytest.mark.parametrize("status", [400, 403, 405, 500])
def test_a_deletion_with_a_tag_that_cannot_be_changed(
    client: RegistryClient,
    registry: Registry,
    server: ScriptedServer,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    found = attach(client, "x")
    server.handler = lambda r: reply(status) if r.method == "PUT" else registry(r)
    client.delete_manifest("a/b", found)
    assert found not in registry.manifests
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert found in record.getMessage()
    assert SUBJECT_TAG in record.getMessage()


def test_a_push_with_a_tag_that_cannot_be_changed(
    client: RegistryClient, registry: Registry, server: ScriptedServer
) -> None:
    server.handler = lambda r: (
        reply(403) if r.method == "PUT" and r.path.endswith(SUBJECT_TAG) else registry(r)
    )
    with pytest.raises(Denied, match="was pushed, but is not among the referrers"):
        attach(client, "x")


# -- pages -------------------------------------------------------------------------------------


def page_of_referrers(name: str, link: str | None) -> bytes:
    """Return a page with one referrer."""
    listed = ImageIndex(manifests=(artifact(name).descriptor(),)).raw
    headers = {"Link": f'<{link}>; rel="next"'} if link else {}
    return reply(200, listed, length=None, Content_Type=media.OCI_INDEX, **headers)


@pytest.mark.parametrize(
    "link", ["?page={}", "http://elsewhere.example/x?page={}", "https://127.0.0.1/y?page={}"]
)
def test_pages_of_referrers(
    make_client: MakeClient, registry: Registry, server: ScriptedServer, link: str
) -> None:
    """A link that leads elsewhere is asked at home."""

    def api(request: ReceivedRequest) -> bytes:
        page = int(request.query.get("page", 0))
        return page_of_referrers(str(page), link.format(page + 1) if page < 3 else None)

    registry.api = api
    client = make_client(server.url + "/base", retries=0)
    assert len(client.referrers("a/b", SUBJECT.digest).manifests) == 4
    assert {r.path for r in server.requests} == {f"/base/v2/a/b/referrers/{SUBJECT.digest}"}


@pytest.mark.parametrize("circle", [1, 2, 3])
def test_pages_of_referrers_in_a_circle(
    client: RegistryClient, registry: Registry, server: ScriptedServer, circle: int
) -> None:
    def api(request: ReceivedRequest) -> bytes:
        page = int(request.query.get("page", 0))
        return page_of_referrers(str(page), f"?page={(page + 1) % circle}")

    registry.api = api
    with pytest.raises(ResponseInvalid, match="circle"):
        client.referrers("a/b", SUBJECT.digest)
    assert len(server.requests) < 10


@pytest.mark.parametrize("kind", [None, "application/vnd.other"])
def test_referrers_without_end(
    make_client: MakeClient, registry: Registry, server: ScriptedServer, kind: str | None
) -> None:
    """The pages of one list have a limit in total, even if all items are filtered out."""

    def api(request: ReceivedRequest) -> bytes:
        page = int(request.query.get("page", 0))
        return page_of_referrers(str(page), f"?page={page + 1}")

    registry.api = api
    client = make_client(server.url, list_limit=10_000)
    with pytest.raises(ResponseTooLarge, match="list_limit"):
        client.referrers("a/b", SUBJECT.digest, artifact_type=kind)
    assert 10 < len(server.requests) < 100


def test_the_default_limit_of_referrers(
    client: RegistryClient, registry: Registry, server: ScriptedServer
) -> None:
    """Pages of 8 MiB end at 32 MiB, because referrers take ten times as much in memory."""
    listed = ImageIndex(annotations={"x": "y" * ((8 << 20) - 200)}).raw

    def api(request: ReceivedRequest) -> bytes:
        page = int(request.query.get("page", 0))
        link = f'<?page={page + 1}>; rel="next"'
        return reply(200, listed, length=None, Content_Type=media.OCI_INDEX, Link=link)

    registry.api = api
    with pytest.raises(ResponseTooLarge, match=r"33554432 bytes: .*list_limit"):
        client.referrers("a/b", SUBJECT.digest)
    assert len(server.requests) == 5


def test_the_limit_of_the_referrers_tag(
    make_client: MakeClient, registry: Registry, server: ScriptedServer
) -> None:
    """An index of more than 8 MiB is read; the limit is that of lists."""
    entries = (artifact("x").descriptor(),)
    large = ImageIndex(manifests=entries, annotations={"x": "y" * (9 << 20)}).raw
    registry.put(large, SUBJECT_TAG)
    assert len(make_client(server.url).referrers("a/b", SUBJECT.digest).manifests) == 1
    with pytest.raises(ResponseTooLarge, match="list_limit"):
        make_client(server.url, list_limit=9 << 20).referrers("a/b", SUBJECT.digest)


# -- several writers of one referrers tag --------------------------------------------------------


def test_a_change_that_is_overwritten(
    client: RegistryClient, registry: Registry, server: ScriptedServer
) -> None:
    """Another process writes the tag from an old state: what is missing is added again."""
    foreign = ImageIndex(manifests=(artifact("foreign").descriptor(),)).raw
    times = 0

    def overwrite(raw: bytes) -> None:
        nonlocal times
        times += 1
        if times <= 2:
            registry.put(foreign, SUBJECT_TAG)

    registry.overwrite = overwrite
    found = attach(client, "own")
    assert registry.listed() == {found, artifact("foreign").digest}
    assert times == 3


def test_a_change_that_is_overwritten_later(
    client: RegistryClient, registry: Registry, server: ScriptedServer
) -> None:
    """The tag is read again after a pause, too."""
    foreign = ImageIndex(manifests=(artifact("foreign").descriptor(),)).raw
    timers: list[threading.Timer] = []

    def overwrite(raw: bytes) -> None:
        if not timers:
            timers.append(threading.Timer(0.03, registry.put, (foreign, SUBJECT_TAG)))
            timers[0].start()

    registry.overwrite = overwrite
    found = attach(client, "own")
    timers[0].join()
    assert registry.listed() == {found, artifact("foreign").digest}


def test_a_change_that_is_always_overwritten(
    client: RegistryClient, registry: Registry, server: ScriptedServer
) -> None:
    foreign = ImageIndex(manifests=(artifact("foreign").descriptor(),)).raw
    registry.overwrite = lambda raw: registry.put(foreign, SUBJECT_TAG)
    with pytest.raises(RegistryError, match="other clients overwrote the tag"):
        attach(client, "own")


def test_a_referrer_of_the_index_of_referrers(client: RegistryClient, registry: Registry) -> None:
    """A hostile index with a `subject` of its own leads to no other tag, and to no deadlock."""
    hostile = ImageIndex(subject=SUBJECT.descriptor())
    registry.put(hostile.raw, SUBJECT_TAG)
    found = attach(client, "x")
    assert registry.listed() == {found}


@pytest.mark.parametrize("filtered", [True, False])
def test_a_filter_whose_entries_lack_their_type(
    make_client: MakeClient, registry: Registry, server: ScriptedServer, filtered: bool
) -> None:
    """An entry without a type counts where the reply says that the filter was applied."""
    entry = artifact("a").descriptor().model_dump(mode="json", by_alias=True, exclude_none=True)
    body = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    headers = {"OCI_Filters_Applied": "artifactType"} if filtered else {}
    registry.api = reply(200, body, Content_Type=media.OCI_INDEX, **headers)
    found = make_client(server.url).referrers(
        "a/b", SUBJECT.digest, artifact_type="application/vnd.example"
    )
    assert len(found.manifests) == filtered
