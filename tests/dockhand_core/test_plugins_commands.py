"""Commands that plugins provide with the hook `dockhand_commands`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import typer

from dockhand_core import PluginConflict, PluginError, PluginInfo, PluginNotFound, Plugins, hookimpl

pytestmark = pytest.mark.usefixtures("clean")

Install = Callable[[str, Mapping[str, str], Mapping[str, str]], None]

APP = "import typer\napp = typer.Typer()\n"


def hooks(commands: str) -> str:
    return f"""
from dockhand_core import hookimpl
@hookimpl
def dockhand_commands():
    return {commands}
@hookimpl
def dockhand_log_drivers():
    return {{"kept": print}}
"""


class CommandsPlugin:
    def __init__(self, commands: Any) -> None:
        self._commands = commands

    @hookimpl
    def dockhand_commands(self) -> Any:
        return self._commands


def info_of(plugins: Plugins, name: str) -> PluginInfo:
    (found,) = [found for found in plugins if found.name == name]
    return found


def test_a_command_is_imported_when_it_is_called(package: Install) -> None:
    package(
        "dockhand-vault",
        {"vault": "fake_vault"},
        {"fake_vault": hooks("{'vault': 'fake_app:app'}"), "fake_app": APP},
    )
    plugins = Plugins()
    ((info, application),) = plugins.commands()["vault"]
    assert (info.name, info.package, info.commands) == ("vault", "dockhand-vault", ("vault",))
    assert application == "fake_app:app"
    assert "fake_app" not in sys.modules
    assert isinstance(plugins.command("vault"), typer.Typer)
    assert plugins.command("vault") is plugins.command("vault")
    assert list(plugins.failures) == []


def test_a_command_may_be_an_application_itself() -> None:
    app = typer.Typer()
    plugins = Plugins()
    plugins.register(CommandsPlugin({"b": app, "a-1": "json:loads"}), "mine")
    assert [name for name in plugins.commands() if name in {"b", "a-1"}] == ["a-1", "b"]
    assert plugins.commands()["b"] == ((info_of(plugins, "mine"), app),)
    assert plugins.command("b") is app
    assert info_of(plugins, "mine").commands == ("a-1", "b")


def test_an_attribute_of_an_attribute(package: Install) -> None:
    nested = f"{APP}class Apps:\n    vault = app\n"
    package("dockhand-vault", {"vault": "fake_vault"}, {
        "fake_vault": hooks("{'vault': 'fake_app:Apps.vault'}"), "fake_app": nested,
    })  # fmt: skip
    assert isinstance(Plugins().command("vault"), typer.Typer)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "import not_there_at_all\n",
            "cannot be imported from 'fake_app:app': ModuleNotFoundError",
        ),
        ("raise SystemExit(3)", "cannot be imported from 'fake_app:app': SystemExit: 3"),
        ("", "AttributeError"),
        ("app = None", "is not a typer application, but None"),
        ("def app(): pass", "is not a typer application, but the function app"),
        ("import typer\napp = typer.Typer", "is not a typer application, but the class Typer"),
    ],
)
def test_a_command_that_cannot_be_imported_costs_only_itself(
    package: Install, capsys: pytest.CaptureFixture[str], source: str, reason: str
) -> None:
    package("dockhand-bad", {"bad": "fake_bad"}, {
        "fake_bad": hooks("{'bad': 'fake_app:app', 'good': 'fake_good:app'}"),
        "fake_app": source, "fake_good": APP,
    })  # fmt: skip
    plugins = Plugins()
    assert list(plugins.failures) == []
    for _ in range(2):
        with pytest.raises(PluginError) as caught:
            plugins.command("bad")
        assert type(caught.value) is PluginError
        assert str(caught.value).startswith("command 'bad' of dockhand-bad ")
        assert reason in str(caught.value)
    assert [info.error for info in plugins.failures] == [str(caught.value)]
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [f"WARNING dockhand.plugins: {plugins.failures[0]}"]
    assert isinstance(plugins.command("good"), typer.Typer)
    assert plugins.driver("log", "kept") is print
    assert set(plugins.commands()) >= {"bad", "good"}


def test_all_commands_can_be_imported(package: Install) -> None:
    package("dockhand-bad", {"bad": "fake_bad"}, {"fake_bad": hooks("{'bad': 'fake_app:app'}")})
    plugins = Plugins()
    plugins.import_commands()
    (failed,) = plugins.failures
    assert "command 'bad' of dockhand-bad cannot be imported" in (failed.error or "")


@pytest.mark.parametrize(
    ("commands", "reason"),
    [
        ("None", "TypeError: dockhand_commands must return a mapping of names to commands"),
        ("['fake_app:app']", "must return a mapping of names to commands, not a list"),
        ("{5: 'fake_app:app'}", "'5' is not the name of a command"),
        ("{'': 'fake_app:app'}", "'' is not the name of a command"),
        ("{'two words': 'fake_app:app'}", "'two words' is not the name of a command"),
        ("{'--help': 'fake_app:app'}", "'--help' is not the name of a command"),
        (r"{'a\x1b[31m': 'fake_app:app'}", r"'a\x1b[31m' is not the name of a command"),
        ("{'a\\n': 'fake_app:app'}", "is not the name of a command"),
        ("{'x': 'fake_app'}", "'fake_app' is not of the form 'package.module:attribute'"),
        ("{'x': ':app'}", "is not of the form"),
        ("{'x': 'fake_app:'}", "is not of the form"),
        ("{'x': ''}", "is not of the form"),
        ("{'x': None}", "command 'x' is not a typer application, but None"),
        ("{'x': print}", "command 'x' is not a typer application, but the function print"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_wrong_commands_break_only_their_plugin(
    package: Install, commands: str, reason: str
) -> None:
    package("dockhand-wrong", {"wrong": "fake_wrong", "ok": "fake_ok"}, {
        "fake_wrong": hooks(commands), "fake_ok": hooks("{'ok': 'fake_app:app'}"),
        "fake_app": APP,
    })  # fmt: skip
    plugins = Plugins()
    (failed,) = plugins.failures
    assert failed.name == "wrong"
    assert reason in (failed.error or "")
    assert (failed.hooks, failed.commands, failed.handlers) == ((), (), ())
    assert [name for name in plugins.commands() if name in {"x", "ok"}] == ["ok"]
    assert plugins.command("ok")
    assert plugins.driver("log", "kept") is print


def test_a_wrong_answer_is_an_error_of_register() -> None:
    with pytest.raises(PluginError, match="plugin 'mine': TypeError: dockhand_commands must"):
        Plugins().register(CommandsPlugin(["vault"]), "mine")


def test_two_packages_with_one_command_conflict(package: Install) -> None:
    for name in ("one", "two"):
        package(f"dockhand-{name}", {name: f"fake_{name}"}, {
            f"fake_{name}": hooks(f"{{'twice': 'fake_app:app', '{name}': 'fake_app:app'}}"),
            "fake_app": APP,
        })  # fmt: skip
    plugins = Plugins()
    assert list(plugins.failures) == []
    packages = {info.package for info, _ in plugins.commands()["twice"]}
    assert packages == {"dockhand-one", "dockhand-two"}
    with pytest.raises(PluginConflict) as caught:
        plugins.command("twice")
    assert str(caught.value) == (
        "command 'twice' is provided by dockhand-one and dockhand-two; uninstall one of them, or "
        "name it in DOCKHAND_DISABLE_PLUGINS"
    )
    assert plugins.command("one") is plugins.command("two")
    assert Plugins(("dockhand-two",)).command("twice")


def test_an_unknown_command() -> None:
    plugins = Plugins()
    plugins.register(CommandsPlugin({"vault": "fake_app:app"}))
    with pytest.raises(PluginNotFound) as caught:
        plugins.command("valt")
    text = str(caught.value)
    assert text.startswith("command 'valt' is not installed; installed: ")
    assert "; did you mean 'vault'?" in text


class TestInfo:
    def test_hooks_handlers_and_commands(self) -> None:
        class Everything(CommandsPlugin):
            @hookimpl
            def dockhand_event(self) -> None:
                pass

            @hookimpl(specname="dockhand_tag_deleted")
            def other_name(self) -> None:
                pass

            @hookimpl
            def dockhand_authorize(self) -> None:
                pass

        plugins = Plugins()
        plugins.register(Everything({"b": "m:b", "a": "m:a"}), "all")
        info = info_of(plugins, "all")
        assert info.hooks == (
            "dockhand_authorize", "dockhand_commands", "dockhand_event", "dockhand_tag_deleted",
        )  # fmt: skip
        assert info.commands == ("a", "b")
        assert info.handlers == ("all/dockhand_event", "all/dockhand_tag_deleted")
        assert str(info) == (
            f"all ({__name__}): commands: a, b; "
            "event handlers: all/dockhand_event, all/dockhand_tag_deleted; "
            "hooks: dockhand_authorize"
        )

    def test_handlers_have_the_names_of_the_receiver(self) -> None:
        from dockhand_core.events import event_handlers

        class Audit:
            @hookimpl
            def dockhand_event(self) -> None:
                pass

            @hookimpl
            def dockhand_manifest_pushed(self) -> None:
                pass

        plugins = Plugins()
        plugins.register(Audit(), "audit")
        assert {name for info in plugins for name in info.handlers} == set(event_handlers(plugins))

    def test_the_core(self) -> None:
        core = info_of(Plugins(), "core")
        assert core.hooks == (
            "dockhand_auth_drivers", "dockhand_event_parsers", "dockhand_log_drivers",
        )  # fmt: skip
        assert str(core).endswith("hooks: dockhand_event_parsers")

    def test_a_plugin_without_anything(self) -> None:
        assert str(PluginInfo("a", "b")) == "a (b): provides no drivers"


LIGHT = """
import sys
from dockhand_core import Plugins
plugins = Plugins()
assert not plugins.failures, plugins.failures
assert len(plugins) > 10
plugins.commands()
print(*sys.modules)
"""


def test_discovery_of_commands_is_light() -> None:
    """The command `dockhand --help` needs the names of all commands, and no driver."""
    command = [sys.executable, "-W", "error", "-c", LIGHT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert "dockhand_distribution.hooks" in modules
    heavy = {"aiohttp", "asyncio", "cryptography", "httpx", "jwt", "pydantic", "structlog", "typer"}
    assert modules.isdisjoint(heavy)
    assert not [name for name in modules if name.endswith(".driver")]
