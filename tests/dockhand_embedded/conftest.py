"""A registry over each storage, as an httpx client with a few ways to push.

The helpers are methods of a fixture, since test modules here cannot import one another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dockhand_embedded import EmbeddedTransport, LayoutStorage, MemoryStorage, Registry, Storage

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Pushes:
    """A client, and what the tests push with it."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.registry = Registry(storage)
        self.transport = EmbeddedTransport(self.registry)
        self.client = httpx.Client(transport=self.transport, base_url="http://embedded")

    @staticmethod
    def digest_of(data: bytes, algorithm: str = "sha256") -> str:
        return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"

    @staticmethod
    def codes(response: httpx.Response) -> list[str]:
        return [error["code"] for error in response.json()["errors"]]

    def blob(self, name: str, data: bytes, algorithm: str = "sha256") -> str:
        """Push a blob in one request."""
        digest = self.digest_of(data, algorithm)
        url = f"/v2/{name}/blobs/uploads/"
        reply = self.client.post(url, params={"digest": digest}, content=data)
        assert reply.status_code == 201, reply.text
        return digest

    def start(self, name: str) -> str:
        """Begin an upload and give its location."""
        reply = self.client.post(f"/v2/{name}/blobs/uploads/")
        assert reply.status_code == 202, reply.text
        return reply.headers["location"]

    def descriptor(self, data: bytes, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.digest_of(data), "size": len(data)}

    def manifest(self, layer: bytes, **extra: Any) -> bytes:
        """An image manifest of one layer and the config `{}`, with extra keys."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.descriptor(b"{}", CONFIG),
            "layers": [self.descriptor(layer, LAYER)],
            **extra,
        }
        return json.dumps(document, indent=2).encode()

    def index(self, *manifests: bytes, **extra: Any) -> bytes:
        """An image index over manifests, with extra keys."""
        entries = [self.descriptor(data, OCI_MANIFEST) for data in manifests]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **extra}
        return json.dumps(document).encode()

    def put(
        self, name: str, reference: str, data: bytes, media_type: str = OCI_MANIFEST
    ) -> httpx.Response:
        """Put a manifest and give the reply."""
        return self.client.put(
            f"/v2/{name}/manifests/{reference}", content=data, headers={"Content-Type": media_type}
        )

    def image(self, name: str, reference: str, layer: bytes, **extra: Any) -> bytes:
        """Push an image with its blobs; gives the manifest."""
        self.blob(name, layer)
        self.blob(name, b"{}")
        manifest = self.manifest(layer, **extra)
        reply = self.put(name, reference or self.digest_of(manifest), manifest)
        assert reply.status_code == 201, reply.text
        return manifest


@pytest.fixture(params=["memory", "layout"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty storage of either kind."""
    return MemoryStorage() if request.param == "memory" else LayoutStorage(tmp_path / "root")


@pytest.fixture
def to(storage: Storage) -> Iterator[Pushes]:
    """A client of a registry over that storage."""
    pushes = Pushes(storage)
    with pushes.client:
        yield pushes


@pytest.fixture
def over() -> Callable[[Storage], Pushes]:
    """A client of a registry over a storage of the test's own."""
    return Pushes
