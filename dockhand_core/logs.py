"""One structlog logger per connection, never structlog's global configuration.

structlog is imported when the first logger is made: to import Dockhand takes no longer for it.
A plugin adds a driver with the hook `dockhand_log_drivers`. What Dockhand says of a request
passes an allow-list, so that no header or query can slip into a log; what the caller bound with
`structlog.contextvars` comes along as it is.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from dockhand_core.config.validation import did_you_mean
from dockhand_core.errors import ConfigError

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["ALLOWED", "BUILTIN", "LogSettings", "redact"]

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
        level: what is at least this important is logged.
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
    """A structlog processor: a value whose key is not on the allow-list is not shown."""
    return {key: value if key in ALLOWED else "[redacted]" for key, value in event.items()}


def _chain(*last: Processor) -> list[Processor]:
    """Redaction comes before the caller's contextvars, which are the caller's to answer for."""
    import structlog

    return [redact, structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level, *last]


def _make(
    logger: Any,
    settings: LogSettings,
    connection: str,
    *last: Processor,
    first: Sequence[Processor] = (),
) -> Any:
    import structlog

    if settings.options:
        known = list(LogSettings.model_fields)
        unknown = min(settings.options)
        raise ConfigError(
            f"connection {connection!r}: logging: unknown key {unknown!r}"
            f"{did_you_mean(unknown, known)} "
            f"(known to log driver {settings.driver!r}: {', '.join(known)})"
        )
    return structlog.wrap_logger(
        logger,
        processors=[*first, *_chain(*last)],
        wrapper_class=structlog.make_filtering_bound_logger(_number(settings.level)),
        cache_logger_on_first_use=True,
    )


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _record(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A readable message, and the same values for a formatter that wants them apart."""
    event.pop("level", None)  # the record has it
    message = event.pop("event", "")
    text = str(_renderer()(logger, method, dict(event)))
    return {"msg": f"{message} {text}".strip(), "extra": {"dockhand": dict(event)}}


@functools.cache
def _renderer() -> Processor:
    import structlog

    return structlog.processors.LogfmtRenderer(bool_as_flag=False)


class _Stderr:
    """Writes to whatever `sys.stderr` is at the time, one call a line."""

    def msg(self, message: str) -> None:
        sys.stderr.write(message + "\n")

    debug = info = warning = error = critical = msg


def console(settings: LogSettings, connection: str) -> Any:
    """Lines for a person, on standard error."""
    import structlog

    return _make(
        _Stderr(),
        settings,
        connection,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
    )


def json(settings: LogSettings, connection: str) -> Any:
    """A JSON object a line, on standard error."""
    import structlog

    return _make(
        _Stderr(),
        settings,
        connection,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(),
    )


def stdlib(settings: LogSettings, connection: str) -> Any:
    """The standard library's logger `dockhand.<connection>`, the values in its `extra`.

    As with any library, nothing is written until the application configures logging.
    """
    import structlog

    root = logging.getLogger("dockhand")
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    return _make(
        logging.getLogger(f"dockhand.{connection}"),
        settings,
        connection,
        _record,
        first=[structlog.stdlib.filter_by_level],  # what nobody listens to costs little
    )


def null(settings: LogSettings, connection: str) -> Any:
    """Nowhere."""
    import structlog

    silent = settings.model_copy(update={"level": "critical"})
    return _make(structlog.ReturnLogger(), silent, connection)


BUILTIN = {"console": console, "json": json, "null": null, "stdlib": stdlib}
