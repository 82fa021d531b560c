"""Refresh tokens: issue, use, revocation and expiry."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from authority import SERVICE, USERS
from dockhand_token_server import RefreshTokens
from pydantic import SecretStr

from dockhand_core import ConfigError, Identity, hookimpl

LOGIN: Any = {"source": "users", "entry_hash": b"x", "service": SERVICE, "client_id": "docker"}


def use_refresh_token(endpoint: Any, token: str, *scopes: str) -> Any:
    return endpoint.post(
        grant_type="refresh_token", refresh_token=token, client_id="docker", scope=" ".join(scopes)
    )


def test_a_refresh_token_replaces_the_password(endpoint: Any, another_endpoint: Any) -> None:
    token = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    reply = use_refresh_token(
        endpoint, token, "repository:alice/app:pull,push", "repository:bob/x:pull"
    )
    assert endpoint.granted_scopes(reply) == {"repository:alice/app:pull,push"}
    assert endpoint.claims(reply).subject == "alice"
    assert "refresh_token" not in reply.json()
    # another process that uses the same file accepts the token
    assert use_refresh_token(another_endpoint(), token).status_code == 200
    assert use_refresh_token(endpoint, token).status_code == 200  # a token can be used again
    form = {"grant_type": "password", "username": "bob", "password": USERS["bob"]}
    other = endpoint.post(**form, access_type="offline").json()["refresh_token"]
    assert other != token
    assert endpoint.claims(use_refresh_token(endpoint, other)).subject == "bob"


def test_only_hashes_are_stored(endpoint: Any) -> None:
    token = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    file = endpoint.folder / "refresh_tokens.db"
    assert token.encode() not in file.read_bytes()
    assert token.removeprefix("dhr_").encode() not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("token", ["", "dhr_", "nonsense", "dhr_" + "a" * 43, "dhr_" + "a" * 999])
def test_unknown_refresh_tokens_are_refused(endpoint: Any, token: str) -> None:
    reply = use_refresh_token(endpoint, token)
    assert "log in again" in endpoint.assert_refused(reply, 401)
    assert reply.json()["error"] == "invalid_grant"


def test_a_refresh_token_is_for_one_registry(endpoint: Any) -> None:
    endpoint.serve(services=["one", "two"])
    form = {"grant_type": "password", "username": "bob", "password": USERS["bob"]}
    token = endpoint.post(**form, access_type="offline", service="one").json()["refresh_token"]
    again = {"grant_type": "refresh_token", "refresh_token": token}
    assert endpoint.post(**again, service="one").status_code == 200
    endpoint.assert_refused(endpoint.post(**again, service="two"), 401)


def test_revocation(endpoint: Any) -> None:
    tokens = [endpoint.get(user="alice", offline=True).json()["refresh_token"] for _ in range(3)]
    bobs = endpoint.get(user="bob", offline=True).json()["refresh_token"]
    store = RefreshTokens(endpoint.folder / "refresh_tokens.db", 60)
    records = store.list_valid("alice")
    assert [record.client_id for record in records] == ["docker"] * 3
    assert store.revoke(id=records[0].id) == 1
    assert store.revoke(id=records[0].id) == 0
    statuses = [use_refresh_token(endpoint, token).status_code for token in tokens]
    assert statuses == [401, 200, 200]
    assert store.revoke(user="alice") == 2
    assert [use_refresh_token(endpoint, token).status_code for token in tokens] == [401, 401, 401]
    assert use_refresh_token(endpoint, bobs).status_code == 200


def test_a_new_password_invalidates_refresh_tokens(endpoint: Any) -> None:
    tokens = {user: endpoint.get(user=user, offline=True).json()["refresh_token"] for user in USERS}
    hashed = bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode()
    lines = (endpoint.folder / "htpasswd").read_text().splitlines()
    endpoint.overwrite("htpasswd", f"alice:{hashed}\n{lines[1]}\n".encode())
    endpoint.assert_refused(use_refresh_token(endpoint, tokens["alice"]), 401)
    assert use_refresh_token(endpoint, tokens["bob"]).status_code == 200
    endpoint.overwrite("htpasswd", f"alice:{hashed}\n".encode())  # without bob
    endpoint.assert_refused(use_refresh_token(endpoint, tokens["bob"]), 401)


def test_disabled_refresh_tokens(endpoint: Any) -> None:
    endpoint.serve(refresh_tokens=False)
    assert "refresh_token" not in endpoint.get(user="alice", offline=True).json()
    endpoint.assert_refused(use_refresh_token(endpoint, "dhr_x"), 401)


class AcceptsAnyUser:
    @hookimpl
    def dockhand_authenticate(self, username: str, password: SecretStr) -> Identity | None:
        return Identity(username, frozenset({"readers"}))


def test_a_user_of_a_plugin(endpoint: Any, another_endpoint: Any) -> None:
    endpoint.plugins.register(AcceptsAnyUser(), name="ldap")
    shared = "repository:alice/shared:pull"
    token = endpoint.get(user="carol", password="x", offline=True).json()["refresh_token"]
    assert endpoint.granted_scopes(use_refresh_token(endpoint, token, shared)) == {shared}
    # an endpoint without the plugin refuses the token
    endpoint.assert_refused(use_refresh_token(another_endpoint(), token, shared), 401)


def test_records_and_expiry(tmp_path: Path) -> None:
    now = 1000.0
    store = RefreshTokens(tmp_path / "new" / "tokens.db", 100, clock=lambda: now)
    token = store.issue(Identity("alice", frozenset({"b", "a"})), **LOGIN)
    record = store.find(token, SERVICE)
    assert record is not None
    assert record.identity == Identity("alice", frozenset({"a", "b"}))
    assert (record.source, record.entry_hash, record.client_id) == ("users", b"x", "docker")
    assert (record.expires_at - record.issued_at).total_seconds() == 100
    assert store.find(token, "other") is None
    now += 99
    assert store.find(token, SERVICE) == record
    now += 1
    assert store.find(token, SERVICE) is None
    assert store.list_valid() == []
    store.issue(Identity("bob"), **LOGIN)
    with closing(sqlite3.connect(tmp_path / "new" / "tokens.db")) as database:
        assert database.execute("SELECT count(*) FROM refresh_tokens").fetchone() == (1,)


def test_the_oldest_tokens_of_a_user_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockhand_token_server.refresh_tokens._MAX_PER_USER", 2)
    store = RefreshTokens(tmp_path / "tokens.db", 100)
    tokens = [store.issue(Identity("alice"), **LOGIN) for _ in range(3)]
    bobs = store.issue(Identity("bob"), **LOGIN)
    found = [store.find(token, SERVICE) is not None for token in [*tokens, bobs]]
    assert found == [False, True, True, True]


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="written by a newer version"):
        RefreshTokens(tmp_path / "tokens.db", 100)
