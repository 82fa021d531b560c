"""The scripted registry: a registry, replies in place of its own, and faults by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dockhand_testing import FAULTS, ScriptedRegistry, build_image, build_index, reply

from dockhand_core import (
    ConnectionFailed,
    DigestMismatch,
    RegistryClient,
    ServerError,
    Timeout,
    TooManyRequests,
    Unauthorized,
)

ERRORS = {
    "cut": ConnectionFailed,
    "stall": Timeout,
    "429": TooManyRequests,
    "503": ServerError,
    "redirect": None,
    "lie about length": ConnectionFailed,
    "wrong digest": DigestMismatch,
    "expired token": Unauthorized,
}
IMAGE = build_image()
LAYER = IMAGE.manifest.layers[0].digest


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(scripted_registry: ScriptedRegistry, fault: str) -> None:
    scripted_registry.push(IMAGE, "library/app", "v1")
    with scripted_registry.client(retries=0, timeout=0.5) as client:
        scripted_registry.then(fault, method="GET", path="/blobs/")
        error = ERRORS[fault]
        if error is None:
            assert client.read_blob("library/app", LAYER) == IMAGE.blobs[LAYER]
            assert [each.path for each in scripted_registry.elsewhere.requests] == [
                f"/v2/library/app/blobs/{LAYER}"
            ]
        else:
            with pytest.raises(error):
                client.read_blob("library/app", LAYER)
        assert scripted_registry.unused == 0
        assert client.read_blob("library/app", LAYER) == IMAGE.blobs[LAYER]


def test_redirected_request_gets_the_own_answer(scripted_registry: ScriptedRegistry) -> None:
    scripted_registry.answer = lambda request: (
        reply(200, b'{"repositories": ["own"]}') if "_catalog" in request.path else None
    )
    scripted_registry.then("redirect", path="_catalog")
    with scripted_registry.client() as client:
        assert list(client.repositories()) == ["own"]
    assert len(scripted_registry.elsewhere.requests) == 1


def test_wrong_digest_of_a_head(scripted_registry: ScriptedRegistry) -> None:
    scripted_registry.push(IMAGE, "library/app", "v1")
    scripted_registry.then("wrong digest", method="HEAD")
    with scripted_registry.client() as client:
        assert client.manifest_head("library/app", "v1").digest == f"sha256:{'0' * 64}"
        assert client.manifest_head("library/app", "v1").digest == IMAGE.digest


def test_replies_in_order(scripted_registry: ScriptedRegistry) -> None:
    tags: Callable[[str], bytes] = lambda tag: reply(  # noqa: E731
        200, b'{"name": "a", "tags": ["%s"]}' % tag.encode(), Content_Type="application/json"
    )
    scripted_registry.then(tags("one"), None, lambda request: tags(request.method.lower()))
    scripted_registry.push(IMAGE, "library/app", "own")
    with scripted_registry.client() as client:
        assert [list(client.tags("library/app")) for _ in range(4)] == [
            ["one"],
            ["own"],
            ["get"],
            ["own"],
        ]


def test_a_client_pushes_and_reads(scripted_registry: ScriptedRegistry) -> None:
    index = build_index()
    with scripted_registry.client() as client:
        index.push(client, "library/app", "v1", "latest")
        assert list(client.tags("library/app")) == ["latest", "v1"]
        found = client.image("library/app", "v1", platform="linux/arm64/v8")
        assert found.digest == index.images[1].digest
        assert_config(client, found.config.digest)


def assert_config(client: RegistryClient, digest: str) -> None:
    assert b'"arm64"' in client.read_blob("library/app", digest)


def test_access(scripted_registry: ScriptedRegistry) -> None:
    scripted_registry.accepts = lambda request: request.headers.get("X-API-KEY") == "k"
    scripted_registry.challenge = 'Basic realm="{url}"'
    with scripted_registry.client() as client, pytest.raises(Unauthorized, match="Basic"):
        client.ping()
    with scripted_registry.client(headers={"x-api-key": "k"}) as client:
        client.ping()
    assert "X-Api-Key" in scripted_registry.requests[-1].headers
    assert scripted_registry.requests[-1].headers["x-API-key"] == "k"


def test_unknown_fault(scripted_registry: ScriptedRegistry) -> None:
    with pytest.raises(ValueError, match="no fault 'explode'; the faults are: cut, stall, 429"):
        scripted_registry.then("explode")
    scripted_registry.then("Wrong-Digest", "lie_about_length")
    assert scripted_registry.unused == 2
