"""Failed logins, and what plugins say of who may do what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from authority import USERS
from dockhand_token_server.limits import FailureLimit, client_address, network_of
from pydantic import SecretStr

from dockhand_core import Identity, PluginConflict, Scope, hookimpl
from dockhand_core.server.htpasswd import PasswordFile

LIMIT = {"failures": 3, "seconds": 3600}
ASKED = "repository:alice/app:pull,push"


def test_failures_are_forgotten_little_by_little() -> None:
    now = 0.0
    limit = FailureLimit(3, 30, clock=lambda: now)
    for _ in range(3):
        assert limit.wait("a") == 0
        limit.charge("a")
    assert limit.wait("a") == 10
    assert limit.wait("b") == 0
    now += 9
    assert limit.wait("a") == 1
    now += 1
    assert limit.wait("a") == 0
    limit.charge("a")
    assert limit.wait("a") == 10
    limit.charge("a", -1)
    assert limit.wait("a") == 0
    limit.charge("c", -1)
    assert limit.wait("c") == 0


def test_too_many_from_one_address(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT)
    for user in ("alice", "bob", "nobody"):
        endpoint.refused(endpoint.get(user=user, password="wrong"), 401)
    for password in ("wrong", None):  # not even the right one: that would tell which it is
        reply = endpoint.get(user="alice", password=password)
        endpoint.refused(reply, 429)
        assert 0 < int(reply.headers["retry-after"]) <= 1200
        assert reply.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
    form = {"grant_type": "password", "username": "alice", "password": USERS["alice"]}
    endpoint.refused(endpoint.post(**form), 429)
    # others go on, and so do those who do not log in
    assert endpoint.get(user="alice", peer="192.0.2.2").status_code == 200
    assert endpoint.get().status_code == 200


def test_too_many_for_one_user(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT)
    assert endpoint.get(user="alice", peer="192.0.2.99").status_code == 200
    for number in range(3):
        peer = f"192.0.2.{number}"
        endpoint.refused(endpoint.get(user="alice", password="wrong", peer=peer), 401)
    endpoint.refused(endpoint.get(user="alice", peer="192.0.2.3"), 429)
    # where alice logged in before, others cannot shut her out
    assert endpoint.get(user="alice", peer="192.0.2.99").status_code == 200
    assert endpoint.get(user="bob", peer="192.0.2.3").status_code == 200


def test_failures_at_once_are_counted_beforehand(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT)

    async def guess() -> list[int]:
        guesses = (endpoint.ask(user="alice", password=f"wrong{n}") for n in range(20))
        return [reply.status_code for reply in await asyncio.gather(*guesses)]

    assert sorted(endpoint.run(guess())) == [401] * 3 + [429] * 17


def test_one_password_at_once_is_checked_once(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that starts twenty pulls is no attack."""
    limit = {"failures": 1, "seconds": 3600}
    checked: list[str] = []
    verify = PasswordFile.verify

    def counted(self: PasswordFile, user: str, password: bytes) -> bool:
        checked.append(user)
        return verify(self, user, password)

    monkeypatch.setattr(PasswordFile, "verify", counted)
    endpoint.serve(login_limit=limit)

    async def pull() -> set[int]:
        replies = await asyncio.gather(*(endpoint.ask(user="alice") for _ in range(20)))
        return {reply.status_code for reply in replies}

    assert endpoint.run(pull()) == {200}
    assert checked == ["alice"]
    assert endpoint.run(pull()) == {200}
    assert checked == ["alice"]  # remembered


def test_wrong_refresh_tokens_are_failures_too(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT)
    for _ in range(3):
        reply = endpoint.post(grant_type="refresh_token", refresh_token="dhr_guess")
        endpoint.refused(reply, 401)
    reply = endpoint.post(grant_type="refresh_token", refresh_token="dhr_guess")
    endpoint.refused(reply, 429)


def test_behind_a_proxy(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT, trusted_proxies=["192.0.2.1/32"])

    def attempt(forwarded: str, password: str | None = None) -> int:
        headers = {"X-Forwarded-For": forwarded}
        reply = endpoint.get(user="bob", password=password, headers=headers)
        return int(reply.status_code)

    for number in range(3):  # what a client invents stands before what the proxy adds
        assert attempt(f"198.51.100.{number}, 203.0.113.7", "wrong") == 401
    assert attempt("203.0.113.7") == 429
    assert endpoint.get(user="alice", headers={"X-Forwarded-For": "203.0.113.8"}).status_code == 200


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("192.0.2.9", ["1.1.1.1"], "192.0.2.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, 2.2.2.2"], "2.2.2.2"),
        ("10.0.0.1", ["1.1.1.1", "2.2.2.2, 10.0.0.2"], "2.2.2.2"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("::ffff:10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("", ["1.1.1.1"], ""),
    ],
)
def test_where_a_client_is(peer: str, forwarded: list[str], found: str) -> None:
    trusted = [ip_network("10.0.0.0/8")]
    assert client_address(peer, forwarded, trusted) == found


def test_networks() -> None:
    assert network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2:ffff::1")
    assert network_of("2001:db8:1:2::") != network_of("2001:db8:1:3::")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("testclient") == "testclient"


class Authorizes:
    """A plugin that answers what it is told to, and remembers what it was asked."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer = answer
        self.asked: list[tuple[Identity, tuple[Scope, ...], str]] = []

    @hookimpl
    def dockhand_authorize(
        self, identity: Identity, scopes: tuple[Scope, ...], service: str
    ) -> Any:
        self.asked.append((identity, scopes, service))
        return self.answer(identity, scopes)


def reads(identity: Identity, scopes: tuple[Scope, ...]) -> Any:
    return [scope & Scope.read(scope.name) for scope in scopes]


def fails(*_: Any) -> Any:
    raise RuntimeError("the database is down")


async def later(identity: Identity, scopes: tuple[Scope, ...]) -> Any:
    return reads(identity, scopes)


@pytest.mark.parametrize(
    ("answer", "granted"),
    [
        (reads, {"repository:alice/app:pull"}),
        (later, {"repository:alice/app:pull"}),
        (lambda *_: None, {ASKED}),
        (lambda *_: [], set()),
        (fails, set()),
        (lambda *_: 5, set()),
        (lambda *_: [ASKED], set()),  # no scopes, but texts
        # what is beyond the rules, or beyond what was asked for, is cut
        (lambda *_: [Scope.parse("repository:alice/app:*")], {ASKED}),
        (lambda *_: [Scope.parse("repository:bob/x:pull"), Scope.catalog()], set()),
        (
            lambda _, scopes: [*scopes, Scope.parse("repository:alice/app:delete")],
            {ASKED},
        ),
    ],
)
def test_a_plugin_can_only_narrow(
    endpoint: Any, answer: Callable[..., Any], granted: set[str]
) -> None:
    plugin = Authorizes(answer)
    endpoint.plugins.register(plugin, name="mine")
    reply = endpoint.get(ASKED, "repository:bob/x:pull", user="alice")
    assert endpoint.granted(reply) == granted
    [(identity, scopes, service)] = plugin.asked
    assert identity == Identity("alice")
    assert [str(scope) for scope in scopes] == [ASKED]
    assert service == "my_registry"
    endpoint.get("repository:bob/x:pull", user="alice")
    assert len(plugin.asked) == 1  # where nothing is granted nobody is asked


def test_every_plugin_narrows(endpoint: Any) -> None:
    first = Authorizes(reads)
    second = Authorizes(lambda *_: None)
    endpoint.plugins.register(first, name="first")
    endpoint.plugins.register(second, name="second")
    assert endpoint.granted(endpoint.get(ASKED, user="alice")) == {"repository:alice/app:pull"}
    assert [str(scope) for scope in second.asked[0][1]] == ["repository:alice/app:pull"]


def test_a_plugin_that_takes_too_long(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockhand_token_server.login._SECONDS", 0.05)

    async def sleeps(*_: Any) -> Any:
        await asyncio.Event().wait()

    endpoint.plugins.register(Authorizes(sleeps), name="slow")
    assert endpoint.granted(endpoint.get(ASKED, user="alice")) == set()


def test_a_failing_plugin_says_nothing_of_why(
    endpoint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.plugins.register(Authorizes(fails), name="mine")
    assert "database" not in endpoint.get(ASKED, user="alice").text
    assert "plugin mine denies everything: RuntimeError" in caplog.text


def test_a_plugin_as_the_backend(endpoint: Any) -> None:
    backend = Authorizes(lambda _, scopes: scopes)
    endpoint.plugins.register(backend, name="ldap")
    endpoint.plugins.register(Authorizes(reads), name="narrows")
    endpoint.serve(backend="ldap", rules=None)
    asked = ["repository:bob/any:pull,push", "registry:catalog:*"]
    assert endpoint.granted(endpoint.get(*asked, user="alice")) == {"repository:bob/any:pull"}
    identity, scopes, _ = backend.asked[0]
    assert [str(scope) for scope in scopes] == asked
    assert not identity.anonymous
    backend.answer = lambda *_: [Scope.parse("repository:bob/any:*")]  # never wider than asked
    assert endpoint.granted(endpoint.get(asked[0], user="alice")) == {"repository:bob/any:pull"}
    for answer in (lambda *_: None, fails):
        backend.answer = answer
        assert endpoint.granted(endpoint.get(*asked)) == set()


def test_two_plugins_of_one_name(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("ldap", fails), ("ldap", reads)]
    monkeypatch.setattr(endpoint.plugins, "implementations", lambda hook: found)
    with pytest.raises(PluginConflict, match="two plugins named 'ldap'"):
        endpoint.serve()


class Knows:
    """A plugin that knows one user."""

    def __init__(self, answer: Any = Identity("carol", frozenset({"readers"}))) -> None:  # noqa: B008
        self.answer = answer
        self.asked: list[str] = []

    @hookimpl
    async def dockhand_authenticate(self, username: str, password: SecretStr) -> Any:
        self.asked.append(username)
        if isinstance(self.answer, Exception):
            raise self.answer
        fits = username == "carol" and password.get_secret_value() == "pässword"
        return self.answer if fits else None


def test_a_plugin_knows_users(endpoint: Any) -> None:
    plugin = Knows()
    endpoint.plugins.register(plugin, name="ldap")
    shared = "repository:alice/shared:pull"
    reply = endpoint.get("repository:carol/x:pull", shared, user="carol", password="pässword")
    assert endpoint.claims(reply).subject == "carol"
    assert endpoint.granted(reply) == {"repository:carol/x:pull", shared}
    endpoint.refused(endpoint.get(user="carol", password="wrong"), 401)
    endpoint.refused(endpoint.get(user="dave", password="pässword"), 401)
    assert plugin.asked == ["carol", "carol", "dave"]
    # whom the file lists is not for a plugin to say
    endpoint.refused(endpoint.get(user="alice", password="pässword"), 401)
    assert endpoint.get(user="alice").status_code == 200
    assert plugin.asked == ["carol", "carol", "dave"]


@pytest.mark.parametrize(
    "answer",
    [RuntimeError("with s3cret"), "carol", Identity(""), Identity("a\nb"), Identity("x" * 300)],
)
def test_a_plugin_that_fails_refuses(
    endpoint: Any, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.plugins.register(Knows(answer), name="ldap")
    endpoint.plugins.register(Knows(), name="behind")
    endpoint.refused(endpoint.get(user="carol", password="pässword"), 401)
    assert "plugin ldap" in caplog.text
    assert "s3cret" not in caplog.text


def test_without_users(endpoint: Any) -> None:
    endpoint.serve(users=None)
    endpoint.refused(endpoint.get(user="alice"), 401)
    assert endpoint.granted(endpoint.get("repository:public/x:pull")) == {
        "repository:public/x:pull"
    }
