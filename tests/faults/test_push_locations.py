"""The locations of pushed blobs and manifests: absolute URLs below the connection's `base_uri`."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from dockhand_testing.http_server import ReceivedRequest, ScriptedServer, reply

from dockhand_core import Digest, PushResult, RegistryClient

MakeClient = Callable[..., RegistryClient]
DATA = b"data"
BLOB = Digest.of(DATA)
MANIFEST = b'{"schemaVersion":2,"manifests":[]}'
DIGEST = Digest.of(MANIFEST)
BASES = ["", "/", "/v2/", "/some/prefix", "/some/prefix/v2"]


def below(base: str) -> str:
    """Return the path of `base` without `/v2`, as it precedes `/v2/` in requests."""
    return urlsplit(base).path.rstrip("/").removesuffix("/v2")


def pushes(client: RegistryClient) -> dict[str, Callable[[], object]]:
    """Return the pushes by name."""
    return {
        "manifest": lambda: client.put_manifest("a/b", "v1", MANIFEST),
        "manifest by digest": lambda: client.put_manifest("a/b", DIGEST, MANIFEST),
        "blob": lambda: client.upload_blob("a/b", DATA),
        "stream": lambda: client.upload_blob("a/b", iter([DATA])),
        "mount": lambda: client.mount_blob("a/b", BLOB, "a/c"),
    }


def registry_without_locations(
    prefix: str, location: str | None, seen: bool
) -> Callable[..., bytes]:
    """Return a handler that accepts pushes; `location` is the `Location` of each 201."""

    def handle(request: ReceivedRequest) -> bytes:
        if request.method == "HEAD":
            return reply(200 if seen else 404, length=len(DATA) if seen else 0)
        if (
            request.method == "POST"
            and "mount" not in request.query
            and "digest" not in request.query
        ):
            return reply(202, Location=f"{prefix}/v2/a/b/blobs/uploads/1?s=1")
        if request.method == "PATCH":
            return reply(202, Location=f"{prefix}/v2/a/b/blobs/uploads/1?s=2")
        return reply(201) if location is None else reply(201, Location=location)

    return handle


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize(
    "location",
    [None, "", "http://elsewhere.example/v2/x", "/v2/x", "http://[bad", "//elsewhere.example/y"],
)
def test_a_location_is_below_the_base(
    make_client: MakeClient, server: ScriptedServer, base: str, seen: bool, location: str | None
) -> None:
    """A missing, malformed or foreign `Location` is replaced by the URL of the content."""
    server.handler = registry_without_locations(below(base), location, seen)
    client = make_client(server.url + base, retries=0)
    for name, push in pushes(client).items():
        result = push()
        assert isinstance(result, PushResult), name
        if location == "/v2/x" and not below(base) and not (seen and name == "blob"):
            assert result.location == f"{server.url}/v2/x", name
            continue
        kind = "manifests" if "manifest" in name else "blobs"
        assert result.location == f"{server.url}{below(base)}/v2/a/b/{kind}/{result.digest}", name


def test_a_relative_location_is_resolved(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = registry_without_locations("/p", "/p/v2/a/b/here", seen=False)
    client = make_client(server.url + "/p")
    for name, push in pushes(client).items():
        result = push()
        assert isinstance(result, PushResult), name
        assert result.location == f"{server.url}/p/v2/a/b/here", name


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_statuses_of_a_pushed_manifest(
    make_client: MakeClient, server: ScriptedServer, status: int
) -> None:
    """Registries answer a PUT of a manifest with any of these statuses."""
    server.handler = lambda request: reply(status, Docker_Content_Digest=DIGEST)
    result = make_client(server.url).put_manifest("a/b", "v1", MANIFEST)
    assert result.digest == DIGEST
    assert result.location == f"{server.url}/v2/a/b/manifests/{DIGEST}"
