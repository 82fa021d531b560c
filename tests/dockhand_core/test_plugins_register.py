"""`dockhand.plugins.register`, and what hooks there are."""

from __future__ import annotations

import dataclasses
import inspect
import types
from typing import Any

import pytest

from dockhand_core import (
    AsyncDockhand,
    AuthDriver,
    Dockhand,
    Identity,
    PluginConflict,
    PluginError,
    PluginNotFound,
    Plugins,
    Scope,
    connect,
    hookimpl,
    hookspecs,
)

pytestmark = pytest.mark.usefixtures("clean")


class Auth(AuthDriver):
    pass


class Hooks:
    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"mine": Auth}


def manager() -> Dockhand:
    table = {"base_uri": "http://r", "auth": {"driver": "mine"}}
    return Dockhand({"connections": {"main": table}})


def test_on_one_manager_alone() -> None:
    with manager() as one, manager() as other:
        one.plugins.register(Hooks())
        assert type(one.connection()._runner.endpoint.auth) is Auth
        with pytest.raises(PluginNotFound, match="auth driver 'mine' is not installed"):
            other.connection()
        with pytest.raises(PluginNotFound):
            connect("http://r", auth={"driver": "mine"})


def test_after_a_connection_was_refused() -> None:
    with manager() as dockhand:
        with pytest.raises(PluginNotFound):
            dockhand.connection()
        dockhand.plugins.register(Hooks())
        assert dockhand.connection()


def test_async_managers_too() -> None:
    dockhand = AsyncDockhand(manager().config)
    dockhand.plugins.register(Hooks(), name="audit")
    assert type(dockhand.connection()._runner.endpoint.auth) is Auth


def test_what_it_is_known_by() -> None:
    plugins = Plugins()
    plugins.register(Hooks(), name="audit")
    given = list(plugins)[-1]
    assert (given.name, given.package, given.version) == ("audit", Hooks.__module__, None)
    assert given.provides == {"auth": ("mine",)}
    assert str(given) == f"audit ({Hooks.__module__}): auth: mine"
    plugins = Plugins()
    plugins.register(Hooks())
    assert list(plugins)[-1].name == f"{Hooks.__module__}:Hooks"


def test_a_module() -> None:
    module = types.ModuleType("some.module")
    vars(module)["dockhand_auth_drivers"] = hookimpl(lambda: {"other": Auth})
    plugins = Plugins()
    plugins.register(module)
    found = list(plugins)[-1]
    assert (found.name, found.package) == ("some.module", "some.module")
    assert plugins.driver("auth", "other") is Auth


def test_a_class_of_static_methods() -> None:
    class Static:
        @staticmethod
        @hookimpl
        def dockhand_auth_drivers() -> dict[str, Any]:
            return {"static": Auth}

    plugins = Plugins()
    plugins.register(Static)
    assert list(plugins)[-1].name == f"{__name__}:{Static.__qualname__}"
    assert plugins.driver("auth", "static") is Auth


def test_two_of_one_name() -> None:
    plugins = Plugins()
    plugins.register(Hooks())
    with pytest.raises(PluginConflict, match="Hooks' is registered already"):
        plugins.register(Hooks())
    same = Hooks()
    plugins.register(same, name="a")
    with pytest.raises(PluginConflict, match="is registered already"):
        plugins.register(same, name="b")


def test_a_driver_that_is_installed_too() -> None:
    class Basic:
        @hookimpl
        def dockhand_auth_drivers(self) -> dict[str, Any]:
            return {"basic": Auth}

    plugins = Plugins()
    plugins.register(Basic())
    with pytest.raises(PluginConflict) as caught:
        plugins.driver("auth", "basic")
    assert "dockhand-auth-basic" in str(caught.value)
    assert __name__ in str(caught.value)
    assert plugins.driver("auth", "bearer")


def test_what_cannot_be_hashed() -> None:
    @dataclasses.dataclass
    class Unhashable:
        @hookimpl
        def dockhand_auth_drivers(self) -> dict[str, Any]:
            return {"unhashable": Auth}

    plugins = Plugins()
    plugins.register(Unhashable())
    plugins.register(Hooks())
    assert {"mine", "unhashable"} <= set(plugins.names("auth"))


class WrongArguments:
    @hookimpl
    def dockhand_auth_drivers(self, config: object) -> dict[str, Any]:
        return {}


class Misspelt:
    @hookimpl
    def dockhand_auth_driver(self) -> dict[str, Any]:
        return {}


class Garbage:
    @hookimpl
    def dockhand_auth_drivers(self) -> list[str]:
        return ["mine"]


class Raises:
    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        raise LookupError("no keyring")


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (WrongArguments(), "config"),
        (Misspelt(), "dockhand_auth_driver"),
        (Garbage(), "dockhand_auth_drivers must return a mapping"),
        (Raises(), "LookupError: no keyring"),
    ],
)
def test_what_is_refused(plugin: object, said: str) -> None:
    plugins = Plugins()
    with pytest.raises(PluginError) as caught:
        plugins.register(plugin, name="odd")
    assert str(caught.value).startswith("plugin 'odd': ")
    assert said in str(caught.value)
    assert list(plugins)[-1].error
    assert plugins.driver("auth", "basic")
    plugins.register(Hooks())
    assert plugins.driver("auth", "mine") is Auth


def test_its_repr() -> None:
    assert repr(Plugins()).startswith("<Plugins core, ")


HOOKS = {n: h for n, h in vars(hookspecs).items() if n.startswith("dockhand_")}


def test_the_hooks_of_the_core() -> None:
    assert {"dockhand_registry_drivers", "dockhand_auth_drivers", "dockhand_log_drivers"} <= set(
        HOOKS
    )


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_explained(name: str) -> None:
    text = inspect.getdoc(HOOKS[name]) or ""
    assert len(text.split()) > 15, f"{name} has no docstring to work from"
    for argument in inspect.signature(HOOKS[name]).parameters:
        assert f"{argument}" in text


class Says:
    @hookimpl
    def dockhand_authorize(self, identity: Identity, scopes: tuple[Scope, ...]) -> Any:
        return (identity, scopes)


class SaysLater:
    @hookimpl
    async def dockhand_authorize(self, service: str) -> Any:
        return service


def test_who_implements_a_hook() -> None:
    plugins = Plugins()
    assert plugins.implementations("dockhand_authorize") == []
    plugins.register(Says(), name="says")
    plugins.register(SaysLater())
    (name, says), (other, later) = plugins.implementations("dockhand_authorize")
    assert (name, other) == ("says", f"{__name__}:SaysLater")
    alice, scopes = Identity("alice"), (Scope.read("a"),)
    assert says(identity=alice, scopes=scopes, service="s") == (alice, scopes)
    assert not inspect.iscoroutinefunction(inspect.unwrap(says))
    assert inspect.iscoroutinefunction(inspect.unwrap(later))
    assert plugins.implementations("dockhand_authenticate") == []


def test_identities() -> None:
    assert Identity("").anonymous
    assert not Identity("alice").anonymous
    assert Identity("alice", {"a"}) == Identity("alice", frozenset({"a"}))
    assert hash(Identity("alice", {"a"})) == hash(Identity("alice", frozenset({"a"})))
