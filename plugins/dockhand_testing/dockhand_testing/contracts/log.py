"""The contract of log drivers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from dockhand_core import ConfigError, Plugins
from dockhand_core.logs import LogSettings
from dockhand_testing.contracts.plugin_contract import OpenClient, PluginContract, finish
from dockhand_testing.rules import rule
from dockhand_testing.scripted_registry import ScriptedRegistry

__all__ = ["LogDriverContract"]

MakeLogger = Callable[..., Any]
Written = Callable[[], str]

_SECRETS = ("s3cret-token-1", "s3cret-token-2")


class LogDriverContract(PluginContract):
    """The contract of log drivers: subclass it in the tests of a driver::

        class TestSyslog(LogDriverContract):
            driver = "syslog"
            settings = {"facility": "local0"}

            def written(self) -> str:
                return "\\n".join(sent_messages)

    Attributes:
        driver: name of the driver.
        settings: the connection's `logging` table without `driver` and `level`.
        plugin: the plugin under test, if its package is not installed; see `PluginContract`.
        silent: whether the driver discards all events, as `null` does.
    """

    silent: ClassVar[bool] = False

    def written(self) -> str | None:
        """The text that the driver has written during the test.

        Returns:
            the text, or None if it is what arrived at standard output, at standard error and at the
            loggers of the standard library.
        """
        return None

    @pytest.fixture
    def output(
        self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> Written:
        """Provide a function that returns the text written so far."""
        caplog.set_level(logging.DEBUG)
        streams: list[str] = []

        def text() -> str:
            found = self.written()
            if found is not None:
                return found
            streams.extend(capfd.readouterr())
            return caplog.text + "".join(streams)

        return text

    @pytest.fixture
    def make_logger(self, plugins: Plugins, own_settings: dict[str, Any]) -> MakeLogger:
        """Provide a function that makes the logger of a connection, as the core does."""

        def make(**table: Any) -> Any:
            settings = LogSettings(driver=self.driver, **{**own_settings, **table})
            return plugins.driver("log", self.driver)(settings, "main").bind(connection="main")

        return make

    @rule(
        "An event is written with its values, once.",
        why="a log with missing or repeated requests misleads",
        where="dockhand_log_drivers",
    )
    def test_events_are_written(self, make_logger: MakeLogger, output: Written) -> None:
        make_logger().info("request", method="GET", path="/v2/library/marker/tags/list", status=200)
        text = output()
        assert text.count("library/marker") == (0 if self.silent else 1), text
        if not self.silent:
            assert "GET" in text
            assert "200" in text

    @rule(
        "Values whose names are not in dockhand_core.logs.ALLOWED are redacted.",
        why="a header or a query may hold a secret",
        where="dockhand_core.logs: make_logger redacts",
    )
    def test_values_are_redacted(self, make_logger: MakeLogger, output: Written) -> None:
        log = make_logger()
        log.warning("request failed", authorization=f"Bearer {_SECRETS[0]}", error="refused")
        log.bind(token=_SECRETS[1]).info("request", path="/v2/")
        text = output()
        assert not any(secret in text for secret in _SECRETS), text
        assert self.silent or "refused" in text

    @rule(
        "Events below the connection's level are not written, and those of the level are.",
        why="users choose the level for each connection",
        where="LogSettings.level; dockhand_core.logs: make_logger filters",
    )
    @pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
    def test_levels(self, level: str, make_logger: MakeLogger, output: Written) -> None:
        log = make_logger(level=level)
        names = ["debug", "info", "warning", "error"]
        for name in names:
            getattr(log, name)("request", path=f"/v2/level-{name}")
        text = output()
        seen = [name for name in names if f"level-{name}" in text]
        assert seen == ([] if self.silent else names[names.index(level) :])

    @rule(
        "Unknown keys of the `logging` table are errors, which name the key.",
        why="a misspelt setting would be ignored",
        where="dockhand_core.logs: make_logger(…, known=…)",
    )
    def test_unknown_settings_are_refused(self, make_logger: MakeLogger, output: Written) -> None:
        with pytest.raises(ConfigError, match="no_such_setting"):
            make_logger(no_such_setting="x").info("request")
        assert "no_such_setting" not in output()

    @rule(
        "Control characters and line breaks in values are escaped.",
        why="a registry could forge lines, or run a terminal's commands",
        where="dockhand_core.logs: make_logger escapes",
    )
    def test_control_characters_are_escaped(self, make_logger: MakeLogger, output: Written) -> None:
        make_logger().warning("request failed", error="one\x1b[2J\nforged line")
        text = output()
        assert "\x1b[2J" not in text
        assert not any(line.startswith("forged") for line in text.splitlines())

    @rule(
        "bind() adds values to a new logger, and leaves the old one as it was.",
        why="the core binds the connection's name, and each repository's",
        where="dockhand_log_drivers: a structlog logger",
    )
    def test_bound_values(self, make_logger: MakeLogger, output: Written) -> None:
        log = make_logger()
        log.bind(repository="library/bound").info("request", path="/v2/first")
        log.info("request", path="/v2/second")
        text = output()
        assert text.count("library/bound") == (0 if self.silent else 1), text

    @rule(
        "Values that the application binds with structlog.contextvars are written.",
        why="a request's number leads from one log to another",
        where="dockhand_core.logs: make_logger merges them",
    )
    def test_context_values(self, make_logger: MakeLogger, output: Written) -> None:
        import structlog

        with structlog.contextvars.bound_contextvars(order="order-4711"):
            make_logger().info("request", path="/v2/")
        assert ("order-4711" in output()) is not self.silent

    @rule(
        "A logger can be used in several threads.",
        why="programs share a connection",
        where="dockhand_log_drivers",
    )
    def test_threads(self, make_logger: MakeLogger, output: Written) -> None:
        log = make_logger()
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: log.info("request", path=f"/v2/n{n}/"), range(200)))
        text = output()
        missing = [number for number in range(200) if f"/v2/n{number}/" not in text]
        assert missing == ([] if not self.silent else list(range(200)))

    @rule(
        "If the object that the logger writes to has a method close, it raises no exception.",
        why="an exception leaves the program's `with` block, in place of its own result",
        where="dockhand_log_drivers: close is called when the connection is closed",
    )
    def test_close(self, make_logger: MakeLogger) -> None:
        log = make_logger()
        log.info("request", path="/v2/")
        target: Any = getattr(log, "_logger", log)  # structlog's loggers name it so
        if callable(getattr(type(target), "close", None)):
            finish(target.close(), flow=False)

    @rule(
        "A connection with the driver logs its requests, in sync and async clients.",
        why="this is what the driver is for",
        where="dockhand_log_drivers",
    )
    def test_connection_logs_requests(
        self,
        mode: str,
        open_client: OpenClient,
        own_settings: dict[str, Any],
        scripted_registry: ScriptedRegistry,
        output: Written,
    ) -> None:
        logging_table = {"driver": self.driver, "level": "info", **own_settings}
        client = open_client(mode, base_uri=scripted_registry.url, logging=logging_table)
        client.ping()
        client.close()
        text = output()
        assert ("/v2/" in text) is not self.silent, text
