"""Settings of plugins: `[plugins.<name>]` and the hook `dockhand_configure`."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, field_validator

from dockhand_core import (
    AsyncDockhand,
    ConfigError,
    Dockhand,
    PluginConflict,
    PluginError,
    PluginNotFound,
    Plugins,
    connect,
    hookimpl,
)
from dockhand_core.config import DockhandConfig, load_config, load_tables
from dockhand_core.plugin_settings import PluginSettings

pytestmark = pytest.mark.usefixtures("clean")

Install = Callable[[str, Mapping[str, str], Mapping[str, str]], None]
Manager = type[Dockhand] | type[AsyncDockhand]
SECRET = "s3cr3t-of-the-channel"

both = pytest.mark.parametrize("manager", [Dockhand, AsyncDockhand])


class Audit:
    """A plugin that records the calls of the hook."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, Any], Any]] = []

    @hookimpl
    def dockhand_configure(self, settings: PluginSettings, dockhand: Any) -> None:
        self.calls.append((dict(settings), dockhand))


class Parsing:
    """A plugin that parses its settings."""

    class Settings(BaseModel):
        channel: str = "#all"
        token: SecretStr = SecretStr("")
        keys: Path = Path("keys")
        rooms: list[str] = []
        limits: dict[str, int] = {}

        @field_validator("channel")
        @classmethod
        def _check_channel(cls, value: str) -> str:
            if value == "crash":
                raise RuntimeError(f"no such channel, {SECRET}")
            return value

    settings: Settings

    @hookimpl
    def dockhand_configure(self, settings: PluginSettings) -> None:
        self.settings = settings.parse(self.Settings)


class Raising:
    """A plugin that refuses its settings."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @hookimpl
    def dockhand_configure(self, settings: PluginSettings) -> None:
        raise self.error

    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, str]:
        return {"raising": "nowhere:Auth"}


def source(body: str) -> str:
    """The source of a module with the hook, a driver, a command and a handler."""
    return f"""
from dockhand_core import hookimpl
calls = []
@hookimpl
def dockhand_configure(settings, dockhand):
    calls.append((dict(settings), dockhand))
    {body}
@hookimpl
def dockhand_auth_drivers():
    return {{"vault": "nowhere:Auth"}}
@hookimpl
def dockhand_commands():
    return {{"vault": "nowhere:app"}}
@hookimpl
def dockhand_event(event):
    pass
"""


def close(manager: Any) -> None:
    if isinstance(manager, AsyncDockhand):
        asyncio.run(manager.close())
    else:
        manager.close()


@both
def test_an_installed_plugin_is_configured_once_for_each_manager(
    manager: Manager, package: Install
) -> None:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source("")})
    import fake_vault  # type: ignore[import-not-found]

    one = manager({"plugins": {"vault": {"role": "ci"}}})
    assert fake_vault.calls == [({"role": "ci"}, one)]
    other = manager({})
    assert fake_vault.calls[1:] == [({}, other)]
    for each in (one, other):
        close(each)


@both
def test_a_registered_plugin_is_configured_at_its_registration(manager: Manager) -> None:
    audit, dockhand = Audit(), manager({"plugins": {"audit": {"role": "ci"}}})
    dockhand.plugins.register(audit, name="audit")
    assert audit.calls == [({"role": "ci"}, dockhand)]
    other = Audit()
    dockhand.plugins.register(other, name="other")
    assert other.calls == [({}, dockhand)]
    assert len(audit.calls) == 1
    close(dockhand)


def test_connect_configures_no_plugin(package: Install) -> None:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source("")})
    import fake_vault

    with connect("http://r"):
        assert fake_vault.calls == []


def test_plugins_are_configured_once() -> None:
    with Dockhand({}) as dockhand, pytest.raises(PluginError, match="configured already"):
        dockhand.plugins.configure({}, dockhand)


def test_settings_from_file_and_environment(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clean / "conf").mkdir()
    (clean / "conf" / "channel").write_text(f"{SECRET}\n")
    (clean / "conf" / "dockhand.toml").write_text(
        "[plugins.my-audit]\n"
        'channel = "#${TEAM}"\ntoken_file = "channel"\nkeys = "keys/a.pem"\nrooms = ["a"]\n'
    )
    monkeypatch.setenv("TEAM", "ops")
    monkeypatch.setenv("DOCKHAND_CONFIG", "conf/dockhand.toml")
    plugin = Parsing()
    with Dockhand() as dockhand:
        dockhand.plugins.register(plugin, name="my_audit")
    settings = plugin.settings
    assert settings.channel == "#ops"
    assert settings.token.get_secret_value() == SECRET
    assert settings.keys == clean / "conf" / "keys" / "a.pem"
    monkeypatch.setenv("DOCKHAND_PLUGINS__MY_AUDIT__ROOMS", '["b", "c"]')
    monkeypatch.setenv("DOCKHAND_PLUGINS__MY_AUDIT__LIMITS__PUSHES", "4")
    monkeypatch.setenv("DOCKHAND_PLUGINS__MY_AUDIT__TOKEN", "another")
    with Dockhand() as dockhand:
        dockhand.plugins.register(plugin, name="my-audit")
    assert plugin.settings.rooms == ["b", "c"]
    assert plugin.settings.limits == {"pushes": 4}
    assert plugin.settings.token.get_secret_value() == "another"
    assert plugin.settings.channel == "#ops"


def test_settings_from_the_environment_alone(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clean / "token").write_text(SECRET)
    monkeypatch.setenv("DOCKHAND_PLUGINS__AUDIT__TOKEN_FILE", "token")
    plugin = Parsing()
    with Dockhand() as dockhand:
        dockhand.plugins.register(plugin, name="audit")
    assert plugin.settings.token.get_secret_value() == SECRET
    assert dockhand.config.plugins == {"audit": {"token_file": str(clean / "token")}}


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("DOCKHAND_PLUGINS__AUDIT", "DOCKHAND_PLUGINS__AUDIT: DOCKHAND_PLUGINS__<NAME>__<KEY> is"),
        ("DOCKHAND_PLUGINS____X", "DOCKHAND_PLUGINS____X: "),
        ("DOCKHAND_STRICT_PLUGIN", "did you mean 'DOCKHAND_STRICT_PLUGINS'"),
    ],
)
def test_a_misspelt_variable(variable: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert message in str(caught.value)


def test_a_variable_that_is_not_set_is_named(clean: Path) -> None:
    (clean / "dockhand.toml").write_text('[plugins.audit]\ntoken = "${NO_TOKEN}"\n')
    for load in (load_config, load_tables):
        with pytest.raises(ConfigError) as caught:
            load()
        assert str(caught.value).startswith("plugins.audit.token: ")
        assert "'NO_TOKEN' is not set" in str(caught.value)


@pytest.mark.parametrize(
    ("plugins", "message"),
    [
        ([], "'plugins' is not a table of plugins"),
        ({"audit": "x"}, "plugins.audit is not a table of settings: [plugins.audit]"),
        ({"a-b": {}, "a_b": {}}, "plugins.a-b and plugins.a_b are the same plugin"),
        ({"basic": {}}, "plugins.basic: the plugin 'basic' takes no settings"),
        ({"core": {}}, "plugins.core: the plugin 'core' takes no settings"),
    ],
)
@both
def test_wrong_tables(manager: Manager, plugins: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        manager({"plugins": plugins})
    assert message in str(caught.value)


@both
def test_a_registered_plugin_without_the_hook_takes_no_settings(manager: Manager) -> None:
    class Silent:
        @hookimpl
        def dockhand_event(self, event: Any) -> None: ...

    dockhand = manager({"plugins": {"silent": {"x": 1}}})
    with pytest.raises(ConfigError, match="'silent' takes no settings, since it has no hook"):
        dockhand.plugins.register(Silent(), name="silent")
    dockhand.plugins.register(Audit(), name="silent")
    close(dockhand)


@both
def test_a_misspelt_name_of_an_installed_plugin(manager: Manager, package: Install) -> None:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source("")})
    with pytest.raises(ConfigError) as caught:
        manager({"plugins": {"vualt": {}}})
    assert "no plugin named 'vualt' is installed or registered; did you mean 'vault'? If" in str(
        caught.value
    )
    close(manager({"plugins": {"vault": {}, "vaults": {}}}))  # both may be meant


def test_settings_without_a_plugin_are_refused_by_servers(
    package: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source("")})
    with Dockhand({"plugins": {"slack": {}, "vault": {}}}) as dockhand:
        with pytest.raises(ConfigError) as caught:
            dockhand.plugins.check()
        assert "plugins.slack: no plugin named 'slack'" in str(caught.value)
        assert "DOCKHAND_DISABLE_PLUGINS=slack" in str(caught.value)
        dockhand.plugins.register(Audit(), name="slack")
        dockhand.plugins.check()
    dockhand = Dockhand({"plugins": {"vaultt": {}, "vault": {}}})
    with dockhand, pytest.raises(ConfigError, match="'vaultt' is .*; did you mean 'vault'"):
        dockhand.plugins.check()
    for disabled in ("slack,vault", "Slack,dockhand_vault"):
        monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", disabled)
        with Dockhand({"plugins": {"slack": {}, "vault": {}}}) as dockhand:
            dockhand.plugins.check()


ERRORS = [
    (ConfigError("channel is missing"), ConfigError, "plugin 'audit': channel is missing"),
    (
        ConfigError("plugin 'audit': no channel"),
        ConfigError,
        "plugin 'audit': no channel",
    ),
    (
        ValueError(f"wrong: {SECRET}"),
        ConfigError,
        "plugin 'audit': dockhand_configure failed: ValueError: wrong: ... (test_plugin_settings.",
    ),
    (
        KeyError("channel"),
        PluginError,
        "plugin 'audit': dockhand_configure failed: KeyError: 'channel' (test_plugin_settings.py",
    ),
    (SystemExit(3), PluginError, "plugin 'audit': dockhand_configure failed: SystemExit: 3 ("),
]


@pytest.mark.parametrize(("error", "kind", "message"), ERRORS)
@both
def test_a_plugin_that_refuses_its_settings_is_not_registered(
    manager: Manager, error: BaseException, kind: type[Exception], message: str
) -> None:
    dockhand = manager({"plugins": {"audit": {"token": SECRET}}})
    with pytest.raises(kind) as caught:
        dockhand.plugins.register(Raising(error), name="audit")
    assert str(caught.value).startswith(message)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(PluginNotFound, match="'raising' is not installed"):
        dockhand.plugins.driver("auth", "raising")
    dockhand.plugins.register(Audit(), name="audit")
    close(dockhand)


@both
def test_a_configured_plugin_that_fails_refuses_the_manager(
    manager: Manager, package: Install
) -> None:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source("settings['role']")})
    with pytest.raises(PluginError) as caught:
        manager({"plugins": {"vault": {"rule": "ci"}}})
    assert (
        "plugin 'vault': dockhand_configure failed: KeyError: 'role' (fake_vault.py, line 7)"
        in (str(caught.value))
    )


@both
def test_a_plugin_without_settings_that_fails_breaks_only_itself(
    manager: Manager, package: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    package(
        "dockhand-vault",
        {"vault": "fake_vault"},
        {"fake_vault": source("raise ValueError('role is missing')")},
    )
    package("dockhand-other", {"other": "fake_other"}, {"fake_other": source("")})
    dockhand = manager({})
    (broken,) = dockhand.plugins.failures
    assert str(broken).startswith(
        "vault (dockhand-vault 1.2.3): cannot be loaded: dockhand_configure failed: ValueError: "
        "role is missing (fake_vault.py, line 7); there is no table [plugins.vault]"
    )
    assert (broken.provides, broken.hooks, broken.handlers, broken.commands) == ({}, (), (), ())
    assert capsys.readouterr().err.count("role is missing") == 1
    assert [name for name, _ in dockhand.plugins.implementations("dockhand_event")] == ["other"]
    ((provided,),) = [dockhand.plugins.commands()["vault"]]
    assert provided.plugin.name == "other"
    close(manager({}))
    assert "role is missing" not in capsys.readouterr().err  # once in a process


@both
def test_a_driver_whose_plugin_cannot_be_configured_is_not_missing(
    manager: Manager, package: Install
) -> None:
    """The package is there; advice to install it would be of no use."""
    body = "raise ValueError('role is missing')"
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source(body)})
    dockhand = manager({})
    provided: list[Callable[[], Any]] = [
        lambda: dockhand.plugins.driver("auth", "vault"),
        lambda: dockhand.plugins.command("vault"),
    ]
    for use in provided:
        with pytest.raises(PluginError) as caught:
            use()
        assert not isinstance(caught.value, PluginNotFound)
        assert "'vault' of dockhand-vault could not be loaded: dockhand_configure failed: " in (
            str(caught.value)
        )
        assert "role is missing" in str(caught.value)
        assert "not installed" not in str(caught.value)


def test_a_driver_of_the_name_of_a_plugin_that_cannot_be_imported(package: Install) -> None:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": "import nowhere"})
    with pytest.raises(PluginNotFound) as caught:
        Plugins().driver("auth", "vault")
    assert str(caught.value).startswith(
        "auth driver 'vault' is not available: the plugin vault (dockhand-vault 1.2.3): cannot be "
        "loaded: ModuleNotFoundError: No module named 'nowhere'; installed: "
    )


@both
def test_two_packages_whose_plugins_have_one_name_take_no_settings(
    manager: Manager, package: Install
) -> None:
    """Each of them would refuse the keys of the other one, which nobody could understand."""
    package("dockhand-one", {"same": "fake_one"}, {"fake_one": source("")})
    package("dockhand-two", {"Same": "fake_two"}, {"fake_two": source("")})
    message = "plugins.[Ss]ame: dockhand-one and dockhand-two have plugins of this name, which take"
    with pytest.raises(PluginConflict, match=message) as caught:
        manager({"plugins": {"same": {"a": 1}}})
    assert "DOCKHAND_DISABLE_PLUGINS" in str(caught.value)
    close(manager({}))  # without settings, each of them gets none
    named = {info.package: info for info in Plugins()}
    conflict = Plugins().conflict_of(named["dockhand-two"])
    assert conflict is not None
    assert conflict.startswith(
        "dockhand-one has a plugin named 'same', too, and both implement dockhand_configure, "
        "dockhand_event; uninstall one"
    )
    assert Plugins().conflict_of(named["dockhand-auth-basic"]) is None


def test_one_taker_of_two_plugins_of_one_name_gets_the_settings(package: Install) -> None:
    driver = """
from dockhand_core import hookimpl
@hookimpl
def dockhand_auth_drivers():
    return {"vault": "nowhere:Auth"}
"""
    package("dockhand-one", {"same": "fake_one"}, {"fake_one": source("")})
    package("dockhand-two", {"same": "fake_two"}, {"fake_two": driver})
    with Dockhand({"plugins": {"same": {"a": 1}}}) as dockhand:
        import fake_one  # type: ignore[import-not-found]

        assert fake_one.calls == [({"a": 1}, dockhand)]
        assert not dockhand.plugins.failures


@pytest.mark.parametrize("table", [{}, {"a": 1}])
def test_a_plugin_without_settings_may_parse_the_base_class(table: dict[str, Any]) -> None:
    settings = PluginSettings("audit", table, Path())
    if not table:
        assert settings.parse(BaseModel).model_dump() == {}
    else:
        with pytest.raises(ConfigError, match="plugin 'audit': unknown key 'a'"):
            settings.parse(BaseModel)


@pytest.mark.parametrize("model", [dict, None, Parsing, "Settings"])
def test_only_a_class_of_models_can_be_parsed(model: Any) -> None:
    with pytest.raises(PluginError, match="settings.parse got .*, not a class of models"):
        PluginSettings("audit", {}, Path()).parse(model)


@both
def test_the_strict_variable_refuses_broken_plugins(
    manager: Manager, package: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "raise ValueError('role is missing')"
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source(body)})
    for value in ("1", "true", "ON", "anything"):
        monkeypatch.setenv("DOCKHAND_STRICT_PLUGINS", value)
        with pytest.raises(PluginError) as caught:
            manager({})
        assert str(caught.value).startswith(
            "DOCKHAND_STRICT_PLUGINS: not started, because of vault (dockhand-vault 1.2.3): "
        )
        assert "DOCKHAND_DISABLE_PLUGINS" in str(caught.value)
    for value in ("", "0", "False", "no", "off"):
        monkeypatch.setenv("DOCKHAND_STRICT_PLUGINS", value)
        close(manager({}))
    monkeypatch.setenv("DOCKHAND_STRICT_PLUGINS", "1")
    monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", "vault")
    close(manager({}))


def test_the_strict_variable_finds_drivers_that_cannot_be_imported(
    package: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source("")})
    with connect("http://r"):
        pass
    monkeypatch.setenv("DOCKHAND_STRICT_PLUGINS", "1")
    for start in (lambda: Dockhand({}), lambda: connect("http://r")):
        with pytest.raises(PluginError, match="STRICT_PLUGINS: not started.*nowhere"):
            start()


@pytest.mark.parametrize(
    ("table", "kind", "message"),
    [
        ({"chanel": SECRET}, ConfigError, "plugin 'audit': unknown key 'chanel'; did you mean"),
        ({"channel": [SECRET]}, ConfigError, "plugin 'audit': channel: Input should be a valid"),
        ({"token": SECRET, "token_file": "x"}, ConfigError, "both token and token_file are given"),
        ({"token_file": "./none/x"}, ConfigError, "token_file: ./none/x: No such file"),
        ({"token": SECRET, "rooms": '["a"'}, ConfigError, "plugin 'audit': rooms: "),
        ({"token": SECRET, "channel": "crash"}, PluginError, "RuntimeError: no such channel, ..."),
    ],
)
def test_errors_of_parsed_settings(
    table: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with Dockhand({"plugins": {"audit": table}}) as dockhand, pytest.raises(kind) as caught:
        dockhand.plugins.register(Parsing(), name="audit")
    assert message in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_representations_have_no_values() -> None:
    config = DockhandConfig.parse({"plugins": {"audit": {"token": SECRET, "a": {"b": SECRET}}}})
    settings = PluginSettings("audit", config.plugins["audit"], Path())
    assert repr(settings) == "<PluginSettings audit: token, a>"
    assert "audit" in repr(config)
    assert SECRET not in repr(config) + str(config) + repr(settings) + str(settings)


def test_a_plugin_cannot_change_the_settings_of_another_manager() -> None:
    config = DockhandConfig.parse({"plugins": {"audit": {"rooms": ["a"], "table": {"x": 1}}}})

    class Changing(Audit):
        @hookimpl
        def dockhand_configure(self, settings: PluginSettings, dockhand: Any) -> None:
            settings["rooms"].append("b")
            settings["table"].clear()

    with Dockhand(config) as dockhand:
        dockhand.plugins.register(Changing(), name="audit")
    assert config.plugins == {"audit": {"rooms": ["a"], "table": {"x": 1}}}


def test_settings_are_a_dict_for_a_model() -> None:
    settings = PluginSettings("audit", {"channel": "#ops"}, Path())
    assert settings == {"channel": "#ops"}
    assert Parsing.Settings.model_validate(settings).channel == "#ops"


def test_the_hook_is_a_plain_function() -> None:
    class Async:
        @hookimpl
        async def dockhand_configure(self, settings: Any) -> None: ...

    class Later:
        @hookimpl
        def dockhand_configure(self, settings: Any) -> Any:
            return asyncio.sleep(0)

    class Yielding:
        @hookimpl
        def dockhand_configure(self, settings: Any) -> Any:
            yield

    with pytest.raises(PluginError, match="dockhand_configure is `async def`"):
        Plugins().register(Async())
    with pytest.raises(PluginError, match="has a `yield`"):
        Plugins().register(Yielding())
    with Dockhand({}) as dockhand, pytest.raises(PluginError, match="returned an awaitable"):
        dockhand.plugins.register(Later())


def test_errors_have_no_credentials_of_urls_in_settings() -> None:
    class Refusing:
        @hookimpl
        def dockhand_configure(self, settings: PluginSettings) -> None:
            raise ConfigError(f"cannot reach {settings['server']} with {SECRET}")

    server = f"https://alice:{SECRET}@chat.example.com/@rooms"
    dockhand = Dockhand({"plugins": {"audit": {"server": server}}})
    with dockhand, pytest.raises(ConfigError) as caught:
        dockhand.plugins.register(Refusing(), name="audit")
    assert str(caught.value).endswith("cannot reach https://...@chat.example.com/@rooms with ...")
    assert caught.value.__context__ is None
