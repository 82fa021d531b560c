"""The driver fulfils the contract of log drivers, and a collector of the test gets its records."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog
from dockhand_opentelemetry import driver
from dockhand_testing import LogDriverContract, build_image
from opentelemetry import trace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider

from dockhand_core import ConfigError, ConnectionFailed, Dockhand, async_connect, connect

README = Path(__file__).parent.parent / "README.md"
SECRET = "s3cret-of-the-collector"
PASSWORD = "s3cret-of-the-registry"


class Collector(ThreadingHTTPServer):
    """An OTLP/HTTP receiver of logs, which keeps what arrives."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []

    @property
    def resources(self) -> list[Any]:
        """The records with the same resource, as messages of protobuf."""
        parsed = [ExportLogsServiceRequest.FromString(body) for body in self.bodies]
        return [each for request in parsed for each in request.resource_logs]

    @property
    def records(self) -> list[Any]:
        """All records, as messages of protobuf."""
        scopes = [scope for each in self.resources for scope in each.scope_logs]
        return [record for scope in scopes for record in scope.log_records]


class CollectorHandler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        known = self.path == "/v1/logs"
        if known:
            self.server.headers.append({k.lower(): v for k, v in self.headers.items()})
            self.server.bodies.append(body)
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


def values(attributes: Any) -> dict[str, Any]:
    """The attributes of a record or resource, as a dict."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


class TestOpentelemetryLogger(LogDriverContract):
    """The contract, with a collector of the test."""

    driver = "opentelemetry"
    providers: ClassVar[list[LoggerProvider]] = []

    @pytest.fixture
    def own_settings(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[dict[str, Any]]:
        self.collector = collector

        def make(*arguments: Any) -> LoggerProvider:
            self.providers.append(LoggerProvider(*arguments))
            return self.providers[-1]

        monkeypatch.setattr(driver, "LoggerProvider", make)
        yield {"endpoint": collector.url}
        while self.providers:
            self.providers.pop().shutdown()

    def written(self) -> str:
        for each in self.providers:
            each.force_flush()  # a closed one has sent everything
        return "\n".join(
            f"{record.body.string_value} {values(record.attributes)}"
            for record in self.collector.records
        )


def test_record_of_a_request(
    oci_registry: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    table = {
        "driver": "opentelemetry",
        "endpoint": f"{collector.url}/",
        "headers": {"X-Api-Key": SECRET},
        "service_name": "nightly-copy",
        "attributes": {"server.address": "127.0.0.1", "server.port": 5000},
    }
    before = time.time_ns()
    with connect(oci_registry.url, logging=table) as registry:
        registry.is_online()
        assert collector.bodies == [], "records are sent in the background"
    (record,) = collector.records
    assert before < record.time_unix_nano < time.time_ns()
    assert (record.severity_number, record.severity_text) == (9, "INFO")
    assert record.body.string_value == "request"
    assert record.trace_id == b""
    attributes = values(record.attributes)
    assert 0 <= attributes.pop("dockhand.milliseconds") < 60_000
    assert attributes == {
        "http.request.method": "GET",
        "url.path": "/v2/",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": 5000,
        "dockhand.bytes": 2,
        "dockhand.connection": "default",
        "dockhand.driver": "distribution",
    }
    (resource,) = collector.resources
    found = values(resource.resource.attributes)
    assert found["service.name"] == "nightly-copy"
    assert found["deployment.environment.name"] == "test"
    assert [each.scope.name for each in resource.scope_logs] == ["dockhand"]
    assert [headers["x-api-key"] for headers in collector.headers] == [SECRET]


def test_environment_of_opentelemetry(
    oci_registry: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-api-key={SECRET}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-environment")
    with connect(oci_registry.url, logging={"driver": "opentelemetry"}) as registry:
        registry.is_online()
    (resource,) = collector.resources
    assert values(resource.resource.attributes)["service.name"] == "from-environment"
    assert collector.headers[0]["x-api-key"] == SECRET


def test_records_belong_to_the_trace_of_the_program(
    oci_registry: Any, collector: Collector
) -> None:
    """In the threads of a sync client, and in the tasks of an async one."""
    table = {"driver": "opentelemetry", "endpoint": collector.url}
    tracer = TracerProvider().get_tracer("test")
    build_image().push(oci_registry.client, "library/app", "v1")

    async def main() -> None:
        async with async_connect(oci_registry.url, logging=table) as registry:
            with tracer.start_as_current_span("async") as span:
                spans.append(span.get_span_context())
                await registry.copy("library/app", "v1", to_repository="copy/async")

    spans: list[trace.SpanContext] = []
    with connect(oci_registry.url, logging=table) as registry:
        with tracer.start_as_current_span("sync") as span:
            spans.append(span.get_span_context())
            registry.copy("library/app", "v1", to_repository="copy/sync")
        registry.ping()
    sync_records = collector.records
    asyncio.run(main())
    async_records = collector.records[len(sync_records) :]
    assert sync_records.pop().trace_id == b"", "the last request was made after the span"
    for records, context in zip([sync_records, async_records], spans, strict=True):
        assert len(records) > 3
        assert {each.trace_id for each in records} == {context.trace_id.to_bytes(16, "big")}
        assert {each.span_id for each in records} == {context.span_id.to_bytes(8, "big")}


def test_failures(scripted_registry: Any, collector: Collector) -> None:
    """A repetition has its number; a request without a reply is a warning."""
    table = {"driver": "opentelemetry", "endpoint": collector.url}
    scripted_registry.then("503")
    with scripted_registry.client(logging=table) as registry:
        registry.ping()
    first, second = (values(each.attributes) for each in collector.records)
    assert "http.request.resend_count" not in first
    assert second["http.request.resend_count"] == 1
    assert second["http.response.status_code"] == 200
    with (
        connect("http://127.0.0.1:9", retries=0, logging=table) as registry,
        pytest.raises(ConnectionFailed),
    ):
        registry.ping()
    last = collector.records[-1]
    assert (last.severity_number, last.severity_text) == (13, "WARNING")
    assert "Connection refused" in values(last.attributes)["exception.message"]


def test_secrets_never_arrive(scripted_registry: Any, collector: Collector) -> None:
    """Not those of the registry in any record, nor those of the collector in a record or repr."""
    table = {
        "driver": "opentelemetry",
        "endpoint": collector.url,
        "headers": {"X-Api-Key": SECRET},
        "level": "debug",
    }
    headers = {"X-Token": PASSWORD}
    with (
        connect(scripted_registry.url, headers=headers, logging=table) as registry,
        structlog.contextvars.bound_contextvars(order=4711, items=["a", "b"]),
    ):
        registry.is_online()
        assert SECRET not in repr(registry)
    assert scripted_registry.requests[0].headers["x-token"] == PASSWORD
    assert collector.headers[0]["x-api-key"] == SECRET
    assert all(PASSWORD.encode() not in body for body in collector.bodies)
    assert all(SECRET.encode() not in body for body in collector.bodies)
    (record,) = collector.records
    attributes = values(record.attributes)
    assert (attributes["order"], attributes["items"]) == (4711, "['a', 'b']")


def test_collector_that_is_down(oci_registry: Any) -> None:
    """Requests go on, and closing ends."""
    table = {"driver": "opentelemetry", "endpoint": "http://127.0.0.1:9", "timeout": 0.5}
    start = time.monotonic()
    with connect(oci_registry.url, logging=table) as registry:
        assert registry.is_online()
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"endpoint": "collector:4318"}, "endpoint: is not an http or https URL"),
        ({"endpoint": f"https://a:{SECRET}@collector"}, "endpoint: has credentials or a query"),
        ({"timeout": 0}, "timeout: "),
        ({"headers": {"X-Api-Key": [SECRET]}}, "headers.X-Api-Key: "),
        ({"endpont": "http://collector"}, "unknown key 'endpont'; did you mean 'endpoint'?"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    table = {"driver": "opentelemetry", **settings}
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        connect("http://127.0.0.1:9", logging=table)
    assert "connection 'default': logging" in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("http://collector:4318", "http://collector:4318/v1/logs"),
        ("http://collector:4318/", "http://collector:4318/v1/logs"),
        ("https://collector/otlp", "https://collector/otlp/v1/logs"),
        ("https://collector/otlp/v1/logs", "https://collector/otlp/v1/logs"),
    ],
)
def test_endpoint_with_and_without_path(given: str, sent: str) -> None:
    assert driver.Settings(endpoint=given).endpoint == sent


def test_readme(
    oci_registry: Any, collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The programs print what their comments promise, and all settings are in the table."""
    text = README.read_text()
    (table,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    for url, own in (("registry", oci_registry.url), ("collector", collector.url)):
        assert f"https://{url}.example.com" in table
        table = table.replace(f"https://{url}.example.com", own)
    (tmp_path / "dockhand.toml").write_text(table)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLECTOR_KEY", SECRET)
    build_image().push(oci_registry.client, "team/app", "v1")
    promised = []
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(compile(block, "README.md", "exec"), {})
            promised += re.findall(r"^\s*print\(.*\)  # (.*)$", block, re.MULTILINE)
    assert promised == printed.getvalue().splitlines() == ["True", "team/app"]
    first, second = collector.records
    assert first.trace_id == b""
    assert len(second.trace_id) == 16
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert rows == set(driver.Settings.model_fields)
    with Dockhand() as dockhand:
        assert dockhand.connections == ("main",)
