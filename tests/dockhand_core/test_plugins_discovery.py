"""Entry points: each is loaded for itself, and a broken one breaks only itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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

DRIVER = """
from dockhand_core import AuthDriver
class Auth(AuthDriver):
    pass
"""


def hooks(name: str, value: str = "Auth") -> str:
    return f"""{DRIVER}
from dockhand_core import hookimpl
@hookimpl
def dockhand_auth_drivers():
    return {{{name!r}: {value}}}
"""


def info(plugins: Plugins, package: str) -> PluginInfo:
    (found,) = [found for found in plugins if found.package == package]
    return found


def test_what_is_installed_is_listed() -> None:
    with Dockhand({}) as dockhand:
        found = {i.package: i for i in dockhand.plugins}
    assert len(dockhand.plugins) == len(list(dockhand.plugins))
    core = found["dockhand-core"]
    assert core.provides["auth"] == ("null",)
    assert core.provides["log"] == ("console", "json", "null", "stdlib")
    basic = found["dockhand-auth-basic"]
    assert basic == PluginInfo("basic", "dockhand-auth-basic", "0.1.0", {"auth": ("basic",)})
    assert str(basic) == "basic (dockhand-auth-basic 0.1.0): auth: basic"
    assert found["dockhand-distribution"].provides == {"registry": ("distribution",)}


def test_a_package_that_pip_installed(package: Install) -> None:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": hooks("vault")})
    plugins = Plugins()
    found = info(plugins, "dockhand-vault")
    assert (found.name, found.version, found.error) == ("vault", "1.2.3", None)
    assert found.provides == {"auth": ("vault",)}
    assert "vault" in plugins.names("auth")
    assert plugins.driver("auth", "vault").__name__ == "Auth"


def test_an_object_in_a_module(package: Install) -> None:
    source = f"""{DRIVER}
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
        (hooks("x").replace("drivers():", "drivers(config):"), "Argument(s) {'config'}"),
        (hooks("x").replace("auth_drivers", "auth_driverz"), "unknown hook"),
        (hooks("x").replace("return {", "return [{") + "]", "TypeError: dockhand_auth_drivers"),
        (hooks("x").replace("'x'", "5"), "TypeError: dockhand_auth_drivers must return a mapping"),
        (hooks("x").replace("return {'x': Auth}", "raise KeyError(7)"), "KeyError: 7"),
        (hooks("x").replace("return {'x': Auth}", "raise SystemExit(7)"), "SystemExit: 7"),
    ],
)
def test_one_that_cannot_be_loaded(package: Install, source: str, reason: str) -> None:
    package(
        "dockhand-broken", {"br": "fake_broken", "ok": "fake_ok"},
        {"fake_broken": source, "fake_ok": hooks("fine")},
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


def test_a_missing_attribute(package: Install) -> None:
    package("dockhand-empty", {"empty": "fake_empty:hooks"}, {"fake_empty": ""})
    assert "AttributeError" in (info(Plugins(), "dockhand-empty").error or "")


def test_none_of_its_drivers_where_one_answer_is_wrong(package: Install) -> None:
    source = hooks("half") + "\n@hookimpl\ndef dockhand_log_drivers():\n    return None\n"
    package("dockhand-half", {"half": "fake_half"}, {"fake_half": source})
    plugins = Plugins()
    assert info(plugins, "dockhand-half").error
    assert "half" not in plugins.names("auth")


def test_metadata_without_a_name(package: Install, clean: object) -> None:
    from pathlib import Path

    package("dockhand-odd", {"odd": "fake_odd"}, {"fake_odd": hooks("odd")})
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
def test_a_driver_that_is_none(package: Install, value: str, reason: str) -> None:
    """It is found out when it is used, and then it is named; the plugin's others work."""
    source = hooks("lazy", f"{value}, 'good': Auth")
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
def test_the_other_kinds_too(package: Install, kind: str) -> None:
    source = hooks("wrong", "42").replace("auth_drivers", f"{kind}_drivers")
    package("dockhand-wrong", {"wrong": "fake_wrong"}, {"fake_wrong": source})
    with pytest.raises(PluginError, match=f"{kind} driver 'wrong' of dockhand-wrong"):
        Plugins().driver(kind, "wrong")


def test_a_driver_is_imported_when_it_is_used(package: Install) -> None:
    import sys

    source = hooks("late", "'fake_heavy:Auth'")
    package("dockhand-late", {"late": "fake_late"}, {"fake_late": source, "fake_heavy": DRIVER})
    plugins = Plugins()
    assert "fake_late" in sys.modules
    assert "fake_heavy" not in sys.modules
    assert plugins.driver("auth", "late") is plugins.driver("auth", "late")
    assert "fake_heavy" in sys.modules


def test_two_packages_with_one_driver(package: Install) -> None:
    package("dockhand-one", {"a": "fake_one"}, {"fake_one": hooks("twice", "Auth, 'one': Auth")})
    package("dockhand-two", {"b": "fake_two"}, {"fake_two": hooks("twice", "Auth, 'two': Auth")})
    plugins = Plugins()
    with pytest.raises(PluginConflict) as caught:
        plugins.driver("auth", "twice")
    said = "auth driver 'twice' is provided by dockhand-one and dockhand-two"
    assert str(caught.value).startswith(said)
    assert "DOCKHAND_DISABLE_PLUGINS" in str(caught.value)
    with pytest.raises(PluginConflict, match="dockhand-one and dockhand-two"):
        connect("http://r", auth={"driver": "twice"})
    for fine in ("one", "two", "basic"):
        assert plugins.driver("auth", fine)
    assert Plugins(("dockhand-two",)).driver("auth", "twice").__module__ == "fake_one"


def test_two_packages_with_one_entry_point_name(package: Install) -> None:
    package("dockhand-one", {"same": "fake_one"}, {"fake_one": hooks("first")})
    package("dockhand-two", {"same": "fake_two"}, {"fake_two": hooks("second")})
    plugins = Plugins()
    assert {"first", "second"} <= set(plugins.names("auth"))
    assert plugins.driver("auth", "first").__module__ == "fake_one"
    assert plugins.driver("auth", "second").__module__ == "fake_two"


class TestDisabled:
    @pytest.mark.parametrize(
        "names", ["vault", "dockhand-vault", "Dockhand_Vault", " x , vault,", "dockhand.vault"]
    )
    def test_by_either_name(
        self, package: Install, monkeypatch: pytest.MonkeyPatch, names: str
    ) -> None:
        package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": hooks("vault")})
        monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", names)
        plugins = Plugins()
        assert "vault" not in plugins.names("auth")
        assert "basic" in plugins.names("auth")
        assert "dockhand-vault" not in {i.package for i in plugins}
        with pytest.raises(PluginNotFound, match=r"disabled: .*vault"):
            plugins.driver("auth", "vault")

    def test_several(self, clean: object, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", "basic,dockhand-auth-bearer")
        names = Plugins().names("auth")
        assert "basic" not in names
        assert "bearer" not in names
        assert "apikey" in names

    def test_nothing(self, clean: object, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", "")
        assert "basic" in Plugins().names("auth")


class TestNotFound:
    def test_auth(self) -> None:
        plugins = Plugins()
        installed = ", ".join(plugins.names("auth"))
        with pytest.raises(PluginNotFound) as caught:
            plugins.driver("auth", "vault")
        assert str(caught.value).startswith(
            f"auth driver 'vault' is not installed; installed: {installed}"
        )
        assert {"apikey", "basic"} <= set(installed.split(", "))

    def test_a_typing_error(self) -> None:
        with pytest.raises(PluginNotFound, match=r"did you mean 'basic'\?"):
            Plugins().driver("auth", "bsic")

    @pytest.mark.parametrize("name", ["basic", "bearer", "apikey"])
    def test_what_to_install(self, name: str) -> None:
        with pytest.raises(PluginNotFound) as caught:
            Plugins((name,)).driver("auth", name)
        assert f'pip install "dockhand-core[{name}]"' in str(caught.value)

    def test_a_registry_driver(self, clean: object) -> None:
        with pytest.raises(PluginNotFound, match="registry driver 'quay' is not installed; inst"):
            connect("http://r", driver="quay")
        with pytest.raises(PluginNotFound, match=r"dockhand-core\[distribution\]"):
            Plugins(("distribution",)).driver("registry", "distribution")

    def test_a_log_driver(self, clean: object) -> None:
        with pytest.raises(PluginNotFound, match="log driver 'syslog' is not installed"):
            connect("http://r", logging={"driver": "syslog"})

    def test_it_is_a_plugin_error(self) -> None:
        assert issubclass(PluginNotFound, PluginError)
        assert issubclass(PluginConflict, dockhand_core.DockhandError)
