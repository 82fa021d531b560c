"""Plugins that cannot be loaded are heard, and wrong hook functions are named."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pluggy
import pytest

from dockhand_core import (
    AsyncDockhand,
    AuthDriver,
    Dockhand,
    EventInvalid,
    PluginError,
    Plugins,
    async_connect,
    connect,
    hookimpl,
    hookspecs,
)
from dockhand_core import events as ev

pytestmark = pytest.mark.usefixtures("clean")

Install = Callable[[str, Mapping[str, str], Mapping[str, str]], None]

HEADER = "from dockhand_core import hookimpl\n"
BROKEN = "import a_module_that_is_not_there"
REASON = (
    "vault (dockhand-vault 1.2.3): cannot be loaded: "
    "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"
)


@pytest.fixture
def broken(package: Install) -> Install:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": BROKEN})
    return package


def make_sync() -> None:
    Dockhand({}).close()


def make_async() -> None:
    asyncio.run(AsyncDockhand({}).close())


def make_client() -> None:
    connect("http://r").close()


def make_async_client() -> None:
    asyncio.run(async_connect("http://r").close())


MAKERS = [make_sync, make_async, make_client, make_async_client]


@pytest.mark.parametrize("make", MAKERS)
def test_a_broken_plugin_is_heard_once_in_a_process(
    broken: Install, make: Callable[[], None], capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    make()
    assert capsys.readouterr().err == f"WARNING dockhand.plugins: {REASON}\n"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        REASON
    ]
    for again in MAKERS:
        again()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("setup", ["", "logging.basicConfig(level=logging.DEBUG)"])
def test_a_warning_is_on_standard_error_once(broken: Install, setup: str) -> None:
    """With logging set up and without, before and after the first connection."""
    source = f"""
import logging, sys
sys.path.insert(0, "site")
{setup}
from dockhand_core import Dockhand, connect
connect("http://r").close()
Dockhand({{}}).close()
"""
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.count(REASON) == 1
    assert done.stdout == ""


def test_an_application_can_silence_the_warning(
    broken: Install, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "dockhand.plugins")
    make_sync()
    assert capsys.readouterr().err == ""


def test_failures_lists_the_plugins_that_are_broken(broken: Install) -> None:
    broken("dockhand-empty", {"empty": "fake_empty"}, {"fake_empty": "x = 5"})
    with Dockhand({}) as dockhand:
        vault, empty = sorted(dockhand.plugins.failures, key=lambda info: -len(info.package))
        assert str(empty) == REASON or str(vault) == REASON
        texts = {info.package: info.error for info in dockhand.plugins.failures}
    assert texts["dockhand-empty"] == (
        "the plugin, a module, has no function that is decorated with dockhand_core.hookimpl"
    )


def test_no_installed_plugin_of_dockhand_is_broken() -> None:
    plugins = Plugins()
    plugins.import_drivers()
    assert plugins.failures == ()


def test_a_driver_that_cannot_be_imported_is_heard(
    package: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    source = HEADER + "@hookimpl\ndef dockhand_auth_drivers():\n    return {'v': 'fake_v:Vault'}\n"
    package("dockhand-v", {"v": "fake_hooks"}, {"fake_hooks": source})
    with Dockhand({"connections": {"a": {"base_uri": "http://r", "auth": {"driver": "v"}}}}) as it:
        assert not it.plugins.failures
        assert capsys.readouterr().err == ""
        for _ in range(2):
            with pytest.raises(PluginError, match="cannot be imported from 'fake_v:Vault'"):
                it.connection()
        (failure,) = it.plugins.failures
    line = f"WARNING dockhand.plugins: {failure}\n"
    assert capsys.readouterr().err == line
    assert "ModuleNotFoundError: No module named 'fake_v'" in line


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('one\\ntwo\\x1b[31m\\0')", "RuntimeError: one two"),
        ("raise RuntimeError('http://alice:hunter2@vault/ is down')", "http://vault/ is down"),
        (
            "from pydantic import TypeAdapter\nTypeAdapter(int).validate_python('hunter2')",
            "ValidationError: int: : Input should be a valid integer",
        ),
        (
            "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd",
            "Odd",
        ),
        ("raise RuntimeError('x' * 5000)", "x…"),
    ],
)
def test_a_reason_is_one_line_without_secrets(package: Install, source: str, reason: str) -> None:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source})
    (failure,) = Plugins().failures
    text = str(failure)
    assert reason in text
    assert "hunter2" not in text
    assert text.isprintable()
    assert len(text) < 500


@pytest.mark.parametrize("name", ["vault", "dockhand-vault", "Dockhand.Vault"])
def test_a_disabled_plugin_is_not_imported(
    package: Install, monkeypatch: pytest.MonkeyPatch, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", name)
    source = "from pathlib import Path\nPath('imported').touch()\nraise RuntimeError"
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source})
    for make in MAKERS:
        make()
    assert not Path("imported").exists()
    assert "fake_vault" not in sys.modules
    assert capsys.readouterr().err == ""


def test_a_disabled_plugin_is_imported_once_it_is_enabled(
    package: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = HEADER + "@hookimpl\ndef dockhand_event(event): ...\n"
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source})
    assert "dockhand-vault" not in {info.package for info in Plugins(("vault",))}
    assert "dockhand-vault" in {info.package for info in Plugins()}


@pytest.mark.usefixtures("broken")
def test_a_notification_that_no_parser_takes_names_broken_plugins() -> None:
    with pytest.raises(EventInvalid) as caught:
        ev.EventParsers(Plugins()).parse({"Content-Type": "text/x-harbor"}, b"")
    assert str(caught.value).startswith("no parser knows the format")
    assert str(caught.value).endswith(f"plugins that could not be loaded: {REASON}")


# -- hook functions ----------------------------------------------------------------------------

other_marker = pluggy.HookimplMarker("tox")


class NoHooks:
    def on_push(self, event: Any) -> None: ...


class Misspelt:
    @hookimpl
    def dockhand_manifest_pushd(self, event: Any) -> None: ...


class MisspeltDriver:
    @hookimpl
    def dockhand_auth_driver(self) -> dict[str, Any]:
        return {}


class WithoutPrefix:
    @hookimpl
    def manifest_pushed(self, event: Any) -> None: ...


class Undecorated:
    def dockhand_manifest_pushed(self, event: Any) -> None: ...


class UndecoratedAndMisspelt:
    @hookimpl
    def dockhand_event(self, event: Any) -> None: ...

    def dockhand_manifest_pushd(self, event: Any) -> None: ...


class OtherMarker:
    @other_marker
    def dockhand_event(self, event: Any) -> None: ...


class WrongArgument:
    @hookimpl
    def dockhand_event(self, evnt: Any) -> None: ...


class TooManyArguments:
    @hookimpl
    def dockhand_event(self, event: Any, connection: Any) -> None: ...


class DriversWithArgument:
    @hookimpl
    def dockhand_auth_drivers(self, config: Any) -> dict[str, Any]:
        return {}


class PositionalOnly:
    @hookimpl
    def dockhand_event(self, event: Any, /) -> None: ...


class Variadic:
    @hookimpl
    def dockhand_event(self, *args: Any) -> None: ...


class WithoutSelf:
    @hookimpl
    def dockhand_event(event) -> None: ...


class WithoutSelfOrArguments:
    @hookimpl
    def dockhand_auth_drivers() -> dict[str, Any]:  # type: ignore[misc]
        return {}


class Generates:
    @hookimpl
    def dockhand_event(self, event: Any) -> Iterator[None]:
        yield


class AsyncDrivers:
    @hookimpl
    async def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {}


class Wrapper:
    @hookimpl(wrapper=True)
    def dockhand_event(self, event: Any) -> Any:
        return (yield)


class Right:
    @hookimpl
    def dockhand_event(self, event: Any) -> None: ...


class Returns:
    def __init__(self, value: Any) -> None:
        self.value = value

    @hookimpl
    def dockhand_auth_drivers(self) -> Any:
        return self.value


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (NoHooks(), "the plugin, a NoHooks, has no function that is decorated with dockhand_core."),
        (None, "the plugin, None, has no function that is decorated"),
        ("dockhand_vault.hooks", "the plugin, a str, has no function that is decorated"),
        (Misspelt(), "unknown hook 'dockhand_manifest_pushd'; did you mean 'dockhand_manifest_pu"),
        (MisspeltDriver(), "'dockhand_auth_driver'; did you mean 'dockhand_auth_drivers'?"),
        (WithoutPrefix(), "'manifest_pushed'; did you mean 'dockhand_manifest_pushed'?"),
        (Undecorated(), "dockhand_manifest_pushed is not decorated with @hookimpl"),
        (
            UndecoratedAndMisspelt(),
            "so it would never be called; did you mean 'dockhand_manifest_p",
        ),
        (OtherMarker(), "dockhand_event is decorated with the hookimpl of 'tox'; use `from dockh"),
        (WrongArgument(), "dockhand_event: Argument(s) {'evnt'} are not known to the hook; did yo"),
        (WrongArgument(), "did you mean 'event'? (the hook's arguments: event)"),
        (TooManyArguments(), "dockhand_event: Argument(s) {'connection'}"),
        (
            DriversWithArgument(),
            "{'config'} are not known to the hook (the hook's arguments: n",
        ),
        (PositionalOnly(), "dockhand_event: 'event' must not be positional-only"),
        (Variadic(), "dockhand_event takes only *args"),
        (WithoutSelf(), "is a method without `self`; write def dockhand_event(self, event)"),
        (WithoutSelfOrArguments(), "is a method without `self`; write def dockhand_auth_drivers(s"),
        (Right, "dockhand_event is a method, but Right was registered itself: register an inst"),
        (Generates(), "dockhand_event has a `yield`, so that a call of it would do nothing"),
        (AsyncDrivers(), "dockhand_auth_drivers is `async def`; it has to be a plain function"),
        (Wrapper(), "dockhand_event is a hook wrapper, which Dockhand does not call"),
        (
            Returns(None),
            "must return a mapping of names to drivers, not None",
        ),
        (Returns(["vault"]), "must return a mapping of names to drivers, not a list"),
        (Returns({5: AuthDriver}), "the name of a driver is a string, not an int"),
        (Returns({None: AuthDriver}), "the name of a driver is a string, not None"),
        (Returns("vault"), "must return a mapping of names to drivers, not a str"),
        (
            Returns(AuthDriver),
            "a mapping of names to drivers, not the class AuthDriver",
        ),
    ],
)
def test_a_wrong_hook_function_is_named(plugin: Any, message: str) -> None:
    plugins = Plugins()
    with pytest.raises(PluginError) as caught:
        plugins.register(plugin, name="odd")
    assert str(caught.value).startswith("plugin 'odd': ")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert [info.name for info in plugins.failures] == ["odd"]
    plugins.register(Right())
    assert len(plugins.implementations("dockhand_event")) == 1


@pytest.mark.parametrize("source", ["", "def dockhand_event(event): ...\n"])
def test_a_wrong_module_is_heard(
    package: Install, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    package("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source})
    make_sync()
    assert "vault (dockhand-vault 1.2.3): cannot be loaded: " in capsys.readouterr().err


class Defaults:
    def __init__(self) -> None:
        self.events: list[Any] = []

    @hookimpl
    def dockhand_event(self, event: Any = None, extra: int = 5) -> None:
        self.events.append(event)

    @hookimpl
    def dockhand_manifest_pushed(self, *, event: Any) -> None:
        self.events.append(event)

    @hookimpl
    def dockhand_blob_pushed(self, **values: Any) -> None:
        self.events.append(values["event"])

    @hookimpl
    def dockhand_tag_deleted(self) -> None:
        self.events.append("no argument")

    def dockhand_version(self) -> str:
        """Not a hook, and not similar to one."""
        return "1"


def test_arguments_may_have_defaults_or_be_keywords() -> None:
    plugin, plugins = Defaults(), Plugins()
    plugins.register(plugin)
    names = ["event", "manifest_pushed", "blob_pushed", "tag_deleted"]
    for name in names:
        ((_, call),) = plugins.implementations(f"dockhand_{name}")
        call(event=name)
    assert plugin.events == [*names[:3], "no argument"]


class ForALaterVersion:
    @hookimpl(optionalhook=True)
    def dockhand_future(self, thing: Any) -> None: ...


def test_a_plugin_may_have_optional_hooks_only() -> None:
    plugins = Plugins()
    plugins.register(ForALaterVersion())
    assert plugins.failures == ()


def test_a_module_may_import_the_specifications() -> None:
    module = types.ModuleType("some.module")
    vars(module).update({name: getattr(hookspecs, name) for name in hookspecs.__all__})
    vars(module)["dockhand_event"] = hookimpl(lambda event: None)
    plugins = Plugins()
    plugins.register(module)
    assert plugins.failures == ()


# -- event parsers -----------------------------------------------------------------------------


class Parser:
    """A parser of the content type `text/x-harbor`, which returns or raises something."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def matches(self, headers: Mapping[str, str]) -> bool:
        return headers.get("content-type") == "text/x-harbor"

    def parse(self, headers: Mapping[str, str], body: bytes) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class ParserPlugin:
    def __init__(self, parsers: Any) -> None:
        self.parsers = parsers

    @hookimpl
    def dockhand_event_parsers(self) -> Any:
        if isinstance(self.parsers, Exception):
            raise self.parsers
        return self.parsers


class OnlyMatches:
    def matches(self, headers: Mapping[str, str]) -> bool:
        return True


class OnlyParse:
    def parse(self, headers: Mapping[str, str], body: bytes) -> list[Any]:
        return []


class AsyncParser:
    async def matches(self, headers: Mapping[str, str]) -> bool:
        return True

    async def parse(self, headers: Mapping[str, str], body: bytes) -> list[Any]:
        return []


def an_event() -> ev.TagDeleted:
    from datetime import UTC, datetime

    time = datetime.now(UTC)
    return ev.TagDeleted(id="1", timestamp=time, action="delete", repository="a/b", tag="v1")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (5, "failed: Parser.parse returned an int, not a list of events"),
        (an_event(), "failed: Parser.parse returned a TagDeleted, not a list of events"),
        ([5], "Parser.parse returned a list with an int"),
        ([ev.TagDeleted], "Parser.parse returned a list with the class TagDeleted"),
        (LookupError("no\nway"), "failed: LookupError: no way"),
    ],
)
def test_a_wrong_parser_names_its_mistake(answer: Any, message: str) -> None:
    plugins = Plugins()
    plugins.register(ParserPlugin([Parser(answer)]), name="harbor")
    with pytest.raises(PluginError) as caught:
        ev.EventParsers(plugins).parse({"content-type": "text/x-harbor"}, b"")
    assert isinstance(caught.value, EventInvalid)  # so that it becomes a dead letter
    assert str(caught.value).startswith("the event parser of plugin 'harbor' ")
    assert message in str(caught.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("parsers", "message"),
    [
        (None, "dockhand_event_parsers returned None; it has to return a list of event parsers"),
        (Parser([]), "returned a Parser; it has to return a list of event parsers"),
        ({"harbor": Parser([])}, "returned a dict; it has to return a list of event parsers"),
        ([Parser], "the class Parser; return an instance, Parser()"),
        ([OnlyMatches()], "an OnlyMatches, which has no method parse"),
        ([OnlyParse()], "an OnlyParse, which has no method matches"),
        ([AsyncParser()], "AsyncParser.matches is `async def`; it has to be a plain function"),
        (LookupError("no"), "LookupError: no"),
    ],
)
def test_wrong_parsers_are_left_out(
    parsers: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = Plugins()
    plugins.register(ParserPlugin(parsers), name="harbor")
    found = ev.EventParsers(plugins)
    assert "plugin 'harbor': dockhand_event_parsers failed; its parsers are left out" in caplog.text
    with pytest.raises(EventInvalid) as caught:
        found.parse({"content-type": "text/x-harbor"}, b"")
    assert "; parsers that were left out: harbor: " in str(caught.value)
    assert str(caught.value).endswith(message)
