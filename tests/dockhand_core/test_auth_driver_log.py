"""The log has a line of the level `debug` for each request that an auth driver fetches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from typing import Any

import pytest
from wrong_drivers import Drivers, use

from dockhand_core import AuthDriver, ConnectionFailed

pytestmark = [
    pytest.mark.usefixtures("clean"),
    pytest.mark.parametrize("world", ["sync", "async"]),
]

Steps = Generator[Any, Any, Any]


class Vault(AuthDriver):
    """A driver with requests for a token, which is in a query, too, and for its end."""

    class Settings(AuthDriver.Settings):
        url: str

    def auth_flow(self, request: Any) -> Steps:
        url = f"{self.settings.url}/token?service=r&key=hunter2"
        reply = yield from self.fetch("POST", url, json={"password": "hunter2"})
        request.headers["Authorization"] = f"Bearer {reply.json()['token']}"
        yield request

    def close(self) -> Steps:
        yield from self.fetch("DELETE", f"{self.settings.url}/token/correct-horse")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [getattr(each, "dockhand", None) for each in caplog.records]
    return [{"event": r.getMessage().split(" auth=")[0], **f}
            for r, f in zip(caplog.records, found, strict=True) if f and "auth" in f]  # fmt: skip


def vault(method: str, path: str, *_: Any) -> Any:
    return 200, {}, b'{"token": "correct-horse"}'


def connect(url: str, world: str, level: str = "debug") -> None:
    table: dict[str, Any] = {"logging": {"level": level}}
    table["auth"] = {"driver": "wrong", "url": url}
    use(world, Drivers(auth=Vault), base_uri=url, **table)


def test_each_request_of_the_driver_is_a_line(
    world: str, serve: Callable[[Callable[..., Any]], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dockhand.main")
    url = serve(vault)
    connect(url, world)
    token, end = lines(caplog)
    assert token.pop("milliseconds") >= 0
    assert token.pop("event").startswith("auth request ")
    assert token == {
        "connection": "main",
        "driver": "distribution",
        "auth": "wrong",
        "method": "POST",
        "host": url.removeprefix("http://"),
        "path": "/token",
        "status": 200,
    }
    assert (end["method"], end["path"]) == ("DELETE", "/token/...")
    assert "hunter2" not in caplog.text
    assert "correct-horse" not in caplog.text


def test_a_failed_request_of_the_driver_is_a_line(
    world: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dockhand.main")
    with pytest.raises(ConnectionFailed) as caught:  # not the error of `close`, which is a note
        connect("http://127.0.0.1:1", world)
    assert caught.value.__notes__[0].startswith(
        "afterwards, closing failed: Vault.close: ConnectionFailed: DELETE http://127.0.0.1:1/token"
    )
    first = lines(caplog)[0]
    assert first["event"].startswith("auth request failed")
    assert first["error"].startswith("POST http://127.0.0.1:1/token?service=r&key=…: ")
    assert "hunter2" not in caplog.text + str(caught.value)


def test_the_level_info_has_no_such_line(
    world: str, serve: Callable[[Callable[..., Any]], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dockhand.main")
    connect(serve(vault), world, level="info")
    assert lines(caplog) == []
    assert "GET" in caplog.text


def test_a_logger_needs_no_method_debug(
    world: str, serve: Callable[[Callable[..., Any]], str]
) -> None:
    written: list[str] = []

    class Logger:
        def bind(self, **_: Any) -> Logger:
            return self

        def info(self, event: str, **_: Any) -> None:
            written.append(event)

        warning = info

    url = serve(vault)
    drivers = Drivers(auth=Vault, log=lambda *_: Logger())
    logging = {"driver": "wrong", "level": "debug"}
    use(world, drivers, base_uri=url, auth={"driver": "wrong", "url": url}, logging=logging)
    assert written == ["request"]
