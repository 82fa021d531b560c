"""The auth driver `token`, tested with recordings of Distribution 3.1 and a token endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from authority import registry_auth, token_server, write_authority
from dockhand_testing.contracts.samples import push_image
from http_cassettes import RECORDING, REPLAY_URL, BlockingAsyncClient, cassette
from registries import PASSWORD, distribution

from dockhand_core import Denied, RegistryClient, Unauthorized, connect

ALICE = {"driver": "token", "username": "alice", "password": PASSWORD}


@pytest.fixture(params=["sync"] if RECORDING else ["sync", "async"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryClient]:
    """Connect a client to Distribution 3.1, which demands tokens of a token endpoint."""
    with ExitStack() as stack:
        url = REPLAY_URL
        if RECORDING:
            endpoint = stack.enter_context(token_server(write_authority(tmp_path / "authority")))
            auth = registry_auth(tmp_path / "authority", endpoint)
            auth["token"]["realm"] = f"{endpoint}/token"
            url = stack.enter_context(distribution("3.1", tmp_path / "registry", auth=auth))
        name: str = request.node.originalname.removeprefix("test_")
        stack.enter_context(cassette("token", name))
        settings: dict[str, Any] = {
            "auth": ALICE, "transport": "httpx", "retries": 0, "logging": {"driver": "null"},
        }  # fmt: skip
        made = connect if request.param == "sync" else BlockingAsyncClient
        yield stack.enter_context(made(url, **settings))


def test_push_pull_and_mount(registry: RegistryClient) -> None:
    manifest = push_image(registry, "alice/app", "v1")
    assert registry.manifest("alice/app", "v1").raw == manifest.raw
    assert list(registry.repositories()) == ["alice/app"]
    layer = manifest.layers[0].digest
    registry.mount_blob("alice/other", layer, "alice/app")
    assert registry.blob_exists("alice/other", layer)
    registry.delete_manifest("alice/app", manifest.digest)
    assert not registry.manifest_exists("alice/app", "v1")


def test_what_is_not_granted(registry: RegistryClient) -> None:
    with pytest.raises((Unauthorized, Denied)):
        registry.upload_blob("bob/app", b"data")
