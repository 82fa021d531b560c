"""Log lines: one for each request with documented fields, from the connection's own logger."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from dockhand_core import (
    AsyncDockhand,
    ConfigError,
    ConnectionFailed,
    Dockhand,
    DockhandError,
    ManifestUnknown,
    connect,
)
from dockhand_core.logs import ALLOWED, BUILTIN, LogSettings, make_logger, redact

pytestmark = pytest.mark.usefixtures("clean")

Serve = Callable[[Callable[..., Any]], str]
SECRET = "hunter2-s3cret"
FIELDS = {"connection", "driver", "method", "path", "status", "bytes", "milliseconds", "attempt"}
DIGEST = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # for b"x"


@pytest.fixture
def registry(serve: Serve) -> str:
    def answer(method: str, path: str, headers: Any, body: bytes) -> Any:
        if "/manifests/" in path:
            return 404, {}, b"missing"
        if "/blobs/" in path:
            return 200, {}, b"x"
        return 200, {}, b'{"name": "a", "tags": []}'

    return serve(answer)


@pytest.fixture(autouse=True)
def global_structlog_unchanged() -> Iterator[None]:
    """Check that a test leaves structlog's configuration unchanged, then clear its context."""
    before = structlog.get_config()
    assert not structlog.is_configured()
    yield
    assert not structlog.is_configured()
    assert structlog.get_config() == before
    structlog.contextvars.clear_contextvars()


def parse_lines(text: str) -> list[dict[str, Any]]:
    """Parse the JSON object on each line."""
    return [json.loads(line) for line in text.splitlines()]


def config(registry: str, **logging: Any) -> dict[str, Any]:
    return {
        "default": "main",
        "connections": {
            "main": {
                "base_uri": registry,
                "retries": 0,
                "headers": {"X-Secret": SECRET},
                "auth": {"driver": "basic", "username": "alice", "password": SECRET},
                "logging": {"driver": "json", **logging},
            }
        },
    }


def test_each_request_logs_one_line(registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Dockhand(config(registry)) as dockhand:
        client = dockhand.connection()
        client.ping()
        client.read_blob("library/a", DIGEST)
        with pytest.raises(ManifestUnknown):
            client.manifest("library/a", "1.0")
    captured = capsys.readouterr()
    assert captured.out == ""
    ping, blob, manifest = parse_lines(captured.err)
    for line in (ping, blob, manifest):
        assert set(line) == FIELDS | {"event", "level", "timestamp"}
        assert (line["event"], line["level"], line["attempt"]) == ("request", "info", 1)
        assert (line["connection"], line["driver"]) == ("main", "distribution")
        assert 0 < line["milliseconds"] < 10_000
        assert line["timestamp"].endswith("Z")
    assert (ping["method"], ping["path"], ping["status"]) == ("GET", "/v2/", 200)
    assert (blob["method"], blob["path"]) == ("GET", f"/v2/library/a/blobs/{DIGEST}")
    assert blob["bytes"] == 1
    assert (manifest["status"], manifest["bytes"]) == (404, 7)


def test_the_async_client_logs_the_same_line(
    registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with AsyncDockhand(config(registry)) as dockhand:
            await dockhand.connection().ping()

    asyncio.run(main())
    (line,) = parse_lines(capsys.readouterr().err)
    assert set(line) >= FIELDS
    assert (line["path"], line["status"]) == ("/v2/", 200)


def test_retries_and_failures_are_logged(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    statuses = iter([503, 200])
    url = serve(lambda *_: (next(statuses), {"Retry-After": "0"}, b"{}"))
    settings = config(url)
    settings["connections"]["main"]["retries"] = 1
    with Dockhand(settings) as dockhand:
        dockhand.connection().ping()
    first, second = parse_lines(capsys.readouterr().err)
    assert [(line["attempt"], line["status"]) for line in (first, second)] == [(1, 503), (2, 200)]
    with Dockhand(config("http://127.0.0.1:1")) as dockhand, pytest.raises(ConnectionFailed):
        dockhand.connection().ping()
    (failed,) = parse_lines(capsys.readouterr().err)
    assert (failed["event"], failed["level"]) == ("request failed", "warning")
    assert "127.0.0.1:1" in failed["error"]
    assert FIELDS - {"status", "bytes"} <= set(failed)


def test_lines_have_no_secrets_and_no_query(
    registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for driver in ("json", "console"):
        with Dockhand(config(registry, driver=driver, level="debug")) as dockhand:
            client = dockhand.connection()
            list(client.tags("a"))
            client.tag_page("a", after="x")
            with pytest.raises(DockhandError):
                client.manifest("a", "b")
        text = capsys.readouterr().err
        assert text.count("\n") == 3
        assert SECRET not in text
        assert "alice" not in text
        assert "last=" not in text  # the query is not logged at all


def test_fields_not_on_the_allow_list_are_redacted() -> None:
    event = {"event": "x", "path": "/v2/", "authorization": SECRET, "password": SECRET, "n": 5}
    assert redact(None, "info", event) == {
        "event": "x",
        "path": "/v2/",
        "authorization": "[redacted]",
        "password": "[redacted]",
        "n": "[redacted]",
    }
    assert FIELDS <= ALLOWED
    assert not {"headers", "query", "url", "authorization", "token", "body"} & ALLOWED


@pytest.mark.parametrize("driver", ["json", "console", "stdlib"])
def test_every_builtin_driver_redacts(
    driver: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        BUILTIN[driver](LogSettings(driver=driver), "main").info("hello", token=SECRET, path="/v2")
    output = capsys.readouterr().err + caplog.text + str([vars(r) for r in caplog.records])
    assert "hello" in output
    assert "/v2" in output
    assert "[redacted]" in output
    assert SECRET not in output


def test_lines_have_the_bound_contextvars(
    registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.contextvars.bind_contextvars(job="nightly", path="mine")
    with Dockhand(config(registry)) as dockhand:
        dockhand.connection().ping()
    (line,) = parse_lines(capsys.readouterr().err)
    assert line["job"] == "nightly"
    assert line["path"] == "/v2/"  # the bound `path` does not replace the line's own


def test_lines_have_the_contextvars_of_their_task(
    registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask(dockhand: AsyncDockhand, job: int) -> None:
        structlog.contextvars.bind_contextvars(job=job)
        await dockhand.connection().tag_page(f"repository{job}")

    async def main() -> None:
        async with AsyncDockhand(config(registry)) as dockhand:
            await asyncio.gather(*(ask(dockhand, job) for job in range(5)))

    asyncio.run(main())
    found = parse_lines(capsys.readouterr().err)
    assert len(found) == 5
    for line in found:
        assert line["path"].startswith(f"/v2/repository{line['job']}/")


class TestDrivers:
    def test_console(self, registry: str, capsys: pytest.CaptureFixture[str]) -> None:
        with Dockhand(config(registry, driver="console")) as dockhand:
            dockhand.connection().ping()
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert "\x1b" not in captured.err  # no colours, since stderr is not a terminal
        for part in ("info", "request", "connection=main", "status=200", "path=/v2/"):
            assert part in captured.err

    def test_null(self, registry: str, capsys: pytest.CaptureFixture[str], caplog: Any) -> None:
        with caplog.at_level("DEBUG"), Dockhand(config(registry, driver="null")) as dockhand:
            dockhand.connection().ping()
        assert capsys.readouterr() == ("", "")
        assert [r for r in caplog.records if r.name.startswith("dockhand")] == []

    def test_stdlib(self, registry: str, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO"), Dockhand(config(registry, driver="stdlib")) as dockhand:
            dockhand.connection().ping()
        (record,) = [r for r in caplog.records if r.name.startswith("dockhand")]
        assert (record.name, record.levelno) == ("dockhand.main", logging.INFO)
        message = record.getMessage()
        assert message.startswith("request ")
        assert "status=200" in message
        values = vars(record)["dockhand"]
        assert set(values) >= FIELDS
        assert values["path"] == "/v2/"

    def test_the_default_driver_prints_nothing(
        self, registry: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with connect(registry) as client:
            client.ping()
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize("driver", BUILTIN)
    def test_unknown_keys_are_refused(self, driver: str, registry: str) -> None:
        with pytest.raises(DockhandError, match=r"logging: unknown key 'file' \(known to"):
            connect(registry, logging={"driver": driver, "file": "x"})


def test_each_connection_has_its_own_level(
    registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = {"loud": "debug", "usual": "info", "quiet": "warning", "silent": "critical"}
    tables = {
        name: {"base_uri": registry, "retries": 0, "logging": {"driver": "json", "level": level}}
        for name, level in levels.items()
    }
    dead = {
        f"{name}-dead": {**table, "base_uri": "http://127.0.0.1:1"}
        for name, table in tables.items()
    }
    with Dockhand({"connections": {**tables, **dead}}) as dockhand:
        for name in tables:
            dockhand.connection(name).ping()
        for name in dead:
            dockhand.connection(name).is_online()
    connections = [line["connection"] for line in parse_lines(capsys.readouterr().err)]
    assert connections == ["loud", "usual", "loud-dead", "usual-dead", "quiet-dead"]


def test_global_configuration_is_neither_used_nor_changed(
    registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    captured: list[Any] = []

    def keep(_: Any, __: str, event: Any) -> Any:
        captured.append(event)
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    try:
        with Dockhand(config(registry)) as dockhand:
            dockhand.connection().ping()
        assert structlog.get_config()["processors"] == [keep]
    finally:
        structlog.reset_defaults()
    assert captured == []
    assert len(parse_lines(capsys.readouterr().err)) == 1


class Lines:
    """A logger that keeps the rendered events."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, line: str) -> None:
        self.lines.append(line)

    warning = info


def test_a_log_driver_made_with_make_logger_redacts_and_filters() -> None:
    kept = Lines()
    settings = LogSettings(level="warning", colour="red")
    log = make_logger(
        settings,
        "main",
        [structlog.processors.LogfmtRenderer(sort_keys=True)],
        logger=kept,
        known=["colour"],
    )
    log.info("request", status=200)
    log.warning("request", status=500, password=SECRET)
    assert kept.lines == ["event=request level=warning password=[redacted] status=500"]


def test_make_logger_refuses_unknown_keys() -> None:
    settings = LogSettings(driver="mine", colr="red")
    with pytest.raises(ConfigError, match="connection 'main': logging: unknown key 'colr'"):
        make_logger(settings, "main", [], known=["colour"])


def test_make_logger_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    make_logger(LogSettings(), "main", [structlog.processors.JSONRenderer()]).info("hello")
    assert json.loads(capsys.readouterr().err) == {"event": "hello", "level": "info"}
