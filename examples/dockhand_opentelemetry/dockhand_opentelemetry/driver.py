"""The log driver `opentelemetry`, which sends log lines to a collector with OTLP over HTTP."""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from pydantic import AfterValidator, BaseModel, Field, SecretStr

from dockhand_core.config import validate_table
from dockhand_core.logs import LogSettings, make_logger

__all__ = ["Settings", "make"]

PATH = "/v1/logs"
# The attributes of OpenTelemetry's semantic conventions; the other values get `dockhand.<name>`.
ATTRIBUTES = {
    "method": "http.request.method",
    "path": "url.path",
    "status": "http.response.status_code",
    "error": "exception.message",
}
OWN = frozenset(
    {"auth", "bytes", "connection", "driver", "host", "milliseconds", "repository", "wait"}
)
SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is not an http or https URL")
    if parts.username is not None or parts.password is not None or parts.query:
        raise ValueError("has credentials or a query: give a header instead")
    return url.rstrip("/").removesuffix(PATH) + PATH


class Settings(BaseModel, extra="forbid", frozen=True):
    """The driver's own keys of the connection's `logging` table.

    Attributes:
        endpoint: URL of the collector; without it, that in OpenTelemetry's environment variables,
            or `http://localhost:4318`.
        headers: headers of each request to the collector, such as an API key.
        timeout: seconds that a request to the collector may take, with its repetitions; 10.
        service_name: the resource attribute `service.name`.
        attributes: further attributes of each record, such as `server.address`.
    """

    endpoint: Annotated[str, AfterValidator(_checked_url)] | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    timeout: float | None = Field(default=None, gt=0)
    service_name: str | None = None
    attributes: dict[str, str | int | float | bool] = Field(default_factory=dict)


class Records:
    """The object that structlog's logger writes to: it sends records in a background thread."""

    def __init__(self, settings: Settings) -> None:
        headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        exporter = OTLPLogExporter(
            endpoint=settings.endpoint, headers=headers or None, timeout=settings.timeout
        )
        service = {"service.name": settings.service_name} if settings.service_name else {}
        self._provider = LoggerProvider(Resource.create(service))
        self._provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
        self._logger = self._provider.get_logger("dockhand")

    def info(self, **record: Any) -> None:
        """Queue a record; OpenTelemetry adds the trace and the span of the current context."""
        self._logger.emit(**record)

    debug = warning = error = critical = info

    def close(self) -> None:
        """Send the records that are queued, and end the thread."""
        self._provider.shutdown()


class Renderer:
    """The last structlog processor: it makes the record of an event that has been redacted."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._attributes = attributes

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
        """Make the arguments of OpenTelemetry's `Logger.emit`."""
        level = event.pop("level")
        body = event.pop("event", "")
        attributes = dict(self._attributes)
        attempt = event.pop("attempt", 1)
        if isinstance(attempt, int) and attempt > 1:
            attributes["http.request.resend_count"] = attempt - 1
        for name, value in event.items():
            key = ATTRIBUTES.get(name, f"dockhand.{name}" if name in OWN else name)
            attributes[key] = value if isinstance(value, str | int | float) else str(value)
        return {
            "timestamp": time.time_ns(),
            "severity_number": SEVERITIES[level],
            "severity_text": level.upper(),
            "body": body,
            "attributes": attributes,
        }


def make(settings: LogSettings, connection: str) -> Any:
    """Make the logger of a connection.

    `make_logger` redacts values that may be secret, leaves out events below the connection's level,
    and escapes control characters.

    Raises:
        ConfigError: a setting is wrong.
    """
    where = f"connection {connection!r}: logging"
    own = validate_table(Settings, settings.options, where=where, base=settings.base)
    renderer = Renderer(own.attributes)
    known = Settings.model_fields
    return make_logger(settings, connection, [renderer], logger=Records(own), known=known)
