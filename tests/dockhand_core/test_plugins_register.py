"""Registration of plugins with `dockhand.plugins.register`, and the hooks of the core."""

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


class ExampleAuth(AuthDriver):
    pass


class ExamplePlugin:
    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"mine": ExampleAuth}


def make_manager() -> Dockhand:
    table = {"base_uri": "http://r", "auth": {"driver": "mine"}}
    return Dockhand({"connections": {"main": table}})


def test_a_plugin_is_registered_on_one_manager_only() -> None:
    with make_manager() as one, make_manager() as other:
        one.plugins.register(ExamplePlugin())
        assert type(one.connection()._runner.endpoint.auth) is ExampleAuth
        with pytest.raises(PluginNotFound, match="auth driver 'mine' is not installed"):
            other.connection()
        with pytest.raises(PluginNotFound):
            connect("http://r", auth={"driver": "mine"})


def test_a_plugin_can_be_registered_after_a_failure() -> None:
    with make_manager() as dockhand:
        with pytest.raises(PluginNotFound):
            dockhand.connection()
        dockhand.plugins.register(ExamplePlugin())
        assert dockhand.connection()


def test_a_plugin_is_registered_on_an_async_manager() -> None:
    dockhand = AsyncDockhand(make_manager().config)
    dockhand.plugins.register(ExamplePlugin(), name="audit")
    assert type(dockhand.connection()._runner.endpoint.auth) is ExampleAuth


def test_name_and_package_of_a_registered_plugin() -> None:
    plugins = Plugins()
    plugins.register(ExamplePlugin(), name="audit")
    given = list(plugins)[-1]
    assert (given.name, given.package, given.version) == ("audit", ExamplePlugin.__module__, None)
    assert given.provides == {"auth": ("mine",)}
    assert str(given) == f"audit ({ExamplePlugin.__module__}): auth: mine"
    plugins = Plugins()
    plugins.register(ExamplePlugin())
    assert list(plugins)[-1].name == f"{ExamplePlugin.__module__}:ExamplePlugin"


def test_a_module_is_a_plugin() -> None:
    module = types.ModuleType("some.module")
    vars(module)["dockhand_auth_drivers"] = hookimpl(lambda: {"other": ExampleAuth})
    plugins = Plugins()
    plugins.register(module)
    found = list(plugins)[-1]
    assert (found.name, found.package) == ("some.module", "some.module")
    assert plugins.driver("auth", "other") is ExampleAuth


def test_a_class_with_static_methods_is_a_plugin() -> None:
    class Static:
        @staticmethod
        @hookimpl
        def dockhand_auth_drivers() -> dict[str, Any]:
            return {"static": ExampleAuth}

    plugins = Plugins()
    plugins.register(Static)
    assert list(plugins)[-1].name == f"{__name__}:{Static.__qualname__}"
    assert plugins.driver("auth", "static") is ExampleAuth


def test_two_plugins_of_one_name_conflict() -> None:
    plugins = Plugins()
    plugins.register(ExamplePlugin())
    with pytest.raises(PluginConflict, match="ExamplePlugin' is registered already"):
        plugins.register(ExamplePlugin())
    same = ExamplePlugin()
    plugins.register(same, name="a")
    with pytest.raises(PluginConflict, match="is registered already"):
        plugins.register(same, name="b")


def test_a_driver_that_is_also_installed_conflicts() -> None:
    class Basic:
        @hookimpl
        def dockhand_auth_drivers(self) -> dict[str, Any]:
            return {"basic": ExampleAuth}

    plugins = Plugins()
    plugins.register(Basic())
    with pytest.raises(PluginConflict) as caught:
        plugins.driver("auth", "basic")
    assert "dockhand-auth-basic" in str(caught.value)
    assert __name__ in str(caught.value)
    assert plugins.driver("auth", "bearer")


def test_an_unhashable_object_is_a_plugin() -> None:
    @dataclasses.dataclass
    class Unhashable:
        @hookimpl
        def dockhand_auth_drivers(self) -> dict[str, Any]:
            return {"unhashable": ExampleAuth}

    plugins = Plugins()
    plugins.register(Unhashable())
    plugins.register(ExamplePlugin())
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
    ("plugin", "message"),
    [
        (WrongArguments(), "config"),
        (Misspelt(), "dockhand_auth_driver"),
        (Garbage(), "dockhand_auth_drivers must return a mapping"),
        (Raises(), "LookupError: no keyring"),
    ],
)
def test_broken_plugins_are_refused(plugin: object, message: str) -> None:
    plugins = Plugins()
    with pytest.raises(PluginError) as caught:
        plugins.register(plugin, name="odd")
    assert str(caught.value).startswith("plugin 'odd': ")
    assert message in str(caught.value)
    assert list(plugins)[-1].error
    assert plugins.driver("auth", "basic")
    plugins.register(ExamplePlugin())
    assert plugins.driver("auth", "mine") is ExampleAuth


def test_repr_lists_plugins() -> None:
    assert repr(Plugins()).startswith("<Plugins core, ")


HOOKS = {n: h for n, h in vars(hookspecs).items() if n.startswith("dockhand_")}


def test_the_core_has_hooks_for_drivers() -> None:
    assert {"dockhand_registry_drivers", "dockhand_auth_drivers", "dockhand_log_drivers"} <= set(
        HOOKS
    )


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_and_argument_is_documented(name: str) -> None:
    text = inspect.getdoc(HOOKS[name]) or ""
    assert len(text.split()) > 15, f"{name} has no docstring to work from"
    for argument in inspect.signature(HOOKS[name]).parameters:
        assert f"{argument}" in text


class AuthorizingPlugin:
    @hookimpl
    def dockhand_authorize(self, identity: Identity, scopes: tuple[Scope, ...]) -> Any:
        return (identity, scopes)


class AsyncAuthorizingPlugin:
    @hookimpl
    async def dockhand_authorize(self, service: str) -> Any:
        return service


def test_implementations_of_a_hook() -> None:
    plugins = Plugins()
    assert plugins.implementations("dockhand_authorize") == []
    plugins.register(AuthorizingPlugin(), name="says")
    plugins.register(AsyncAuthorizingPlugin())
    (name, says), (other, later) = plugins.implementations("dockhand_authorize")
    assert (name, other) == ("says", f"{__name__}:AsyncAuthorizingPlugin")
    alice, scopes = Identity("alice"), (Scope.read("a"),)
    assert says(identity=alice, scopes=scopes, service="s") == (alice, scopes)
    assert not inspect.iscoroutinefunction(inspect.unwrap(says))
    assert inspect.iscoroutinefunction(inspect.unwrap(later))
    assert plugins.implementations("dockhand_authenticate") == []


def test_identities_are_compared_by_value() -> None:
    assert Identity("").anonymous
    assert not Identity("alice").anonymous
    assert Identity("alice", {"a"}) == Identity("alice", frozenset({"a"}))
    assert hash(Identity("alice", {"a"})) == hash(Identity("alice", frozenset({"a"})))
