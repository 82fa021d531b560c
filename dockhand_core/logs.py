"""Loggers: one structlog logger for each connection, without structlog's global configuration.

structlog is imported when a logger is made, and by the default driver `stdlib` only when the first
event is logged, so that the start stays fast. A plugin adds a log driver with the hook
`dockhand_log_drivers`.

Dockhand logs only values whose names are in the allow-list `ALLOWED`, so that no header and no
query can reach a log. Values that the application binds with `structlog.contextvars` are added
afterwards, without a check.
"""

from __future__ import annotations

import functools
import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, PrivateAttr

from dockhand_core.errors import ConfigError, ConnectionFailed, DockhandError
from dockhand_core.flow import Call
from dockhand_core.http.urls import is_relative, redacted_url
from dockhand_core.plugin_failures import reason_of, warn_once
from dockhand_core.text import printable

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from dockhand_core.http.secrets import Secrets

__all__ = ["ALLOWED", "BUILTIN", "FetchLog", "LogSettings", "RequestLog", "make_logger", "redact"]

Level = Literal["debug", "info", "warning", "error", "critical"]

# Names of the values that may be logged; `redact` replaces all other values.
ALLOWED = frozenset(
    {
        "attempt", "auth", "bytes", "connection", "driver", "error", "event", "host", "level",
        "logger", "method", "milliseconds", "path", "repository", "status", "timestamp", "wait",
    }
)  # fmt: skip


class LogSettings(BaseModel):
    """A connection's `logging` table. All other keys are settings of the log driver.

    Args:
        driver: name of the log driver: `console`, `json`, `stdlib`, `null`, or one of a plugin.
        level: the lowest level that is logged.

    Attributes:
        base: folder that relative paths start at: that of `dockhand.toml`, or the working folder.
    """

    model_config = ConfigDict(
        defer_build=True, extra="allow", frozen=True, hide_input_in_errors=True
    )

    driver: str = "stdlib"
    level: Level = "info"
    _base: Path | None = PrivateAttr(default=None)  # set by `with_base`

    @property
    def base(self) -> Path:
        """The folder that relative paths start at."""
        return self._base or Path.cwd()

    def with_base(self, base: Path) -> LogSettings:
        """Copy the settings, for a configuration in another folder."""
        copied = self.model_copy()
        copied._base = base
        return copied

    @property
    def options(self) -> dict[str, Any]:
        """The log driver's own settings."""
        return dict(self.model_extra or {})

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        # The values of the driver's settings are hidden: only the driver knows which are secrets.
        own = [("driver", self.driver), ("level", self.level)]
        return [*own, *((key, "…") for key in self.options)]


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace all values whose keys are not in `ALLOWED`. This is a structlog processor."""
    return {key: value if key in ALLOWED else "[redacted]" for key, value in event.items()}


def make_logger(
    settings: LogSettings,
    connection: str,
    processors: Iterable[Processor],
    *,
    logger: Any = None,
    first: Sequence[Processor] = (),
    known: Iterable[str] = (),
) -> Any:
    """Make the logger of a connection; all log drivers must use this function.

    Dockhand's values are redacted. The values that the application binds with
    `structlog.contextvars` are added after that, and are not redacted: the application must not
    bind secrets.

    Args:
        settings: the connection's `logging` table.
        connection: name of the connection, for error messages.
        processors: structlog processors that run after the redaction; the last one renders.
        logger: the object that receives the rendered event; by default standard error.
        first: structlog processors that run before the redaction.
        known: keys of the table that are the log driver's own settings.

    Raises:
        ConfigError: the table has an unknown key.
    """
    import structlog

    _check_options(settings, connection, known)
    return structlog.wrap_logger(
        logger if logger is not None else _Stderr(),
        processors=[
            *first,
            redact,
            structlog.contextvars.merge_contextvars,
            _escape_values,
            structlog.stdlib.add_log_level,
            *processors,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_number(settings.level)),
        cache_logger_on_first_use=True,
    )


def _check_options(settings: LogSettings, connection: str, known: Iterable[str] = ()) -> None:
    from dockhand_core.config.validation import did_you_mean  # here: config imports this module

    valid = [*LogSettings.model_fields, *known]
    unknown = next((key for key in sorted(settings.options) if key not in valid), None)
    if unknown is not None:
        raise ConfigError(
            f"connection {connection!r}: logging: unknown key {unknown!r}"
            f"{did_you_mean(unknown, valid)} "
            f"(known to log driver {settings.driver!r}: {', '.join(valid)})"
        )


def _escape_values(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape control characters of other machines, so that no terminal interprets them."""
    return {key: printable(v) if isinstance(v, str) else v for key, v in event.items()}


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _record(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Convert an event to the arguments of a standard library logger. A structlog processor.

    The message is readable text with all values. `extra` has the values for formatters.
    """
    event.pop("level", None)  # the standard library's log record has a level of its own
    message = event.pop("event", "")
    text = str(_renderer()(logger, method, dict(event)))
    return {"msg": f"{message} {text}".strip(), "extra": {"dockhand": dict(event)}}


@functools.cache
def _renderer() -> Processor:
    import structlog

    return structlog.processors.LogfmtRenderer(bool_as_flag=False)


class _Stderr:
    """A logger that writes lines to the current `sys.stderr`."""

    def msg(self, message: str) -> None:
        sys.stderr.write(message + "\n")

    debug = info = warning = error = critical = msg


class _LazyLogger:
    """A structlog logger that is made when the first event is logged that is not disabled.

    Most programs log no requests. This object spares them the import of structlog, and the work of
    its processors for each event.

    Args:
        make: makes the structlog logger.
        target: the logger of the standard library that receives the events.
        level: number of the lowest level that is logged.
        values: the values that are bound to the logger.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        target: logging.Logger,
        level: int,
        values: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._make, self._level, self._values = make, level, values
        self._logger = target  # the name that structlog's loggers use, see `wrapped_logger`

    def bind(self, **values: Any) -> _LazyLogger:
        """Return a logger with additional values."""
        return _LazyLogger(self._make, self._logger, self._level, {**self._values, **values})

    @functools.cached_property
    def _made(self) -> Any:
        return self._make().bind(**self._values)

    def is_enabled(self, level: int) -> bool:
        """Whether events of a level are logged."""
        return level >= self._level and self._logger.isEnabledFor(level)

    def debug(self, *args: Any, **values: Any) -> None:
        """Log an event of the level `debug`."""
        if self.is_enabled(logging.DEBUG):
            self._made.debug(*args, **values)

    def info(self, *args: Any, **values: Any) -> None:
        """Log an event of the level `info`."""
        if self.is_enabled(logging.INFO):
            self._made.info(*args, **values)

    def warning(self, *args: Any, **values: Any) -> None:
        """Log an event of the level `warning`."""
        if self.is_enabled(logging.WARNING):
            self._made.warning(*args, **values)

    def __getattr__(self, name: str) -> Any:
        """All other methods of structlog's loggers."""
        if name.startswith("__"):  # such as those that `copy` looks for
            raise AttributeError(name)
        return getattr(self._made, name)


def console(settings: LogSettings, connection: str) -> Any:
    """Make a logger that writes readable lines to standard error."""
    import structlog

    time = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
    lines = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    return make_logger(settings, connection, [time, lines])


def json(settings: LogSettings, connection: str) -> Any:
    """Make a logger that writes each event to standard error as a line of JSON."""
    import structlog

    time = structlog.processors.TimeStamper(fmt="iso", utc=True)
    return make_logger(settings, connection, [time, structlog.processors.JSONRenderer()])


def stdlib(settings: LogSettings, connection: str) -> Any:
    """Make a logger that passes events to the standard library's logger `dockhand.<connection>`.

    The values of an event are in the record's attribute `dockhand`, too. Nothing is written until
    the application configures logging.
    """
    root = logging.getLogger("dockhand")
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    _check_options(settings, connection)
    target = logging.getLogger(f"dockhand.{connection}")

    def make() -> Any:
        import structlog

        # drop disabled levels before rendering
        first = [structlog.stdlib.filter_by_level]
        return make_logger(settings, connection, [_record], logger=target, first=first)

    return _LazyLogger(make, target, _number(settings.level))


def null(settings: LogSettings, connection: str) -> Any:
    """Make a logger that discards every event."""
    import structlog

    silent = settings.model_copy(update={"level": "critical"})
    return make_logger(silent, connection, [], logger=structlog.ReturnLogger())


BUILTIN = {"console": console, "json": json, "null": null, "stdlib": stdlib}


class RequestLog:
    """Logs one line for a request, when its reply was read or closed, or when the request failed.

    The line's field `bytes` is the size of the request's body plus the bytes received.

    Args:
        log: a structlog logger.
        call: the request.
        url: the URL of the request.
        attempt: the number of times that the request was sent, including this time.
        secrets: the connection's secrets, which are removed from the values.
    """

    def __init__(self, log: Any, call: Call, url: str, attempt: int, secrets: Secrets) -> None:
        self._log, self._attempt, self._call, self._secrets = log, attempt, call, secrets
        self._url = url
        self._start = time.perf_counter()
        self._logged = False

    def _fields(self) -> dict[str, Any]:
        path = redacted_url(urlsplit(self._url).path)
        if not is_relative(self._call.path):  # the registry chose the URL, which may quote secrets
            path = self._secrets.text(path)
        return {
            "method": self._call.method,
            "path": path,
            "milliseconds": round((time.perf_counter() - self._start) * 1000, 1),
            "attempt": self._attempt,
        }

    def done(self, status: int, count: int, error: BaseException | None) -> None:
        """Log a request whose reply was read, or closed before its end."""
        if isinstance(error, ConnectionFailed):
            return  # `failed` logs it
        self._logged = True
        body = self._call.body
        total = count + (body.size if body is not None else 0)
        self._write("info", "request", lambda: {"status": status, "bytes": total})

    def failed(self, error: DockhandError, wait: float | None) -> None:
        """Log a request without a complete and valid reply, unless `done` has logged it."""
        if self._logged:
            return
        again = {} if wait is None else {"wait": round(wait, 2)}
        self._write(
            "warning",
            "request failed",
            lambda: {"error": self._secrets.text(str(error)), **again},
        )

    def _write(self, level: str, event: str, values: Callable[[], dict[str, Any]]) -> None:
        _write(self._log, self._secrets, level, event, lambda: {**values(), **self._fields()})


class FetchLog:
    """Logs a line of the level `debug` for each request of an auth driver's own.

    Args:
        log: a structlog logger, or None to log nothing.
        auth: name of the auth driver.
        method: HTTP method of the request.
        url: URL of the request.
        secrets: the connection's secrets, which are removed from the values.
    """

    def __init__(self, log: Any, auth: str, method: str, url: str, secrets: Secrets) -> None:
        self._log, self._auth, self._secrets = log, auth, secrets
        self._method, self._url = method, url
        self._start = time.perf_counter()

    def done(self, status: int) -> None:
        """Log a request that was answered."""
        self._write("auth request", lambda: {"status": status})

    def failed(self, error: DockhandError) -> None:
        """Log a request without a complete and valid reply."""
        self._write("auth request failed", lambda: {"error": self._secrets.text(str(error))})

    def _write(self, event: str, values: Callable[[], dict[str, Any]]) -> None:
        milliseconds = round((time.perf_counter() - self._start) * 1000, 1)

        def fields() -> dict[str, Any]:
            url = urlsplit(redacted_url(self._url))
            place = {"host": url.netloc, "path": self._secrets.text(url.path)}
            own = {"auth": self._auth, "method": self._method, **place}
            return {**values(), **own, "milliseconds": milliseconds}

        if hasattr(self._log, "debug"):  # a plugin's logger needs `info` and `warning` only
            _write(self._log, self._secrets, "debug", event, fields)


def _write(
    log: Any, secrets: Secrets, level: str, event: str, values: Callable[[], dict[str, Any]]
) -> None:
    """Log an event. A plugin's logger that fails must not fail the request."""
    try:
        if isinstance(log, _LazyLogger) and not log.is_enabled(_number(level)):
            return  # before the values are made
        getattr(log, level)(event, **values())
    except Exception as error:
        reason = secrets.text(reason_of(error))
        warn_once(f"log driver: {type(log).__qualname__}: {reason}; log lines of requests are lost")
