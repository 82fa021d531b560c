"""Manifests from registries that leave headers out or distort them, and hostile indexes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from dockhand_testing.http_server import ReceivedRequest, ScriptedServer, reply

from dockhand_core import (
    Descriptor,
    Digest,
    DigestInvalid,
    DigestMismatch,
    ImageIndex,
    ManifestInvalid,
    ManifestUnknown,
    PlatformNotFound,
    RegistryClient,
    ResponseInvalid,
    SizeInvalid,
)
from dockhand_core.models import media

MakeClient = Callable[..., RegistryClient]
MANIFEST = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % media.OCI_INDEX.encode()
DIGEST = Digest.of(MANIFEST)
MALFORMED = ["sha256:xyz", DIGEST.upper(), DIGEST[:-1], "none", f"{DIGEST}, {DIGEST}", "sha256:"]


def answering(head: bytes, body: bytes = MANIFEST, **headers: str) -> Callable[..., bytes]:
    """Return a handler with `head` for HEAD, and the manifest `body` for GET."""
    headers.setdefault("Content_Type", media.OCI_INDEX)
    return lambda request: head if request.method == "HEAD" else reply(200, body, **headers)


@pytest.mark.parametrize(
    "head",
    [
        reply(200, Content_Type=media.OCI_INDEX, Docker_Content_Digest=DIGEST),
        b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nDocker-Content-Digest: %s\r\n\r\n"
        % (media.OCI_INDEX.encode(), DIGEST.encode()),
        reply(200, length="1e3", Content_Type=media.OCI_INDEX, Docker_Content_Digest=DIGEST),
        reply(200, length=len(MANIFEST), Content_Type=media.OCI_INDEX),
        reply(200, length=len(MANIFEST), Docker_Content_Digest=DIGEST),
    ],
    ids=["length 0", "no length", "bad length", "no digest", "no type"],
)
@pytest.mark.parametrize("reference", ["v1", DIGEST])
def test_heads_that_lack_a_header(
    make_client: MakeClient, server: ScriptedServer, head: bytes, reference: str
) -> None:
    """The size, digest and media type are then those of the manifest itself."""
    server.handler = answering(head)
    client = make_client(server.url, retries=0)
    if b"1e3" in head:  # some transports refuse this reply themselves
        server.handler = answering(head.replace(b"Content-Length: 1e3\r\n", b""))
    found = client.manifest_head("a/b", reference)
    assert (found.digest, found.size, found.media_type) == (DIGEST, len(MANIFEST), media.OCI_INDEX)
    assert client.manifest_exists("a/b", reference)


@pytest.mark.parametrize("header", [*MALFORMED, "md5:abc", "sha384:" + "0" * 96])
def test_a_malformed_digest_beside_a_body(
    make_client: MakeClient, server: ScriptedServer, header: str
) -> None:
    """The digest is that of the bytes; a header that is malformed is ignored."""
    server.handler = lambda request: reply(
        201 if request.method == "PUT" else 200,
        b"" if request.method == "PUT" else MANIFEST,
        Content_Type=media.OCI_INDEX,
        Docker_Content_Digest=header,
    )
    client = make_client(server.url)
    assert client.manifest("a/b", "v1").digest == DIGEST
    assert client.manifest("a/b", DIGEST).raw == MANIFEST
    assert client.put_manifest("a/b", "v1", MANIFEST).digest == DIGEST


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_digest_of_a_head(
    make_client: MakeClient, server: ScriptedServer, header: str
) -> None:
    """The error names URL and header; if the digest was asked for, the header is not needed."""
    server.handler = lambda request: reply(
        200, length=len(MANIFEST), Content_Type=media.OCI_INDEX, Docker_Content_Digest=header
    )
    client = make_client(server.url)
    with pytest.raises(ResponseInvalid, match=r"/v2/a/b/manifests/v1.*Docker-Content-Digest"):
        client.manifest_head("a/b", "v1")
    assert client.manifest_head("a/b", DIGEST).digest == DIGEST


def test_a_digest_of_other_bytes(make_client: MakeClient, server: ScriptedServer) -> None:
    """A well-formed header that contradicts the bytes is an error, as is a malformed argument."""
    other = Digest.of(b"other")
    server.handler = answering(reply(200), Docker_Content_Digest=other)
    client = make_client(server.url)
    with pytest.raises(DigestMismatch):
        client.manifest("a/b", "v1")
    server.requests.clear()
    for operation in (client.manifest, client.manifest_head, client.delete_manifest):
        with pytest.raises(DigestInvalid):
            operation("a/b", "sha256:xyz")
    assert server.requests == []


# -- descriptors as arguments ----------------------------------------------------------------


def described(data: bytes = MANIFEST, size: int | None = None) -> Descriptor:
    """Return a descriptor of `data`, whose size may be wrong."""
    return Descriptor(
        media_type=media.OCI_INDEX,
        digest=Digest.of(data),
        size=len(data) if size is None else size,
    )


def test_operations_take_descriptors(make_client: MakeClient, server: ScriptedServer) -> None:
    def handle(request: ReceivedRequest) -> bytes:
        if request.method == "PUT":
            return reply(201)
        if request.method == "DELETE":
            return reply(202)
        if request.method == "HEAD":
            return reply(200, length=len(MANIFEST), Content_Type=media.OCI_INDEX)
        return reply(200, MANIFEST, Content_Type=media.OCI_INDEX)

    server.handler = handle
    client, descriptor = make_client(server.url), described()
    assert client.manifest("a/b", descriptor).raw == MANIFEST
    assert client.manifest_head("a/b", descriptor).digest == DIGEST
    assert client.manifest_exists("a/b", descriptor)
    assert client.referrers("a/b", descriptor).manifests == ()
    assert client.put_manifest("a/b", descriptor, MANIFEST).digest == DIGEST
    client.delete_manifest("a/b", descriptor)
    assert all(DIGEST in request.path for request in server.requests)


def test_a_descriptor_of_another_size(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = answering(reply(200, Content_Type=media.OCI_INDEX))
    client, wrong = make_client(server.url), described(size=len(MANIFEST) + 1)
    operations: tuple[Callable[[], object], ...] = (
        lambda: client.manifest("a/b", wrong),
        lambda: client.image("a/b", wrong),
        lambda: client.manifest_head("a/b", wrong),  # its reply lacks the size
        lambda: client.put_manifest("a/b", wrong, MANIFEST),
    )
    for operation in operations:
        with pytest.raises(SizeInvalid, match=f"{DIGEST} has .* bytes"):
            operation()
    config = b'{"os":"linux","architecture":"amd64"}'
    server.handler = lambda request: reply(200, config)
    with pytest.raises(SizeInvalid, match="image config"):
        client.image_config("a/b", described(config, size=1))
    server.handler = answering(reply(200), b"others")
    with pytest.raises(DigestMismatch):
        client.manifest("a/b", described())


# -- one digest, two meanings ----------------------------------------------------------------


@pytest.mark.parametrize("key", ["layers", "config"])
@pytest.mark.parametrize("content_type", [media.OCI_INDEX, media.OCI_MANIFEST, "text/plain", ""])
def test_a_manifest_that_is_an_index_too(
    make_client: MakeClient, server: ScriptedServer, key: str, content_type: str
) -> None:
    blob = described(b"{}").model_dump(mode="json", by_alias=True, exclude_none=True)
    body: dict[str, Any] = {"schemaVersion": 2, "manifests": [], key: [] if key[0] == "l" else blob}
    raw = json.dumps(body).encode()
    server.handler = lambda request: reply(200, raw, Content_Type=content_type)
    client = make_client(server.url)
    operations: tuple[Callable[[], object], ...] = (
        lambda: client.manifest("a/b", "v1"),
        lambda: client.image("a/b", Digest.of(raw)),
    )
    for operation in operations:
        with pytest.raises(ManifestInvalid, match="'manifests', but no 'mediaType'"):
            operation()
    server.requests.clear()
    for data in (raw, body):
        with pytest.raises(ManifestInvalid, match="'manifests', but no 'mediaType'"):
            client.put_manifest("a/b", "v1", data, media_type=content_type or None)
    assert server.requests == []
    stated = json.dumps({**body, "mediaType": media.OCI_INDEX}).encode()
    server.handler = lambda request: reply(200, stated, Content_Type=content_type)
    assert client.manifest("a/b", "v1").is_index


# -- images of a platform --------------------------------------------------------------------


class Store:
    """Manifests and blobs by digest, and the handler that serves them."""

    def __init__(self) -> None:
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}

    def __call__(self, request: ReceivedRequest) -> bytes:
        kind, _, name = request.path.rpartition("/")
        found = (self.blobs if kind.endswith("blobs") else self.manifests).get(name)
        if found is None:
            return reply(404)
        return reply(200, found, Content_Type=json.loads(found).get("mediaType", "text/plain"))

    def put(self, document: dict[str, Any], tag: str = "") -> dict[str, Any]:
        """Store a manifest, and return its descriptor."""
        raw = json.dumps({"schemaVersion": 2, **document}).encode()
        digest = str(Digest.of(raw))
        self.manifests[digest] = self.manifests[tag or digest] = raw
        return {"mediaType": document["mediaType"], "digest": digest, "size": len(raw)}

    def image(
        self,
        platform: str | None,
        *,
        tag: str = "",
        stated: Any = None,
        config_type: str = media.OCI_CONFIG,
        config: bytes | None = None,
        note: str = "",
    ) -> dict[str, Any]:
        """Store an image with a config, and return its entry for an index."""
        os, architecture, variant = ([*(platform or "").split("/"), "", ""])[:3]
        body = {"os": os, "architecture": architecture, "variant": variant, "note": note}
        data = json.dumps(body if platform else {}).encode() if config is None else config
        digest = str(Digest.of(data))
        self.blobs[digest] = data
        described = {"mediaType": config_type, "digest": digest, "size": len(data)}
        entry = self.put({"mediaType": media.OCI_MANIFEST, "config": described, "layers": []}, tag)
        return entry if stated is None else {**entry, "platform": stated}

    def index(self, *entries: dict[str, Any], tag: str = "", **more: Any) -> dict[str, Any]:
        """Store an index, and return its entry for another index."""
        return self.put({"mediaType": media.OCI_INDEX, "manifests": list(entries), **more}, tag)


@pytest.fixture
def store(server: ScriptedServer) -> Store:
    """Serve a store."""
    found = Store()
    server.handler = found
    return found


ARM = {"os": "linux", "architecture": "arm64"}
AMD = {"os": "linux", "architecture": "amd64"}


@pytest.mark.parametrize("unstated", [None, {}, {"os": "", "architecture": ""}, {"os": "linux"}])
def test_entries_without_a_platform(
    make_client: MakeClient, server: ScriptedServer, store: Store, unstated: Any
) -> None:
    """They are judged by the images' configs."""
    client = make_client(server.url)
    arm = store.image("linux/arm64", stated=unstated)
    amd = store.image("linux/amd64", stated=unstated)
    store.index(arm, amd, tag="v1")
    assert client.image("a/b", "v1", platform="linux/arm64").digest == arm["digest"]
    assert client.image("a/b", "v1").digest == amd["digest"]
    with pytest.raises(PlatformNotFound, match="linux/arm64.*linux/amd64"):
        client.image("a/b", "v1", platform="linux/s390x")


def test_entries_without_a_platform_are_taken_last(
    make_client: MakeClient, server: ScriptedServer, store: Store
) -> None:
    client = make_client(server.url)
    hidden = store.image("linux/arm64", note="without")
    stated = store.image("linux/arm64", note="stated", stated=ARM)
    store.index(hidden, stated, tag="v1")
    assert client.image("a/b", "v1", platform="linux/arm64").digest == stated["digest"]
    assert [request.path.rpartition("/")[0] for request in server.requests] == [
        "/v2/a/b/manifests",
        "/v2/a/b/manifests",
    ]


def test_the_best_of_several_configs(
    make_client: MakeClient, server: ScriptedServer, store: Store
) -> None:
    store.index(store.image("linux/arm/v6"), seven := store.image("linux/arm/v7"), tag="v1")
    image = make_client(server.url).image("a/b", "v1", platform="linux/arm/v7")
    assert image.digest == seven["digest"]


def test_nested_indexes_without_a_platform(
    make_client: MakeClient, server: ScriptedServer, store: Store
) -> None:
    client = make_client(server.url)
    arm = store.image("linux/arm64", stated=ARM)
    amd = store.image("linux/amd64")
    store.index(store.index(store.index(amd)), store.index(arm), tag="v1")
    assert client.image("a/b", "v1", platform="linux/arm64").digest == arm["digest"]
    assert client.image("a/b", "v1").digest == amd["digest"]


def test_entries_that_are_no_images(
    make_client: MakeClient, server: ScriptedServer, store: Store
) -> None:
    """Artifacts, attestations, unreadable configs and absent manifests are passed over."""
    amd = store.image("linux/amd64")
    absent = {**store.image("linux/s390x"), "digest": str(Digest.of(b"absent"))}
    unknown = {"os": "unknown", "architecture": "unknown"}
    others = [
        store.image(None, config_type=media.OCI_EMPTY),
        store.image("linux/amd64", stated=unknown, note="attestation"),
        store.image(None, config=b'{"os": 5}'),
        store.image(None),
        absent,
    ]
    client = make_client(server.url)
    store.index(*others, amd, tag="v1")
    assert client.image("a/b", "v1").digest == amd["digest"]
    store.index(*others, tag="v2")
    with pytest.raises(ManifestUnknown):
        client.image("a/b", "v2")
    store.index(*others[:-1], tag="v3")
    with pytest.raises(PlatformNotFound, match="the index has: none"):
        client.image("a/b", "v3")


@pytest.mark.parametrize("kind", [media.OCI_CONFIG, media.DOCKER_CONFIG])
def test_the_platform_of_a_single_image(
    make_client: MakeClient, server: ScriptedServer, store: Store, kind: str
) -> None:
    client = make_client(server.url)
    amd = store.image("linux/amd64", tag="v1", config_type=kind)
    for reference in ("v1", amd["digest"], Descriptor.model_validate(amd)):
        assert client.image("a/b", reference, platform="linux/amd64").digest == amd["digest"]
        with pytest.raises(PlatformNotFound, match=r"linux/arm64; the image has: linux/amd64"):
            client.image("a/b", reference, platform="linux/arm64")
        server.requests.clear()
        assert client.image("a/b", reference).digest == amd["digest"]
        assert len(server.requests) == 1


def test_an_artifact_has_no_platform(
    make_client: MakeClient, server: ScriptedServer, store: Store
) -> None:
    client = make_client(server.url)
    artifact = store.image(None, tag="v1", config_type="application/vnd.example+json")
    assert client.image("a/b", "v1").digest == artifact["digest"]
    with pytest.raises(PlatformNotFound, match="the manifest is not an image"):
        client.image("a/b", "v1", platform="linux/amd64")


@pytest.mark.parametrize("stated", [False, True])
def test_indexes_that_nest_too_deep(
    make_client: MakeClient, server: ScriptedServer, store: Store, stated: bool
) -> None:
    entry = store.image("linux/amd64")
    for _ in range(10):
        entry = store.index({**entry, "platform": AMD} if stated else entry)
    store.manifests["v1"] = store.manifests[entry["digest"]]
    with pytest.raises(ManifestInvalid, match="more than 4 deep"):
        make_client(server.url).image("a/b", "v1")
    assert len(server.requests) < 10


@pytest.mark.parametrize("stated", [False, True])
def test_indexes_that_are_too_wide(
    make_client: MakeClient, server: ScriptedServer, store: Store, stated: bool
) -> None:
    """An index may list any number of indexes that lead nowhere."""
    entries = [store.index(annotations={"n": str(n)}) for n in range(300)]
    entries = [{**entry, "platform": AMD} for entry in entries] if stated else entries
    store.index(*entries, *entries, tag="v1")
    client = make_client(server.url)
    with pytest.raises(ManifestInvalid, match="name the image by its digest"):
        client.image("a/b", "v1")
    assert len(server.requests) < 150
    server.requests.clear()
    store.index(*([entries[0]] * 1000), tag="v2")
    with pytest.raises(PlatformNotFound):
        client.image("a/b", "v2")
    assert len(server.requests) == 2


def test_the_platforms_of_an_index_alone() -> None:
    """`find` asks no registry, so entries without a platform are not found by it."""
    index = ImageIndex(manifests=(described(),))
    with pytest.raises(PlatformNotFound, match="the index has: none"):
        index.find("linux/amd64")
