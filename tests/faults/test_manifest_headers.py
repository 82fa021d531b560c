"""Manifests whose replies have headers that say nothing, or no HEAD, or bodies of another kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dockhand_testing.http_server import ScriptedServer, reply

from dockhand_core import (
    Descriptor,
    Digest,
    ManifestHead,
    ManifestInvalid,
    RegistryClient,
)
from dockhand_core.models import media

MakeClient = Callable[..., RegistryClient]
MANIFEST = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % media.OCI_INDEX.encode()
DIGEST = Digest.of(MANIFEST)


def answering(head: bytes, body: bytes = MANIFEST, **headers: str) -> Callable[..., bytes]:
    """Return a handler with `head` for HEAD, and the manifest `body` for GET."""
    headers.setdefault("Content_Type", media.OCI_INDEX)
    return lambda request: head if request.method == "HEAD" else reply(200, body, **headers)


TYPES = [
    "text/plain; charset=utf-8",
    "text/html",
    "application/octet-stream",
    "Application/JSON",
    media.OCI_INDEX.upper(),
    f"{media.OCI_INDEX} ; charset=utf-8",
]


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("raw", [MANIFEST, b'{"schemaVersion":null,"manifests":null}'])
def test_a_content_type_that_is_general(
    make_client: MakeClient, server: ScriptedServer, content_type: str, raw: bytes
) -> None:
    """The media type is then the one of the document, for a HEAD, too."""
    digest = Digest.of(raw)
    head = reply(
        200, length=len(raw), Content_Type=content_type, Docker_Content_Digest=Digest.of(raw)
    )
    server.handler = answering(head, raw, Content_Type=content_type)
    client = make_client(server.url)
    found = client.manifest("a/b", "v1")
    assert (found.media_type, found.digest, found.is_index) == (media.OCI_INDEX, digest, True)
    assert client.manifest_head("a/b", "v1") == ManifestHead(
        digest=digest, size=len(raw), media_type=media.OCI_INDEX
    )


@pytest.mark.parametrize("announced", ["md5:" + "0" * 32, "sha384:" + "0" * 96, "blake3:ab"])
def test_a_digest_of_another_algorithm(
    make_client: MakeClient, server: ScriptedServer, announced: str
) -> None:
    """A digest that cannot be computed here is not the answer; the manifest's own is."""
    head = reply(
        200, length=len(MANIFEST), Content_Type=media.OCI_INDEX, Docker_Content_Digest=announced
    )
    server.handler = answering(head, Docker_Content_Digest=announced)
    client = make_client(server.url)
    assert client.manifest_head("a/b", "v1").digest == DIGEST
    count = len(server.requests)
    assert client.manifest_head("a/b", DIGEST).digest == DIGEST
    assert len(server.requests) == count + 1


def test_the_digest_that_was_asked_for(make_client: MakeClient, server: ScriptedServer) -> None:
    other = Digest.of(MANIFEST, "sha512")
    server.handler = lambda request: reply(
        200, length=len(MANIFEST), Content_Type=media.OCI_INDEX, Docker_Content_Digest=other
    )
    assert make_client(server.url).manifest_head("a/b", DIGEST).digest == DIGEST


@pytest.mark.parametrize("status", [400, 405, 501])
def test_a_registry_without_head(
    make_client: MakeClient, server: ScriptedServer, status: int
) -> None:
    server.handler = answering(reply(status))
    client = make_client(server.url)
    assert client.manifest_head("a/b", "v1").digest == DIGEST
    assert client.manifest_exists("a/b", "v1")
    server.handler = lambda request: reply(status if request.method == "HEAD" else 404)
    assert not client.manifest_exists("a/b", "v1")


@pytest.mark.parametrize("body", [b"<html><title>Sign in</title></html>", b"", b"[]", b"{}"])
def test_a_success_that_is_no_manifest(
    make_client: MakeClient, server: ScriptedServer, body: bytes
) -> None:
    """The error names the URL and the Content-Type of the reply."""
    server.handler = lambda request: reply(200, body, Content_Type="text/html")
    with pytest.raises(ManifestInvalid, match=r"/v2/a/b/manifests/v1 \(Content-Type text/html\)"):
        make_client(server.url).manifest("a/b", "v1")


def test_an_image_that_is_called_an_index(make_client: MakeClient, server: ScriptedServer) -> None:
    """It is not taken for an index without entries."""
    body = b'{"schemaVersion":2,"config":{"mediaType":"x/y","digest":"%s","size":2},"layers":[]}'
    body %= Digest.of(b"{}").encode()
    server.handler = lambda request: reply(200, body, Content_Type=media.OCI_INDEX)
    with pytest.raises(ManifestInvalid, match="no 'manifests'"):
        make_client(server.url).manifest("a/b", "v1")


def test_nulls_in_a_config(make_client: MakeClient, server: ScriptedServer) -> None:
    body = b'{"os":"linux","config":{"Env":null},"history":[{"empty_layer":null}],"rootfs":null}'
    server.handler = lambda request: reply(200, body)
    config = make_client(server.url).image_config(
        "a/b", Descriptor(media_type="x/y", digest=Digest.of(body), size=len(body))
    )
    assert (config.env, config.diff_ids) == ({}, ())
    assert config.history is not None
    assert config.history[0].empty_layer is False
