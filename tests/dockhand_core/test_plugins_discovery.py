"""Discovery of plugins by entry points: a broken plugin does not affect the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version

import pytest

import dockhand_core
from dockhand_core import (
    Dockhand,
    PluginConflict,
    PluginError,
    PluginInfo,
    PluginNotFound,
    Plugins,
    connect,
)

Install = Callable[[str, Mapping[str, str], Mapping[str, str]], None]

AUTH_SOURCE = """
from dockhand_core import AuthDriver
class Auth(AuthDriver):
    pass
"""


def plugin_source(name: str, value: str = "Auth") -> str:
    return f"""{AUTH_SOURCE}
from dockhand_core import hookimpl
@hookimpl
def dockhand_auth_drivers():
    return {{{name!r}: {value}}}
"""


def info_of(plugins: Plugins, package: str) -> PluginInfo:
    (found,) = [found for found in plugins if found.package == package]
    return found


def test_installed_plugins_are_listed() -> None:
    with Dockhand({}) as dockhand:
        found = {i.package: i for i in dockhand.plugins}
    assert len(dockhand.plugins) == len(list(dockhand.plugins))
    core = found["dockhand-core"]
    assert core.provides["auth"] == ("null",)
    assert core.provides["log"] == ("console", "json", "null", "stdlib")
    basic = found["dockhand-auth-basic"]
    installed = version("dockhand-auth-basic")
    assert basic == PluginInfo("basic", "dockhand-auth-basic", installed, {"auth": ("basic",)})
    assert str(basic) == f"basic (dockhand-auth-basic {installed}): auth: basic"
    assert found["dockhand-distribution"].provides == {"registry": ("distribution",)}


def test_a_module_as_entry_point(package: Install) -> None:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": plugin_source("vault")})
    plugins = Plugins()
    found = info_of(plugins, "dockhand-vault")
    assert (found.name, found.version, found.error) == ("vault", "1.2.3", None)
    assert found.provides == {"auth": ("vault",)}
    assert "vault" in plugins.names("auth")
    assert plugins.driver("auth", "vault").__name__ == "Auth"


def test_an_object_as_entry_point(package: Install) -> None:
    source = f"""{AUTH_SOURCE}
from dockhand_core import hookimpl
class Hooks:
    @hookimpl
    def dockhand_auth_drivers(self):
        return {{"object": "fake_object:Auth"}}
hooks = Hooks()
"""
    package("dockhand-object", {"object": "fake_object:hooks"}, {"fake_object": source})
    assert Plugins().driver("auth", "object").__module__ == "fake_object"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError: No module named"),
        ("from dockhand_core import nonsense", "ImportError: cannot import name 'nonsense'"),
        ("def f(:", "SyntaxError: "),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise RuntimeError('no vault')", "RuntimeError: no vault"),
        ("raise GeneratorExit", "GeneratorExit"),
        (plugin_source("x").replace("drivers():", "drivers(config):"), "Argument(s) {'config'}"),
        (plugin_source("x").replace("auth_drivers", "auth_driverz"), "unknown hook"),
        (
            plugin_source("x").replace("return {", "return [{") + "]",
            "TypeError: dockhand_auth_drivers",
        ),
        (
            plugin_source("x").replace("'x'", "5"),
            "TypeError: dockhand_auth_drivers must return a mapping",
        ),
        (plugin_source("x").replace("return {'x': Auth}", "raise KeyError(7)"), "KeyError: 7"),
        (plugin_source("x").replace("return {'x': Auth}", "raise SystemExit(7)"), "SystemExit: 7"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_breaks_only_itself(
    package: Install, source: str, reason: str
) -> None:
    package(
        "dockhand-broken", {"br": "fake_broken", "ok": "fake_ok"},
        {"fake_broken": source, "fake_ok": plugin_source("fine")},
    )  # fmt: skip
    plugins = Plugins()
    broken, fine = [i for i in plugins if i.package == "dockhand-broken"]
    assert broken.name == "br"
    assert broken.provides == {}
    assert reason in (broken.error or "")
    assert str(broken).startswith("br (dockhand-broken 1.2.3): cannot be loaded: ")
    assert fine.provides == {"auth": ("fine",)}
    assert {"basic", "fine", "null"} <= set(plugins.names("auth"))
    connect("http://r").close()
    with pytest.raises(PluginNotFound) as caught:
        plugins.driver("auth", "x")
    assert f"not loaded: {broken}" in str(caught.value)


def test_a_missing_attribute_is_reported(package: Install) -> None:
    package("dockhand-empty", {"empty": "fake_empty:hooks"}, {"fake_empty": ""})
    assert "AttributeError" in (info_of(Plugins(), "dockhand-empty").error or "")


def test_a_wrong_hook_result_drops_all_drivers_of_the_plugin(package: Install) -> None:
    source = plugin_source("half") + "\n@hookimpl\ndef dockhand_log_drivers():\n    return None\n"
    package("dockhand-half", {"half": "fake_half"}, {"fake_half": source})
    plugins = Plugins()
    assert info_of(plugins, "dockhand-half").error
    assert "half" not in plugins.names("auth")


def test_metadata_without_a_name_is_accepted(package: Install, clean: object) -> None:
    from pathlib import Path

    package("dockhand-odd", {"odd": "fake_odd"}, {"fake_odd": plugin_source("odd")})
    (metadata,) = Path("site").glob("*/METADATA")
    metadata.write_text("Metadata-Version: 2.1\n")
    plugins = Plugins()
    assert plugins.driver("auth", "odd").__name__ == "Auth"
    assert all(str(i) for i in plugins)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("'not_there:Auth'", "ModuleNotFoundError"),
        ("'fake_lazy:Missing'", "AttributeError"),
        ("'fake_lazy'", "AttributeError"),
        ("''", "ValueError"),
        ("'fake_exits:Auth'", "SystemExit"),
        ("42", "AuthDriver"),
        ("object", "AuthDriver"),
        ("'os:getcwd'", "AuthDriver"),
        ("Auth(None)", "AuthDriver"),
    ],
)
def test_a_wrong_driver_is_reported_when_used(package: Install, value: str, reason: str) -> None:
    """The error names the driver and the package; the plugin's other drivers still work."""
    source = plugin_source("lazy", f"{value}, 'good': Auth")
    package(
        "dockhand-lazy",
        {"lazy": "fake_lazy"},
        {"fake_lazy": source, "fake_exits": "raise SystemExit(1)"},
    )
    with pytest.raises(PluginError) as caught:
        connect("http://r", auth={"driver": "lazy"})
    assert type(caught.value) is PluginError
    assert "auth driver 'lazy' of dockhand-lazy" in str(caught.value)
    assert reason in str(caught.value)
    connect("http://r", auth={"driver": "good"}).close()


@pytest.mark.parametrize("kind", ["registry", "log"])
def test_a_wrong_driver_of_another_kind_is_reported(package: Install, kind: str) -> None:
    source = plugin_source("wrong", "42").replace("auth_drivers", f"{kind}_drivers")
    package("dockhand-wrong", {"wrong": "fake_wrong"}, {"fake_wrong": source})
    with pytest.raises(PluginError, match=f"{kind} driver 'wrong' of dockhand-wrong"):
        Plugins().driver(kind, "wrong")


def test_a_driver_is_imported_when_it_is_used(package: Install) -> None:
    import sys

    source = plugin_source("late", "'fake_heavy:Auth'")
    package(
        "dockhand-late", {"late": "fake_late"}, {"fake_late": source, "fake_heavy": AUTH_SOURCE}
    )
    plugins = Plugins()
    assert "fake_late" in sys.modules
    assert "fake_heavy" not in sys.modules
    assert plugins.driver("auth", "late") is plugins.driver("auth", "late")
    assert "fake_heavy" in sys.modules


def test_two_packages_with_one_driver_name_conflict(package: Install) -> None:
    package(
        "dockhand-one", {"a": "fake_one"}, {"fake_one": plugin_source("twice", "Auth, 'one': Auth")}
    )
    package(
        "dockhand-two", {"b": "fake_two"}, {"fake_two": plugin_source("twice", "Auth, 'two': Auth")}
    )
    plugins = Plugins()
    with pytest.raises(PluginConflict) as caught:
        plugins.driver("auth", "twice")
    message = "auth driver 'twice' is provided by dockhand-one and dockhand-two"
    assert str(caught.value).startswith(message)
    assert "DOCKHAND_DISABLE_PLUGINS" in str(caught.value)
    with pytest.raises(PluginConflict, match="dockhand-one and dockhand-two"):
        connect("http://r", auth={"driver": "twice"})
    for fine in ("one", "two", "basic"):
        assert plugins.driver("auth", fine)
    assert Plugins(("dockhand-two",)).driver("auth", "twice").__module__ == "fake_one"


def test_two_packages_may_have_one_entry_point_name(package: Install) -> None:
    package("dockhand-one", {"same": "fake_one"}, {"fake_one": plugin_source("first")})
    package("dockhand-two", {"same": "fake_two"}, {"fake_two": plugin_source("second")})
    plugins = Plugins()
    assert {"first", "second"} <= set(plugins.names("auth"))
    assert plugins.driver("auth", "first").__module__ == "fake_one"
    assert plugins.driver("auth", "second").__module__ == "fake_two"


class TestDisabled:
    @pytest.mark.parametrize(
        "names", ["vault", "dockhand-vault", "Dockhand_Vault", " x , vault,", "dockhand.vault"]
    )
    def test_by_plugin_or_package_name(
        self, package: Install, monkeypatch: pytest.MonkeyPatch, names: str
    ) -> None:
        package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": plugin_source("vault")})
        monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", names)
        plugins = Plugins()
        assert "vault" not in plugins.names("auth")
        assert "basic" in plugins.names("auth")
        assert "dockhand-vault" not in {i.package for i in plugins}
        with pytest.raises(PluginNotFound, match=r"disabled: .*vault"):
            plugins.driver("auth", "vault")

    def test_several_plugins(self, clean: object, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", "basic,dockhand-auth-bearer")
        names = Plugins().names("auth")
        assert "basic" not in names
        assert "bearer" not in names
        assert "apikey" in names

    def test_an_empty_list_disables_nothing(
        self, clean: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", "")
        assert "basic" in Plugins().names("auth")


class TestNotFound:
    def test_message_lists_installed_drivers(self) -> None:
        plugins = Plugins()
        installed = ", ".join(plugins.names("auth"))
        with pytest.raises(PluginNotFound) as caught:
            plugins.driver("auth", "vault")
        assert str(caught.value).startswith(
            f"auth driver 'vault' is not installed; installed: {installed}"
        )
        assert {"apikey", "basic"} <= set(installed.split(", "))

    def test_message_suggests_a_similar_name(self) -> None:
        with pytest.raises(PluginNotFound, match=r"did you mean 'basic'\?"):
            Plugins().driver("auth", "bsic")

    @pytest.mark.parametrize("name", ["basic", "bearer", "apikey"])
    def test_message_names_the_package_to_install(self, name: str) -> None:
        with pytest.raises(PluginNotFound) as caught:
            Plugins((name,)).driver("auth", name)
        assert f'pip install "dockhand-core[{name}]"' in str(caught.value)

    def test_message_for_a_registry_driver(self, clean: object) -> None:
        with pytest.raises(PluginNotFound, match="registry driver 'quay' is not installed; inst"):
            connect("http://r", driver="quay")
        with pytest.raises(PluginNotFound, match=r"dockhand-core\[distribution\]"):
            Plugins(("distribution",)).driver("registry", "distribution")

    def test_message_for_a_log_driver(self, clean: object) -> None:
        with pytest.raises(PluginNotFound, match="log driver 'syslog' is not installed"):
            connect("http://r", logging={"driver": "syslog"})

    def test_errors_have_their_base_classes(self) -> None:
        assert issubclass(PluginNotFound, PluginError)
        assert issubclass(PluginConflict, dockhand_core.DockhandError)
