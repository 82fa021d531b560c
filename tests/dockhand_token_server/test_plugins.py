"""Plugins that authenticate users, and plugins that authorize scopes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from dockhand_core import Identity, PluginConflict, Scope, hookimpl

REQUESTED = "repository:alice/app:pull,push"


class Authorizer:
    """A plugin that authorizes scopes with a function, and records the calls."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer = answer
        self.calls: list[tuple[Identity, tuple[Scope, ...], str]] = []

    @hookimpl
    def dockhand_authorize(
        self, identity: Identity, scopes: tuple[Scope, ...], service: str
    ) -> Any:
        self.calls.append((identity, scopes, service))
        return self.answer(identity, scopes)


def read_only(identity: Identity, scopes: tuple[Scope, ...]) -> Any:
    return [scope & Scope.read(scope.name) for scope in scopes]


def raise_error(*_: Any) -> Any:
    raise RuntimeError("the database is down")


async def read_only_async(identity: Identity, scopes: tuple[Scope, ...]) -> Any:
    return read_only(identity, scopes)


@pytest.mark.parametrize(
    ("answer", "granted"),
    [
        (read_only, {"repository:alice/app:pull"}),
        (read_only_async, {"repository:alice/app:pull"}),
        (lambda *_: None, {REQUESTED}),
        (lambda *_: [], set()),
        (raise_error, set()),
        (lambda *_: 5, set()),
        (lambda *_: [REQUESTED], set()),  # strings instead of Scope objects
        # actions and resources beyond the rules, or beyond the request, are removed
        (lambda *_: [Scope.parse("repository:alice/app:*")], {REQUESTED}),
        (lambda *_: [Scope.parse("repository:bob/x:pull"), Scope.catalog()], set()),
        (
            lambda _, scopes: [*scopes, Scope.parse("repository:alice/app:delete")],
            {REQUESTED},
        ),
    ],
)
def test_a_plugin_can_only_narrow(
    endpoint: Any, answer: Callable[..., Any], granted: set[str]
) -> None:
    plugin = Authorizer(answer)
    endpoint.plugins.register(plugin, name="mine")
    reply = endpoint.get(REQUESTED, "repository:bob/x:pull", user="alice")
    assert endpoint.granted_scopes(reply) == granted
    [(identity, scopes, service)] = plugin.calls
    assert identity == Identity("alice")
    assert [str(scope) for scope in scopes] == [REQUESTED]
    assert service == "my_registry"
    endpoint.get("repository:bob/x:pull", user="alice")
    assert len(plugin.calls) == 1  # not called if the rules grant nothing


def test_every_plugin_narrows(endpoint: Any) -> None:
    first = Authorizer(read_only)
    second = Authorizer(lambda *_: None)
    endpoint.plugins.register(first, name="first")
    endpoint.plugins.register(second, name="second")
    assert endpoint.granted_scopes(endpoint.get(REQUESTED, user="alice")) == {
        "repository:alice/app:pull"
    }
    assert [str(scope) for scope in second.calls[0][1]] == ["repository:alice/app:pull"]


def test_a_plugin_that_takes_too_long_denies(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockhand_token_server.authentication._HOOK_SECONDS", 0.05)

    async def never_answer(*_: Any) -> Any:
        await asyncio.Event().wait()

    endpoint.plugins.register(Authorizer(never_answer), name="slow")
    assert endpoint.granted_scopes(endpoint.get(REQUESTED, user="alice")) == set()


def test_the_error_of_a_plugin_is_not_in_the_reply(
    endpoint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.plugins.register(Authorizer(raise_error), name="mine")
    assert "database" not in endpoint.get(REQUESTED, user="alice").text
    assert "plugin mine denies everything: RuntimeError" in caplog.text


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (5, "an iterable of Scope objects is due, not int"),
        (True, "an iterable of Scope objects is due, not bool"),
        (Scope.read("alice/app"), "an iterable of Scope objects is due, not Scope"),
        (REQUESTED, "an iterable of Scope objects is due; an item is str"),
        ({"repository": "alice/app"}, "an iterable of Scope objects is due; an item is str"),
        ([None], "an iterable of Scope objects is due; an item is NoneType"),
    ],
)
def test_a_wrong_answer_of_a_plugin_is_named(
    endpoint: Any, answer: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.plugins.register(Authorizer(lambda *_: answer), name="mine")
    assert endpoint.granted_scopes(endpoint.get(REQUESTED, user="alice")) == set()
    assert f"plugin mine denies everything: dockhand_authorize: {message}" in caplog.text


def test_a_plugin_as_the_backend(endpoint: Any) -> None:
    backend = Authorizer(lambda _, scopes: scopes)
    endpoint.plugins.register(backend, name="ldap")
    endpoint.plugins.register(Authorizer(read_only), name="narrower")
    endpoint.serve(backend="ldap", rules=None)
    requested = ["repository:bob/any:pull,push", "registry:catalog:*"]
    assert endpoint.granted_scopes(endpoint.get(*requested, user="alice")) == {
        "repository:bob/any:pull"
    }
    identity, scopes, _ = backend.calls[0]
    assert [str(scope) for scope in scopes] == requested
    assert not identity.anonymous
    backend.answer = lambda *_: [Scope.parse("repository:bob/any:*")]  # more than is requested
    assert endpoint.granted_scopes(endpoint.get(requested[0], user="alice")) == {
        "repository:bob/any:pull"
    }
    for answer in (lambda *_: None, raise_error):
        backend.answer = answer
        assert endpoint.granted_scopes(endpoint.get(*requested)) == set()


def test_two_plugins_of_one_name_are_an_error(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [("ldap", raise_error), ("ldap", read_only)]
    monkeypatch.setattr(endpoint.plugins, "implementations", lambda hook: found)
    with pytest.raises(PluginConflict, match="two plugins named 'ldap'"):
        endpoint.serve()


class Directory:
    """A plugin that authenticates the user carol, and records the user names it is called with."""

    def __init__(self, answer: Any = Identity("carol", frozenset({"readers"}))) -> None:  # noqa: B008
        self.answer = answer
        self.usernames: list[str] = []

    @hookimpl
    async def dockhand_authenticate(self, username: str, password: SecretStr) -> Any:
        self.usernames.append(username)
        if isinstance(self.answer, Exception):
            raise self.answer
        is_carol = username == "carol" and password.get_secret_value() == "pässword"
        return self.answer if is_carol else None


def test_a_plugin_authenticates_users(endpoint: Any) -> None:
    plugin = Directory()
    endpoint.plugins.register(plugin, name="ldap")
    shared = "repository:alice/shared:pull"
    reply = endpoint.get("repository:carol/x:pull", shared, user="carol", password="pässword")
    assert endpoint.claims(reply).subject == "carol"
    assert endpoint.granted_scopes(reply) == {"repository:carol/x:pull", shared}
    endpoint.assert_refused(endpoint.get(user="carol", password="wrong"), 401)
    endpoint.assert_refused(endpoint.get(user="dave", password="pässword"), 401)
    assert plugin.usernames == ["carol", "carol", "dave"]
    # users in the htpasswd file are never passed to a plugin
    endpoint.assert_refused(endpoint.get(user="alice", password="pässword"), 401)
    assert endpoint.get(user="alice").status_code == 200
    assert plugin.usernames == ["carol", "carol", "dave"]


@pytest.mark.parametrize(
    "answer",
    [RuntimeError("with s3cret"), "carol", Identity(""), Identity("a\nb"), Identity("x" * 300)],
)
def test_a_login_is_refused_if_a_plugin_fails(
    endpoint: Any, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.plugins.register(Directory(answer), name="ldap")
    endpoint.plugins.register(Directory(), name="second")
    endpoint.assert_refused(endpoint.get(user="carol", password="pässword"), 401)
    assert "plugin ldap" in caplog.text
    assert "s3cret" not in caplog.text
