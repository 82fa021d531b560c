"""Loggers: one structlog logger for each connection, without structlog's global configuration.

structlog is imported when the first logger is made, so that importing Dockhand stays fast. A plugin
adds a log driver with the hook `dockhand_log_drivers`. The values that Dockhand logs of a request
pass an allow-list, so that no header or query can reach a log; values that the caller bound with
`structlog.contextvars` are added unchanged.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from dockhand_core.config.validation import did_you_mean
from dockhand_core.errors import ConfigError

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["ALLOWED", "BUILTIN", "LogSettings", "make_logger", "redact"]

Level = Literal["debug", "info", "warning", "error", "critical"]

ALLOWED = frozenset(
    {
        "attempt", "bytes", "connection", "driver", "error", "event", "level", "logger", "method",
        "milliseconds", "path", "repository", "status", "timestamp", "wait",
    }
)  # fmt: skip


class LogSettings(BaseModel):
    """A connection's `logging` table. Keys beyond these two are the log driver's own.

    Args:
        driver: `console`, `json`, `stdlib`, `null`, or a plugin's.
        level: the lowest level that is logged.
    """

    model_config = ConfigDict(
        defer_build=True, extra="allow", frozen=True, hide_input_in_errors=True
    )

    driver: str = "stdlib"
    level: Level = "info"

    @property
    def options(self) -> dict[str, Any]:
        """The log driver's own keys."""
        return dict(self.model_extra or {})

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        # the driver's keys may hold secrets that only the driver knows to be such
        own = [("driver", self.driver), ("level", self.level)]
        return [*own, *((key, "…") for key in self.options)]


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor that replaces values whose keys are not in the allow-list."""
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
    """Make the logger of a connection; every log driver does so with this function.

    Values are redacted first, then the caller's `structlog.contextvars` are added: those are the
    caller's responsibility.

    Args:
        settings: the connection's `logging` table.
        connection: the connection's name, for error messages.
        processors: structlog processors that follow redaction; the last one renders.
        logger: the object that receives the rendered event; standard error unless given.
        first: structlog processors that run before redaction.
        known: keys of the table that are the log driver's own.

    Raises:
        ConfigError: the table has an unknown key.
    """
    import structlog

    valid = [*LogSettings.model_fields, *known]
    unknown = next((key for key in sorted(settings.options) if key not in valid), None)
    if unknown is not None:
        raise ConfigError(
            f"connection {connection!r}: logging: unknown key {unknown!r}"
            f"{did_you_mean(unknown, valid)} "
            f"(known to log driver {settings.driver!r}: {', '.join(valid)})"
        )
    return structlog.wrap_logger(
        logger if logger is not None else _Stderr(),
        processors=[
            *first,
            redact,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            *processors,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_number(settings.level)),
        cache_logger_on_first_use=True,
    )


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _record(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A structlog processor: a readable message, and the values separately for formatters."""
    event.pop("level", None)  # the record has it
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


def console(settings: LogSettings, connection: str) -> Any:
    """Log readable lines to standard error."""
    import structlog

    time = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
    lines = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    return make_logger(settings, connection, [time, lines])


def json(settings: LogSettings, connection: str) -> Any:
    """Log a JSON object a line to standard error."""
    import structlog

    time = structlog.processors.TimeStamper(fmt="iso", utc=True)
    return make_logger(settings, connection, [time, structlog.processors.JSONRenderer()])


def stdlib(settings: LogSettings, connection: str) -> Any:
    """Log to the standard library's logger `dockhand.<connection>`, with the values in `extra`.

    As with any library, nothing is written until the application configures logging.
    """
    import structlog

    root = logging.getLogger("dockhand")
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    return make_logger(
        settings,
        connection,
        [_record],
        logger=logging.getLogger(f"dockhand.{connection}"),
        first=[structlog.stdlib.filter_by_level],  # an event without a handler costs little
    )


def null(settings: LogSettings, connection: str) -> Any:
    """Discard every event."""
    import structlog

    silent = settings.model_copy(update={"level": "critical"})
    return make_logger(silent, connection, [], logger=structlog.ReturnLogger())


BUILTIN = {"console": console, "json": json, "null": null, "stdlib": stdlib}
