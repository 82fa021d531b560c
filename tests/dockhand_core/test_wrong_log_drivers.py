"""Wrong log drivers: a `PluginError` names the function and the broken rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from wrong_drivers import Drivers, refused, use

pytestmark = [
    pytest.mark.usefixtures("clean"),
    pytest.mark.filterwarnings("error"),  # such as a coroutine that was never awaited
    pytest.mark.parametrize("world", ["sync", "async"]),
]

Serve = Callable[[Callable[..., Any]], str]


class WithoutMethods:
    def bind(self, **values: Any) -> object:
        return object()


class BindsNothing:
    def bind(self, **values: Any) -> None: ...


async def async_logger(settings: Any, connection: str) -> None: ...


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda *_: None, "it returned None, which has no method bind"),
        (lambda *_: object(), "it returned an object, which has no method bind"),
        (lambda *_: WithoutMethods(), "whose bind() gives an object, without info"),
        (lambda *_: BindsNothing(), "whose bind() gives None, without info"),
        (async_logger, "it returned a coroutine (`async def`), which has no method bind"),
        (lambda settings: None, "has to accept the settings and the connection's name"),
        (lambda *_: 1 / 0, "log driver 'wrong': ZeroDivisionError"),
    ],
)
def test_a_wrong_log_driver_names_its_mistake(
    url: str, world: str, make: Any, message: str
) -> None:
    text = refused(world, Drivers(log=make), base_uri=url)
    assert text.startswith("connection 'main': log driver 'wrong': ")
    assert message in text


class FailingLogger:
    calls: ClassVar[int] = 0

    def __init__(self, world: str) -> None:
        self._world = world

    def bind(self, **values: Any) -> FailingLogger:
        return self

    def info(self, *_: Any, **values: Any) -> None:
        FailingLogger.calls += 1
        raise OSError(f"the {self._world} disk is full")

    warning = info


def test_a_logger_that_fails_does_not_fail_the_request(
    url: str, world: str, capsys: pytest.CaptureFixture[str]
) -> None:
    FailingLogger.calls = 0
    use(world, Drivers(log=lambda *_: FailingLogger(world)), base_uri=url)
    assert FailingLogger.calls == 1
    assert f"FailingLogger: OSError: the {world} disk is full" in capsys.readouterr().err
