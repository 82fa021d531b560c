"""A registry that demands a login."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from registries import PASSWORD

from dockhand_core import Digest, RegistryClient, Unauthorized

ConnectWithAuth = Callable[..., RegistryClient]


def test_login(connect_with_auth: ConnectWithAuth, repository: str) -> None:
    registry = connect_with_auth(driver="basic", username="alice", password=PASSWORD)
    registry.ping()
    digest = registry.upload_blob(repository, b"data").digest
    assert registry.read_blob(repository, digest) == b"data"


def test_login_by_key(connect_with_auth: ConnectWithAuth, repository: str) -> None:
    registry = connect_with_auth(driver="apikey", username="alice", api_key=PASSWORD)
    registry.ping()
    assert not registry.blob_exists(repository, Digest.of(b"nothing"))


def test_login_refused(connect_with_auth: ConnectWithAuth, repository: str) -> None:
    for auth in (
        {"driver": "basic", "username": "alice", "password": "a-wrong-one"},
        {"driver": "bearer", "token": "a-wrong-one"},
        {"driver": "null"},
    ):
        registry = connect_with_auth(**auth)
        assert registry.is_online()
        with pytest.raises(Unauthorized, match="it asks for Basic") as caught:
            registry.read_blob(repository, Digest.of(b"data"))
        assert caught.value.status == 401
        assert caught.value.code == "UNAUTHORIZED"
        assert "a-wrong-one" not in repr(caught.value)
