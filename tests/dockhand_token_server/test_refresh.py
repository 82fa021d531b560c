"""Refresh tokens: given, used, revoked, expired."""

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

ALICE = {"source": "users", "stamp": b"x", "service": SERVICE, "client": "docker"}


def refreshed(endpoint: Any, token: str, *scopes: str) -> Any:
    return endpoint.post(
        grant_type="refresh_token", refresh_token=token, client_id="docker", scope=" ".join(scopes)
    )


def test_a_refresh_token_stands_for_the_password(endpoint: Any, another: Any) -> None:
    token = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    reply = refreshed(endpoint, token, "repository:alice/app:pull,push", "repository:bob/x:pull")
    assert endpoint.granted(reply) == {"repository:alice/app:pull,push"}
    assert endpoint.claims(reply).subject == "alice"
    assert "refresh_token" not in reply.json()
    # another process with the same file knows it
    assert refreshed(another(), token).status_code == 200
    assert refreshed(endpoint, token).status_code == 200  # clients keep it
    form = {"grant_type": "password", "username": "bob", "password": USERS["bob"]}
    other = endpoint.post(**form, access_type="offline").json()["refresh_token"]
    assert other != token
    assert endpoint.claims(refreshed(endpoint, other)).subject == "bob"


def test_what_is_stored_is_no_token(endpoint: Any) -> None:
    token = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    file = endpoint.folder / "refresh_tokens.db"
    assert token.encode() not in file.read_bytes()
    assert token.removeprefix("dhr_").encode() not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("token", ["", "dhr_", "nonsense", "dhr_" + "a" * 43, "dhr_" + "a" * 999])
def test_unknown_refresh_tokens(endpoint: Any, token: str) -> None:
    reply = refreshed(endpoint, token)
    assert "log in again" in endpoint.refused(reply, 401)
    assert reply.json()["error"] == "invalid_grant"


def test_for_one_registry_alone(endpoint: Any) -> None:
    endpoint.serve(services=["one", "two"])
    form = {"grant_type": "password", "username": "bob", "password": USERS["bob"]}
    token = endpoint.post(**form, access_type="offline", service="one").json()["refresh_token"]
    again = {"grant_type": "refresh_token", "refresh_token": token}
    assert endpoint.post(**again, service="one").status_code == 200
    endpoint.refused(endpoint.post(**again, service="two"), 401)


def test_a_revoked_one(endpoint: Any) -> None:
    tokens = [endpoint.get(user="alice", offline=True).json()["refresh_token"] for _ in range(3)]
    bobs = endpoint.get(user="bob", offline=True).json()["refresh_token"]
    store = RefreshTokens(endpoint.folder / "refresh_tokens.db", 60)
    held = store.held("alice")
    assert [each.client for each in held] == ["docker"] * 3
    assert store.revoke(id=held[0].id) == 1
    assert store.revoke(id=held[0].id) == 0
    answers = [refreshed(endpoint, token).status_code for token in tokens]
    assert answers == [401, 200, 200]
    assert store.revoke(user="alice") == 2
    assert [refreshed(endpoint, token).status_code for token in tokens] == [401, 401, 401]
    assert refreshed(endpoint, bobs).status_code == 200


def test_a_new_password_makes_them_void(endpoint: Any) -> None:
    tokens = {user: endpoint.get(user=user, offline=True).json()["refresh_token"] for user in USERS}
    hashed = bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode()
    file = endpoint.folder / "htpasswd"
    lines = file.read_text().splitlines()
    file.write_text(f"alice:{hashed}\n{lines[1]}\n")
    endpoint.refused(refreshed(endpoint, tokens["alice"]), 401)
    assert refreshed(endpoint, tokens["bob"]).status_code == 200
    file.write_text(f"alice:{hashed}\n")  # bob is gone
    endpoint.refused(refreshed(endpoint, tokens["bob"]), 401)


def test_none_are_given_where_none_are_wanted(endpoint: Any) -> None:
    endpoint.serve(refresh_tokens=False)
    assert "refresh_token" not in endpoint.get(user="alice", offline=True).json()
    endpoint.refused(refreshed(endpoint, "dhr_x"), 401)


class Plugin:
    @hookimpl
    def dockhand_authenticate(self, username: str, password: SecretStr) -> Identity | None:
        return Identity(username, frozenset({"readers"}))


def test_whom_a_plugin_knew(endpoint: Any, another: Any) -> None:
    endpoint.plugins.register(Plugin(), name="ldap")
    shared = "repository:alice/shared:pull"
    token = endpoint.get(user="carol", password="x", offline=True).json()["refresh_token"]
    assert endpoint.granted(refreshed(endpoint, token, shared)) == {shared}
    # not where that plugin is no longer asked
    endpoint.refused(refreshed(another(), token, shared), 401)


def test_the_store(tmp_path: Path) -> None:
    now = 1000.0
    store = RefreshTokens(tmp_path / "new" / "tokens.db", 100, clock=lambda: now)
    token = store.issue(Identity("alice", frozenset({"b", "a"})), **ALICE)  # type: ignore[arg-type]
    held = store.find(token, SERVICE)
    assert held is not None
    assert held.identity == Identity("alice", frozenset({"a", "b"}))
    assert (held.source, held.stamp, held.client) == ("users", b"x", "docker")
    assert (held.expires - held.issued).total_seconds() == 100
    assert store.find(token, "other") is None
    now += 99
    assert store.find(token, SERVICE) == held
    now += 1
    assert store.find(token, SERVICE) is None
    assert store.held() == []
    store.issue(Identity("bob"), **ALICE)  # type: ignore[arg-type]
    with closing(sqlite3.connect(tmp_path / "new" / "tokens.db")) as database:
        assert database.execute("SELECT count(*) FROM refresh_tokens").fetchone() == (1,)


def test_the_oldest_of_a_user_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockhand_token_server.refresh._EACH", 2)
    store = RefreshTokens(tmp_path / "tokens.db", 100)
    tokens = [store.issue(Identity("alice"), **ALICE) for _ in range(3)]  # type: ignore[arg-type]
    bobs = store.issue(Identity("bob"), **ALICE)  # type: ignore[arg-type]
    there = [store.find(token, SERVICE) is not None for token in [*tokens, bobs]]
    assert there == [False, True, True, True]


def test_a_file_of_a_newer_version(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="written by a newer version"):
        RefreshTokens(tmp_path / "tokens.db", 100)
