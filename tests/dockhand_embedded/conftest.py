"""Fixtures: a registry on each kind of storage, and its httpx client with helpers that push.

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


class RegistryApi:
    """An httpx client of a registry, and helpers that build and push content."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.registry = Registry(storage)
        self.transport = EmbeddedTransport(self.registry)
        self.client = httpx.Client(transport=self.transport, base_url="http://embedded")

    @staticmethod
    def digest_of(data: bytes, algorithm: str = "sha256") -> str:
        return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"

    @staticmethod
    def error_codes(response: httpx.Response) -> list[str]:
        return [error["code"] for error in response.json()["errors"]]

    def push_blob(self, name: str, data: bytes, algorithm: str = "sha256") -> str:
        """Push a blob in one request, and return its digest."""
        digest = self.digest_of(data, algorithm)
        url = f"/v2/{name}/blobs/uploads/"
        reply = self.client.post(url, params={"digest": digest}, content=data)
        assert reply.status_code == 201, reply.text
        return digest

    def start_upload(self, name: str) -> str:
        """Begin an upload and return its location."""
        reply = self.client.post(f"/v2/{name}/blobs/uploads/")
        assert reply.status_code == 202, reply.text
        return reply.headers["location"]

    def descriptor(self, data: bytes, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.digest_of(data), "size": len(data)}

    def image_manifest(self, layer: bytes, **extra: Any) -> bytes:
        """Make an image manifest with one layer, the config `{}` and extra fields."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.descriptor(b"{}", CONFIG),
            "layers": [self.descriptor(layer, LAYER)],
            **extra,
        }
        return json.dumps(document, indent=2).encode()

    def image_index(self, *manifests: bytes, **extra: Any) -> bytes:
        """Make an image index of these manifests, with extra fields."""
        entries = [self.descriptor(data, OCI_MANIFEST) for data in manifests]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **extra}
        return json.dumps(document).encode()

    def put_manifest(
        self, name: str, reference: str, data: bytes, media_type: str = OCI_MANIFEST
    ) -> httpx.Response:
        """Put a manifest and return the reply."""
        return self.client.put(
            f"/v2/{name}/manifests/{reference}", content=data, headers={"Content-Type": media_type}
        )

    def push_image(self, name: str, reference: str, layer: bytes, **extra: Any) -> bytes:
        """Push an image with its blobs, and return its manifest."""
        self.push_blob(name, layer)
        self.push_blob(name, b"{}")
        manifest = self.image_manifest(layer, **extra)
        reply = self.put_manifest(name, reference or self.digest_of(manifest), manifest)
        assert reply.status_code == 201, reply.text
        return manifest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Provide the path of the folder of a registry, which does not exist yet."""
    return tmp_path / "root"


@pytest.fixture(params=["memory", "layout"])
def storage(request: pytest.FixtureRequest, root: Path) -> Storage:
    """Provide an empty storage, in memory and in a folder."""
    return MemoryStorage() if request.param == "memory" else LayoutStorage(root)


@pytest.fixture
def api(storage: Storage) -> Iterator[RegistryApi]:
    """Provide a client of a registry on the fixture `storage`."""
    api = RegistryApi(storage)
    with api.client:
        yield api


@pytest.fixture
def make_api() -> Callable[[Storage], RegistryApi]:
    """Provide a function that creates a client of a registry on a given storage."""
    return RegistryApi
