"""Refresh tokens: issue, use, revocation and expiry."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import threading
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


class Directory:
    """A plugin with accounts, by user name; `answer` replaces its answer to dockhand_identify."""

    def __init__(self, **accounts: Identity) -> None:
        self.accounts = accounts
        self.answer: Any = None
        self.identified: list[tuple[str, str]] = []

    @hookimpl
    def dockhand_authenticate(self, username: str, password: SecretStr) -> Identity | None:
        return self.accounts.get(username)

    def _identify(self, username: str, service: str) -> Any:
        self.identified.append((username, service))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if self.answer is not None else self.accounts.get(username)


class SyncDirectory(Directory):
    @hookimpl
    def dockhand_identify(self, username: str, service: str) -> Any:
        return self._identify(username, service)


class AsyncDirectory(Directory):
    @hookimpl
    async def dockhand_identify(self, username: str, service: str) -> Any:
        return self._identify(username, service)


SHARED = "repository:alice/shared:pull"


@pytest.mark.parametrize("kind", [SyncDirectory, AsyncDirectory])
def test_the_plugin_is_asked_at_each_refresh(endpoint: Any, kind: type[Directory]) -> None:
    plugin = kind(**{"Carol@Example": Identity("carol", frozenset({"readers"}))})
    endpoint.plugins.register(plugin, name="ldap")
    login = endpoint.get(user="Carol@Example", password="x", offline=True)
    token = login.json()["refresh_token"]
    assert plugin.identified == []
    reply = use_refresh_token(endpoint, token, SHARED)
    assert endpoint.granted_scopes(reply) == {SHARED}
    assert endpoint.claims(reply).subject == "carol"
    # the user name as it was sent at the login
    assert plugin.identified == [("Carol@Example", SERVICE)]
    plugin.accounts["Carol@Example"] = Identity("carol")  # has left the group
    assert endpoint.granted_scopes(use_refresh_token(endpoint, token, SHARED)) == set()
    removed = plugin.accounts.pop("Carol@Example")
    endpoint.assert_refused(use_refresh_token(endpoint, token, SHARED), 401)
    plugin.accounts["Carol@Example"] = removed  # another account of the same name
    endpoint.assert_refused(use_refresh_token(endpoint, token, SHARED), 401)


@pytest.mark.parametrize("kind", [SyncDirectory, AsyncDirectory])
@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("with s3cret"), "carol", True, {"name": "carol"}, Identity(""),
        Identity("alice"), Identity("carol", frozenset({1})),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_refresh_is_refused_if_the_plugin_fails(
    endpoint: Any, kind: type[Directory], answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = kind(carol=Identity("carol"))
    endpoint.plugins.register(plugin, name="ldap")
    token = endpoint.get(user="carol", password="x", offline=True).json()["refresh_token"]
    plugin.answer = answer
    endpoint.assert_refused(use_refresh_token(endpoint, token), 401)
    assert "plugin ldap: refresh token of 'carol' refused, dockhand_identify" in caplog.text
    assert "s3cret" not in caplog.text
    plugin.answer = None  # the failure was not the account's, which keeps its token
    assert use_refresh_token(endpoint, token).status_code == 200


def test_a_plugin_that_takes_too_long_refuses(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockhand_token_server.authentication._HOOK_SECONDS", 0.05)

    class Slow(Directory):
        @hookimpl
        async def dockhand_identify(self, username: str) -> Any:
            await asyncio.Event().wait()

    endpoint.plugins.register(Slow(carol=Identity("carol")), name="ldap")
    token = endpoint.get(user="carol", password="x", offline=True).json()["refresh_token"]
    endpoint.assert_refused(use_refresh_token(endpoint, token), 401)


def test_failures_of_a_plugin_do_not_count_as_failed_logins(endpoint: Any) -> None:
    plugin = SyncDirectory(carol=Identity("carol"))
    endpoint.plugins.register(plugin, name="ldap")
    endpoint.serve(login_limit={"failures": 2, "seconds": 3600})
    token = endpoint.get(user="carol", password="x", offline=True).json()["refresh_token"]
    plugin.answer = RuntimeError()
    for _ in range(3):
        endpoint.assert_refused(use_refresh_token(endpoint, token), 401)
    assert endpoint.get(user="bob").status_code == 200


def test_no_refresh_token_without_identify(
    endpoint: Any, another_endpoint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    accounts = {"carol": Identity("carol")}
    endpoint.plugins.register(SyncDirectory(**accounts), name="ldap")
    token = endpoint.get(user="carol", password="x", offline=True).json()["refresh_token"]
    without = another_endpoint()
    without.plugins.register(Directory(**accounts), name="ldap")
    # a plugin of another name does not know the users of the first
    without.plugins.register(SyncDirectory(**accounts), name="other")
    reply = without.get(user="carol", password="x", offline=True)
    assert reply.status_code == 200
    assert "refresh_token" not in reply.json()
    assert "no refresh tokens for the users of plugin ldap" in caplog.text
    without.assert_refused(use_refresh_token(without, token), 401)
    assert "refresh_token" in without.get(user="alice", offline=True).json()
    # an endpoint without the plugin refuses the token, too
    endpoint.assert_refused(use_refresh_token(another_endpoint(), token), 401)


def test_the_htpasswd_file_takes_precedence_at_a_refresh(endpoint: Any) -> None:
    plugin = SyncDirectory(carol=Identity("carol"))
    endpoint.plugins.register(plugin, name="ldap")
    token = endpoint.get(user="carol", password="x", offline=True).json()["refresh_token"]
    hashed = bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode()
    text = (endpoint.folder / "htpasswd").read_text()
    endpoint.overwrite("htpasswd", f"{text}carol:{hashed}\n".encode())
    endpoint.assert_refused(use_refresh_token(endpoint, token), 401)
    assert plugin.identified == []


def exchange(endpoint: Any, token: str) -> Any:
    """Use a refresh token, and ask for a new one."""
    return endpoint.post(
        grant_type="refresh_token", refresh_token=token, access_type="offline", client_id="nerdctl"
    )


def test_a_client_that_asks_gets_a_new_refresh_token(
    endpoint: Any, another_endpoint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    other_login = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    reply = exchange(endpoint, first)
    assert endpoint.claims(reply).subject == "alice"
    second = reply.json()["refresh_token"]
    third = exchange(another_endpoint(), second).json()["refresh_token"]
    assert len({first, second, third, other_login}) == 4
    assert use_refresh_token(endpoint, third).status_code == 200
    assert "spent" not in caplog.text
    # somebody else uses the first token, which the client has exchanged long ago
    endpoint.assert_refused(use_refresh_token(another_endpoint(), first), 401)
    assert "a spent refresh token of 'alice' was used again" in caplog.text
    for token in (first, second, third):
        endpoint.assert_refused(exchange(endpoint, token), 401)
    assert use_refresh_token(endpoint, other_login).status_code == 200


def test_every_refresh_gives_a_new_token(
    endpoint: Any, another_endpoint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The client does not ask for the new token; the old one ends when the new one is used."""
    first = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    # docker never uses the new tokens
    offered = [use_refresh_token(endpoint, first).json()["refresh_token"] for _ in range(3)]
    assert len({first, *offered}) == 4
    reply = use_refresh_token(another_endpoint(), offered[1], "repository:alice/app:pull")
    assert endpoint.granted_scopes(reply) == {"repository:alice/app:pull"}
    third = reply.json()["refresh_token"]
    assert use_refresh_token(endpoint, third).status_code == 200
    assert "spent" not in caplog.text
    endpoint.assert_refused(use_refresh_token(endpoint, first), 401)
    assert "a spent refresh token of 'alice' was used again" in caplog.text
    for token in (*offered, third):
        endpoint.assert_refused(use_refresh_token(another_endpoint(), token), 401)


def test_the_old_token_ends_with_the_first_use_of_the_new_one(endpoint: Any) -> None:
    for renew in (use_refresh_token, exchange):
        first = endpoint.get(user="alice", offline=True).json()["refresh_token"]
        second = renew(endpoint, first).json()["refresh_token"]
        assert use_refresh_token(endpoint, first).status_code == 200  # the reply was lost
        assert use_refresh_token(endpoint, second).status_code == 200
        endpoint.assert_refused(use_refresh_token(endpoint, first), 401)
        endpoint.assert_refused(use_refresh_token(endpoint, second), 401)


@pytest.mark.parametrize(
    "client", ["go-containerregistry", "regclient/regctl (v0.11.7)", "dockhand"]
)
def test_a_client_that_keeps_tokens_in_memory_gets_one_if_it_asks(
    endpoint: Any, client: str
) -> None:
    token = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": client}
    assert "refresh_token" not in endpoint.post(**form).json()
    assert "refresh_token" in endpoint.post(**form, access_type="offline").json()


def test_rotation_on_request(endpoint: Any) -> None:
    endpoint.serve(refresh_token_rotation="requested")
    token = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    assert "refresh_token" not in use_refresh_token(endpoint, token).json()
    assert "refresh_token" in exchange(endpoint, token).json()
    with pytest.raises(ConfigError, match="refresh_token_rotation"):
        endpoint.serve(refresh_token_rotation="never")


def is_full(*_: Any, **__: Any) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def test_tokens_are_given_without_a_new_refresh_token_if_it_cannot_be_stored(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    monkeypatch.setattr(RefreshTokens, "rotate", is_full)
    monkeypatch.setattr(RefreshTokens, "issue", is_full)
    for reply in (
        use_refresh_token(endpoint, token),
        exchange(endpoint, token),
        endpoint.get(user="alice", offline=True),
    ):
        assert endpoint.claims(reply).subject == "alice"
        assert "refresh_token" not in reply.json()
    assert caplog.text.count("refresh_tokens.db: database or disk is full") == 3


def test_a_file_that_is_damaged_while_the_endpoint_runs(
    endpoint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    token = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    (endpoint.folder / "refresh_tokens.db").write_bytes(b"x" * 9000)
    reply = use_refresh_token(endpoint, token)
    assert "try again later" in endpoint.assert_refused(reply, 503)
    assert reply.headers["retry-after"] == "5"
    assert "refresh_tokens.db: file is not a database" in caplog.text
    assert "refresh_token" not in endpoint.get(user="alice", offline=True).json()


def test_a_file_that_is_deleted_while_the_endpoint_runs(endpoint: Any) -> None:
    """All refresh tokens are revoked; only the owner can read the new file."""
    token = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    file = endpoint.folder / "refresh_tokens.db"
    file.unlink()
    endpoint.assert_refused(use_refresh_token(endpoint, token), 401)
    assert file.stat().st_mode & 0o777 == 0o600
    file.unlink()
    token = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert use_refresh_token(endpoint, token).status_code == 200


def test_plugins_that_hang_delay_nobody_else(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hanging call takes a thread for ever, but none that other users need."""
    monkeypatch.setattr("dockhand_token_server.authentication._HOOK_SECONDS", 0.3)
    released = threading.Event()

    class Hanging(Directory):
        @hookimpl
        def dockhand_identify(self, username: str) -> Any:
            released.wait(30)

    endpoint.plugins.register(Hanging(carol=Identity("carol")), name="ldap")
    carols = endpoint.get(user="carol", password="x", offline=True).json()["refresh_token"]
    alices = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "service": SERVICE}

    async def refresh() -> list[int]:
        post = endpoint.request
        hanging = [post("POST", data={**form, "refresh_token": carols}) for _ in range(32)]
        tasks = [asyncio.ensure_future(each) for each in hanging]
        await asyncio.wait(tasks, timeout=1)
        async with asyncio.timeout(5):
            reply = await post("POST", data={**form, "refresh_token": alices})
        return [reply.status_code, *(task.result().status_code for task in tasks)]

    try:
        assert endpoint.run(refresh()) == [200] + [401] * 32
    finally:
        released.set()


def test_few_offered_tokens_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockhand_token_server.refresh_tokens._MAX_OFFERED", 3)
    monkeypatch.setattr("dockhand_token_server.refresh_tokens._MAX_PER_USER", 2)
    store = RefreshTokens(tmp_path / "tokens.db", 1000)
    token = store.issue(Identity("alice"), **LOGIN)
    offered = [store.rotate(token, SERVICE, requested=False) or "" for _ in range(10)]
    store.issue(Identity("alice"), **LOGIN)  # the tokens of one login count as one
    assert len(store.list_valid()) == 2
    assert store.find(token, SERVICE) is not None
    found = [store.find(each, SERVICE) is not None for each in offered[-4:]]
    assert found == [False, True, True, True]
    assert store.find(token, SERVICE) is None  # spent, and used again
    assert store.find(offered[-1], SERVICE) is None


def test_a_thief_with_the_old_token_is_noticed(tmp_path: Path) -> None:
    """Both have a new token for the same old one; the second that is used gives the theft away."""
    now = 1000.0
    store = RefreshTokens(tmp_path / "tokens.db", 1000, clock=lambda: now)
    old = store.issue(Identity("alice"), **LOGIN)
    mine = store.rotate(old, SERVICE, requested=False)
    now += 61
    stolen = store.rotate(old, SERVICE, requested=False)
    assert mine
    assert stolen
    assert store.find(stolen, SERVICE) is not None
    assert store.find(mine, SERVICE) is None
    assert store.find(stolen, SERVICE) is None


def test_a_lost_reply_costs_nothing(endpoint: Any) -> None:
    first = endpoint.get(user="alice", offline=True).json()["refresh_token"]

    async def crossing() -> list[str]:
        form = {
            "grant_type": "refresh_token", "refresh_token": first, "access_type": "offline",
            "service": SERVICE,
        }  # fmt: skip
        posts = (endpoint.request("POST", data=form) for _ in range(5))
        return [reply.json()["refresh_token"] for reply in await asyncio.gather(*posts)]

    found = endpoint.run(crossing())
    assert len({first, *found}) == 6
    assert [use_refresh_token(endpoint, token).status_code for token in found] == [200] * 5


def test_the_tokens_of_a_login_end_together(endpoint: Any) -> None:
    first = endpoint.get(user="alice", offline=True).json()["refresh_token"]
    second = exchange(endpoint, first).json()["refresh_token"]
    store = RefreshTokens(endpoint.folder / "refresh_tokens.db", 60)
    [record] = store.list_valid("alice")  # without the spent one
    assert store.revoke(id=record.id) == 1
    for token in (first, second):
        endpoint.assert_refused(use_refresh_token(endpoint, token), 401)


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


def test_rotation_and_expiry(tmp_path: Path) -> None:
    now = 1000.0
    store = RefreshTokens(tmp_path / "tokens.db", 1000, clock=lambda: now)
    first = store.issue(Identity("alice"), **LOGIN, login="ALICE")
    now += 100
    second = store.rotate(first, SERVICE)
    assert second is not None
    assert store.rotate(first, "other") is None
    now += 59
    spent = store.find(first, SERVICE)
    assert spent is not None
    assert spent.spent_at is not None
    assert spent.spent_at.timestamp() == 1100
    [record] = store.list_valid()
    assert (record.login, record.generation, record.spent_at) == ("ALICE", 1, None)
    assert record.expires_at.timestamp() == 2000  # as of the first: no one extends it for ever
    now += 1
    assert store.rotate(first, SERVICE) is None
    assert store.find(second, SERVICE) is None
    assert store.list_valid() == []


def test_few_spent_tokens_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockhand_token_server.refresh_tokens._MAX_SPENT", 3)
    monkeypatch.setattr("dockhand_token_server.refresh_tokens._MAX_PER_USER", 2)
    store = RefreshTokens(tmp_path / "tokens.db", 1000)
    other = store.issue(Identity("alice"), **LOGIN)
    token: str | None = store.issue(Identity("alice"), **LOGIN)
    for _ in range(10):
        assert token is not None
        token = store.rotate(token, SERVICE)
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as database:
        (count,) = database.execute("SELECT COUNT(*) FROM refresh_tokens").fetchone()
    assert count == 5
    assert store.find(other, SERVICE) is not None


def test_a_file_of_version_1_is_upgraded(tmp_path: Path) -> None:
    token = "dhr_old"
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as database, database:
        database.execute(
            "CREATE TABLE refresh_tokens (id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, user "
            "TEXT NOT NULL, groups TEXT NOT NULL, source TEXT NOT NULL, stamp BLOB NOT NULL, "
            "service TEXT NOT NULL, client TEXT NOT NULL, issued INTEGER NOT NULL, expires INTEGER "
            "NOT NULL)"
        )
        database.execute(
            "INSERT INTO refresh_tokens VALUES ('1', ?, 'alice', '[\"b\"]', 'ldap', x'', ?, "
            "'docker', 0, 4000000000)",
            (hashlib.sha256(token.encode()).digest(), SERVICE),
        )
        database.execute("PRAGMA user_version = 1")
    for _ in range(2):
        store = RefreshTokens(tmp_path / "tokens.db", 1000)
        record = store.find(token, SERVICE)
        assert record is not None
        assert (record.login, record.family, record.source) == ("alice", "1", "ldap")
    assert store.rotate(token, SERVICE) is not None


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
