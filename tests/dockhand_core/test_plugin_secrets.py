"""Exceptions of a plugin's hooks have no secrets of the plugin's settings."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from dockhand_core import Dockhand, EventInvalid, PluginSettings, hookimpl
from dockhand_core.events import EventParsers, event_handlers

pytestmark = pytest.mark.usefixtures("clean")

URL = "https://hooks.example.com/T000/B000/xyzzy"
TABLE = {"channel": "#releases", "token": "hunter2!", "webhook": URL, "pin": "correct-horse"}


class Settings(BaseModel):
    channel: str
    token: str
    webhook: str
    pin: SecretStr


class Notifier:
    """A handler that fails, with all of its settings in the exception."""

    def fail(self) -> None:
        error = ValueError(f"hunter2! was refused at {URL} in #releases", b"kept", 3)
        error.__cause__ = PermissionError(13, "not with hunter2!", "/run/correct-horse")
        error.__cause__.__cause__ = OSError("no hunter2!")
        error.add_note("the pin is correct-horse")
        error.request = {"hunter2!": 1}  # type: ignore[attr-defined]
        error.url = URL  # type: ignore[attr-defined]
        raise RuntimeError("hunter2! is wrong") from error

    @hookimpl
    def dockhand_configure(self, settings: PluginSettings) -> None:
        self.settings = settings.parse(Settings)

    @hookimpl
    def dockhand_event(self, event: Any) -> None:
        self.fail()

    @hookimpl
    async def dockhand_manifest_pushed(self, event: Any) -> None:
        await asyncio.sleep(0)
        self.fail()


@pytest.mark.parametrize("hook", ["dockhand_event", "dockhand_manifest_pushed"])
def test_exceptions_of_handlers_have_no_secrets(hook: str) -> None:
    with Dockhand({"plugins": {"notifier": TABLE}}) as dockhand:
        dockhand.plugins.register(Notifier(), name="notifier")
        handler = event_handlers(dockhand.plugins)[f"notifier/{hook}"]
        assert handler.is_async == (hook == "dockhand_manifest_pushed")
        with pytest.raises(RuntimeError, match=r"^\.\.\. is wrong$") as caught:
            if handler.is_async:
                asyncio.run(handler.call(event=None))
            handler.call(event=None)
    text = "".join(traceback.format_exception(caught.value))
    assert "... was refused at ... in #releases" in text
    assert "the pin is ..." in text
    cause = caught.value.__cause__
    assert cause is not None
    assert str(cause.__cause__) == "[Errno 13] not with ...: '/run/...'"
    assert text.startswith("OSError: no ...\n")
    assert cause.args[1:] == (b"kept", 3)
    assert cause.url == "..."  # type: ignore[attr-defined]


def test_exceptions_in_a_group_have_no_secrets() -> None:
    """Those of a handler that runs tasks, for example."""
    with Dockhand({"plugins": {"notifier": TABLE}}) as dockhand:
        dockhand.plugins.register(Notifier(), name="notifier")
        group = ExceptionGroup("tasks", [ValueError("hunter2! was refused"), OSError(URL)])
        dockhand.plugins.clean("notifier", group)
    assert [str(each) for each in group.exceptions] == ["... was refused", "..."]


class Parsing:
    """A plugin whose parser quotes its settings."""

    def __init__(self, method: str, kind: type[Exception]) -> None:
        self.method, self.kind = method, kind

    @hookimpl
    def dockhand_configure(self, settings: PluginSettings) -> None:
        pass

    @hookimpl
    def dockhand_event_parsers(self) -> list[Any]:
        return [self]

    def matches(self, headers: Any) -> bool:
        if self.method == "matches":
            raise self.kind("hunter2! does not match")
        return True

    def parse(self, headers: Any, body: bytes) -> Any:
        raise self.kind("hunter2! is unreadable")


@pytest.mark.parametrize(
    ("method", "kind"), [("matches", OSError), ("parse", OSError), ("parse", EventInvalid)]
)
def test_exceptions_of_parsers_have_no_secrets(
    method: str, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with Dockhand({"plugins": {"parsing": TABLE}}) as dockhand:
        dockhand.plugins.register(Parsing(method, kind), name="parsing")
        with pytest.raises(EventInvalid) as caught:
            EventParsers(dockhand.plugins).parse({}, b"")
    expected = {"matches": "... does not match", "parse": "... is unreadable"}[method]
    text = "".join(each.exc_text or "" for each in caplog.records) + str(caught.value)
    assert expected in text
    assert "Error: hunter2!" not in text


def test_a_handler_without_settings_is_called_as_it_is() -> None:
    class Plain:
        @hookimpl
        def dockhand_event(self, event: Any) -> None:
            raise RuntimeError("hunter2!")

    with Dockhand({}) as dockhand:
        dockhand.plugins.register(Plain(), name="plain")
        handler = event_handlers(dockhand.plugins)["plain/dockhand_event"]
        with pytest.raises(RuntimeError, match="hunter2!"):
            handler.call(event=None)
