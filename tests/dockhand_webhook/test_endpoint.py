"""Requests to the receiver: notifications, limits, unreadable bodies, metrics and health."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from dockhand_webhook.inbox import event_table
from notifications import DISTRIBUTION, envelope, push, recorded
from webhook_receiver import EventRecorder, eventually, plugins_with, running_receiver

from dockhand_core import ConfigError, EventInvalid, hookimpl
from dockhand_core.events import (
    EventParsers,
    ManifestPushed,
    RegistryBaseEvent,
    RepositoryCreated,
    TagDeleted,
)

MIB = 1 << 20
HEADERS = {"Content-Type": DISTRIBUTION}


async def chunks(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def test_an_event_is_on_disk_before_the_reply(receiver: Any) -> None:
    reply = receiver.post(envelope(push(id="one"), push(id="two")))
    assert (reply.status_code, reply.content) == (202, b"")
    assert receiver.stored_events() == [("", "one"), ("", "two")]
    assert receiver.inbox.counts().received == 2


def test_each_connection_has_a_route(receiver: Any) -> None:
    for connection in ("staging", "production", ""):
        assert receiver.post(envelope(push(id="one")), connection).status_code == 202
    assert receiver.stored_events() == [("staging", "one"), ("production", "one"), ("", "one")]


@pytest.mark.parametrize("registry", ["distribution-2.8.2", "distribution-3.1.1", "zot"])
def test_recorded_notifications_are_accepted(receiver: Any, registry: str) -> None:
    sent = list(recorded(registry))
    assert sent
    for each in sent:
        assert receiver.post(each.body, headers=each.headers).status_code == 202
    counts = receiver.inbox.counts()
    assert counts.dead_letters == counts.invalid == 0
    assert counts.received == len(receiver.stored_events()) > 10


def test_a_repeated_event_is_stored_once(receiver: Any) -> None:
    for _ in range(3):
        assert receiver.post(envelope(push(id="one"), push(id="one"))).status_code == 202
    assert receiver.stored_events() == [("", "one")]
    counts = receiver.inbox.counts()
    assert (counts.received, counts.duplicated) == (1, 5)


def test_an_empty_envelope_is_accepted(receiver: Any) -> None:
    assert receiver.post(envelope()).status_code == 202
    assert receiver.inbox.counts().dead_letters == len(receiver.stored_events()) == 0


@pytest.mark.parametrize("size", [1, 100, 4096])
def test_a_chunked_body_is_accepted(receiver: Any, size: int) -> None:
    body = envelope(*(push(id=str(number)) for number in range(3)))
    assert receiver.post(chunks(body, size)).status_code == 202
    assert [name for _, name in receiver.stored_events()] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"", DISTRIBUTION, "the envelope is not JSON"),
        (b"\xff\xfe\x00", DISTRIBUTION, "the envelope is not JSON"),
        (b"[" * 100_000, DISTRIBUTION, "the envelope is not JSON"),
        (b'{"events": 1}', DISTRIBUTION, "no list of events"),
        (envelope({"id": "x"}), DISTRIBUTION, "events[0]: the action"),
        (envelope(push(repository="")), DISTRIBUTION, "repository"),
        (envelope(push(digest="sha256:xyz")), DISTRIBUTION, "ManifestPushed"),
        (b"{}", "application/json", "no parser knows"),
        (b"{}", "", "no parser knows"),
    ],
)
def test_an_unreadable_notification_becomes_a_dead_letter(
    receiver: Any, caplog: pytest.LogCaptureFixture, body: bytes, kind: str, reason: str
) -> None:
    assert receiver.post(body, "staging", headers={"Content-Type": kind}).status_code == 202
    [letter] = receiver.inbox.dead_letters.page()
    assert reason in letter.reason
    assert letter.connection == "staging"
    assert (letter.handler, letter.event) == (None, None)
    assert (letter.notification.body, letter.notification.size) == (body[: 64 << 10], len(body))
    assert letter.notification.headers["content-type"] == kind
    assert reason in caplog.text
    counts = receiver.inbox.counts()
    assert (counts.invalid, counts.dead, counts.dead_letters, counts.received) == (1, 1, 1, 0)


def test_the_readable_events_of_an_envelope_are_stored(receiver: Any) -> None:
    body = envelope(push(id="one"), {"id": "wrong"}, push(id="three"))
    assert receiver.post(body).status_code == 202
    assert receiver.stored_events() == [("", "one"), ("", "three")]
    [letter] = receiver.inbox.dead_letters.page()
    assert letter.reason.startswith("events[1]:")


def test_a_parser_error_with_a_lone_surrogate_is_stored(receiver: Any) -> None:
    class Parser:
        def matches(self, headers: Any) -> bool:
            return bool(headers.get("content-type") == "text/odd")

        def parse(self, headers: Any, body: bytes) -> Any:
            raise EventInvalid(f"odd: {json.loads(body)}")

    class Odd:
        @hookimpl
        def dockhand_event_parsers(self) -> list[Parser]:
            return [Parser()]

    receiver.plugins.register(Odd())
    reply = receiver.post(rb'"lone \ud83d"', headers={"Content-Type": "text/odd"})
    assert reply.status_code == 202
    [letter] = receiver.inbox.dead_letters.page()
    assert letter.reason.startswith("odd: lone ")


@pytest.mark.parametrize("size", [MIB, MIB + 1, 16 * MIB])
@pytest.mark.parametrize("chunk", [None, 100_000])
def test_a_body_up_to_16_mib_is_parsed(receiver: Any, size: int, chunk: int | None) -> None:
    body = envelope(push(id="one")).ljust(size)
    assert receiver.post(body if chunk is None else chunks(body, chunk)).status_code == 202
    assert receiver.stored_events() == [("", "one")]
    assert receiver.inbox.dead_letters.page() == []


def test_the_beginning_of_a_large_unreadable_body_is_kept(
    receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    body = b"x" * MIB
    assert receiver.post(body).status_code == 202
    [letter] = receiver.inbox.dead_letters.page()
    assert (letter.notification.size, letter.notification.body) == (MIB, body[: 64 << 10])
    assert f"a notification of {MIB} bytes" in caplog.text


def test_the_limit_on_bodies_is_a_setting(receiver: Any, caplog: pytest.LogCaptureFixture) -> None:
    body = envelope(push(id="one"))
    receiver.create(max_body=len(body))
    assert receiver.post(body).status_code == 202
    assert receiver.post(body + b" ").status_code == 413
    assert f"more than {len(body)} bytes (max_body)" in caplog.text
    with pytest.raises(ConfigError, match="max_body must be"):
        receiver.create(max_body=0)


def test_messages_that_senders_cause_are_logged_once_a_second(
    receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        receiver.post(b"nonsense")
        receiver.post(b"", headers={"Authorization": "Bearer wrong"})
    assert caplog.text.count("a notification of 8 bytes") == 1
    assert caplog.text.count("a notification without a valid token") == 1
    assert receiver.inbox.counts().invalid == 5


@pytest.mark.parametrize("chunk", [None, 100_000])
def test_a_body_over_16_mib_is_refused(receiver: Any, chunk: int | None) -> None:
    body = bytes(16 * MIB + 1)
    reply = receiver.post(body if chunk is None else chunks(body, chunk))
    assert reply.status_code == 413
    assert receiver.inbox.counts().dead_letters == len(receiver.stored_events()) == 0


def test_a_body_with_too_large_a_content_length_is_not_read(receiver: Any) -> None:
    receiver.create()
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("it was read")

    receiver.run(receiver.app(asgi_scope(length=16 * MIB + 1), receive, collect(sent)))
    assert sent[0]["status"] == 413


def test_a_client_that_disconnects_has_sent_nothing(receiver: Any) -> None:
    """Nothing is stored, and no reply is sent."""
    receiver.create()
    messages = [
        {"type": "http.request", "body": envelope(push()), "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    receiver.run(receiver.app(asgi_scope(), receive, collect(sent)))
    assert sent == []
    assert messages == []
    assert receiver.stored_events() == []
    assert receiver.inbox.counts().dead_letters == 0


def asgi_scope(length: int | None = None) -> dict[str, Any]:
    headers = [(b"authorization", b"Bearer t0ken-of-the-tests")]
    headers.append((b"content-type", DISTRIBUTION.encode()))
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {
        "type": "http", "method": "POST", "path": "/dockhand/notify", "query_string": b"",
        "root_path": "", "headers": headers, "client": ("192.0.2.1", 1),
    }  # fmt: skip


def collect(sent: list[Any]) -> Any:
    async def send(message: Any) -> None:
        sent.append(message)

    return send


def test_other_methods_and_paths_are_refused(receiver: Any) -> None:
    for path in ("/dockhand/notify", "/dockhand/notify/staging"):
        assert receiver.get(path).status_code == 405
    for path in ("/", "/dockhand", "/dockhand/notify/a/b", "/dockhand/notifyx"):
        assert receiver.post(envelope(push()), path=path).status_code == 404
    assert receiver.stored_events() == []


@pytest.mark.parametrize("name", ["a:b", "-a", "a b", "%C3%A9", "a" * 65, "a%0Ab", ".."])
def test_an_invalid_connection_name_is_refused(receiver: Any, name: str) -> None:
    assert receiver.post(envelope(push()), name).status_code == 404
    assert receiver.stored_events() == []
    assert receiver.inbox.counts().dead_letters == 0


def test_a_locked_inbox_is_reported_as_503(
    receiver: Any,
    write_locked: Callable[[Path], AbstractContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert receiver.post(envelope(push(id="one"))).status_code == 202
    with write_locked(receiver.path):
        receiver.inbox.close()  # the next database connection has the short timeout
        for body in (envelope(push(id="two")), b"nonsense"):
            reply = receiver.post(body)
            assert reply.status_code == 503
            assert int(reply.headers["retry-after"]) > 0
        assert receiver.get("/healthz").status_code == 503
    assert "was not taken" in caplog.text
    assert receiver.stored_events() == [("", "one")]
    assert receiver.post(envelope(push(id="two"))).status_code == 202
    assert receiver.get("/healthz").status_code == 200
    assert receiver.stored_events() == [("", "one"), ("", "two")]
    assert receiver.inbox.counts().dead_letters == 0


def test_health_writes_at_most_once_a_second(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes: list[float] = []
    probe = receiver.inbox.database.probe

    async def counted() -> None:
        probes.append(time.monotonic())
        await probe()

    monkeypatch.setattr(receiver.inbox.database, "probe", counted)
    began = time.monotonic()
    while time.monotonic() < began + 1.5:
        assert receiver.get("/healthz").status_code == 200
    assert 2 <= len(probes) <= 1 + time.monotonic() - began
    assert probes[1] - probes[0] >= 1


def test_a_large_notification_does_not_delay_others(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing a body of 16 MiB, and serializing its events, may take seconds."""
    threads: list[str] = []

    def observed(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            threads.append(threading.current_thread().name)
            return function(*arguments)

        return call

    monkeypatch.setattr(EventParsers, "parse", observed(EventParsers.parse))
    monkeypatch.setattr(event_table, "to_rows", observed(event_table.to_rows))
    receiver.post(envelope(push(id="small")))
    assert threads == ["MainThread"] * 2
    receiver.post(envelope(*(push(id=str(number)) for number in range(1000))))
    receiver.post(envelope({}, *(push(id=f"b{number}") for number in range(1000))))
    assert len(receiver.stored_events()) == 2001
    assert receiver.inbox.counts().invalid == 1
    assert len(threads) == 6
    assert "MainThread" not in threads[2:]


def test_health_needs_no_token(receiver: Any) -> None:
    reply = receiver.get("/healthz", headers={"Authorization": None})
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


def test_metrics_need_a_token_and_show_the_counts(receiver: Any) -> None:
    receiver.run(receiver.inbox.delivery_queue("x", None, 1.0).register(["audit/dockhand_event"]))
    receiver.post(envelope(push(id="one"), push(id="one")))
    receiver.post(b"nonsense")
    assert receiver.post(b"", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert receiver.get("/metrics", headers={"Authorization": None}).status_code == 401
    reply = receiver.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    lines = reply.text.splitlines()
    for line in (
        "dockhand_webhook_received_total 1.0",
        "dockhand_webhook_duplicated_total 1.0",
        "dockhand_webhook_invalid_total 1.0",
        "dockhand_webhook_refused_total 1.0",
        "dockhand_webhook_dead_letters 1.0",
        'dockhand_webhook_waiting{handler="audit/dockhand_event"} 1.0',
        'dockhand_webhook_delivered_total{handler="audit/dockhand_event"} 0.0',
        'dockhand_webhook_dead_total{handler="audit/dockhand_event"} 0.0',
    ):
        assert line in lines
    assert any(line.startswith("dockhand_webhook_lag_seconds{") for line in lines)


def test_no_secret_is_stored_or_logged(receiver: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dockhand")
    secret = "s3cret-of-a-header"
    names = (
        "Cookie", "Set-Cookie", "X-Api-Key", "Proxy-Authorization", "X-Auth-Token",
        "X-Hub-Signature-256", "X-Vault-Token", "X-Shared-Secret", "Php-Auth-Password",
        "AUTHENTICATION-INFO",
    )  # fmt: skip
    sent = {"X-Request-Id": "r1", **dict.fromkeys(names, secret)}
    assert receiver.post(b"nonsense?" + b"x" * 70_000, headers=sent).status_code == 202
    wrong = {**sent, "Authorization": f"Bearer {secret}"}
    assert receiver.post(envelope(push()), headers=wrong).status_code == 401
    [letter] = receiver.inbox.dead_letters.page()
    assert letter.notification.headers["x-request-id"] == "r1"
    assert {name.lower() for name in names}.isdisjoint(letter.notification.headers)
    assert "authorization" not in letter.notification.headers
    receiver.inbox.close()
    for file in (receiver.path, *receiver.path.parent.glob("inbox.db-*")):
        assert secret.encode() not in file.read_bytes()
        assert receiver.token.encode() not in file.read_bytes()
    assert caplog.records
    assert secret not in caplog.text
    assert receiver.token not in caplog.text


def test_a_request_without_token_cannot_forge_log_lines(
    receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Authorization": None}
    reply = receiver.post(b"", "a%0AERROR%20dockhand.webhook:%20forged", headers=headers)
    assert reply.status_code == 401
    assert "without a valid token" in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_the_route_can_be_changed(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ROUTE", "/hooks/registry/")
    receiver.create()
    assert receiver.post(envelope(push(id="one"))).status_code == 404
    assert receiver.post(envelope(push(id="one")), path="/hooks/registry").status_code == 202
    assert receiver.post(envelope(push(id="one")), "a", path="/hooks/registry").status_code == 202
    receiver.create(route="/given")
    assert receiver.post(envelope(push(id="two")), path="/given").status_code == 202
    assert receiver.post(envelope(push(id="two")), path="/hooks/registry").status_code == 404
    assert receiver.stored_events() == [("", "one"), ("a", "one"), ("", "two")]


def test_notifications_over_a_socket(tmp_path: Path) -> None:
    recorder = EventRecorder()
    plugins = plugins_with(recorder=recorder)
    with (
        running_receiver(tmp_path / "inbox.db", plugins, tokens=["t"]) as served,
        httpx.Client(headers={"Authorization": "Bearer t", **HEADERS}) as client,
    ):
        for number in range(5):
            body = envelope(push(id=str(number)))
            assert client.post(f"{served.notify_url}/staging", content=body).status_code == 202
        eventually(lambda: len(recorder.events) == 5)
        types = {each.headers["Ce-Type"]: each for each in recorded("zot")}
        sent = types["zotregistry.repository.created"]
        assert client.post(served.notify_url, content=sent.body, headers=sent.headers).is_success
        eventually(lambda: len(recorder.events) == 6)
    assert [each.id for each in recorder.events[:5]] == ["0", "1", "2", "3", "4"]
    assert {each.connection for each in recorder.events[:5]} == {"staging"}
    assert isinstance(recorder.events[0], ManifestPushed)
    assert isinstance(recorder.events[5], RepositoryCreated)
    assert recorder.events[5].connection is None


def test_a_socket_closed_during_the_body(tmp_path: Path) -> None:
    with running_receiver(tmp_path / "inbox.db", plugins_with(), tokens=["t"]) as served:
        head = (
            f"POST /dockhand/notify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n"
            f"Content-Type: {DISTRIBUTION}\r\nContent-Length: 100000\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as client:
            client.sendall(head.encode() + envelope(push(id="cut")))
        headers = {"Authorization": "Bearer t", **HEADERS}
        for _ in range(2):  # meanwhile the server notices the disconnect
            reply = httpx.post(served.notify_url, content=envelope(push(id="one")), headers=headers)
            assert reply.status_code == 202
        counts = served.app.counts()
    assert (counts.received, counts.dead_letters) == (1, 0)


def test_many_concurrent_notifications(receiver: Any) -> None:
    receiver.create()
    headers = HEADERS

    async def post_all() -> Any:
        return await asyncio.gather(
            *(
                receiver.request(
                    "POST", "/dockhand/notify", content=envelope(push(id=str(n))), headers=headers
                )
                for n in range(200)
            )
        )

    assert {reply.status_code for reply in receiver.run(post_all())} == {202}
    assert sorted(int(name) for _, name in receiver.stored_events()) == list(range(200))


class ParserOfRoutes:
    """A parser of one connection's notifications, whatever their headers are."""

    ready = False

    @hookimpl
    def dockhand_event_parsers(self) -> list[Any]:
        return [self]

    def matches(self, headers: Any, connection: str | None) -> bool:
        return connection == "harbor"

    def parse(self, headers: Any, body: bytes) -> list[RegistryBaseEvent] | None:
        at = datetime.now(UTC)
        event = TagDeleted(id="1", timestamp=at, action="delete", repository="a/b", tag="v1")
        return [event] if self.ready else None


@pytest.mark.parametrize("size", [10, 300 << 10])  # a large body is parsed in a thread
def test_a_parser_sees_the_connection_and_may_decline(receiver: Any, size: int) -> None:
    parser = ParserOfRoutes()
    receiver.plugins.register(parser, name="harbor")
    receiver.post(b"x" * size, "harbor", headers={"Content-Type": "text/plain"})
    [letter] = receiver.inbox.dead_letters.page()
    assert "parsers that declined it: harbor: ParserOfRoutes.parse returned None" in letter.reason
    parser.ready = True
    receiver.post(b"x" * size, "harbor", headers={"Content-Type": "text/plain"})
    assert receiver.stored_events() == [("harbor", "1")]
    receiver.post(b"x" * size, "quay", headers={"Content-Type": "text/plain"})
    assert receiver.inbox.counts().dead_letters == 2


def test_a_replay_tells_the_parser_the_connection(receiver: Any) -> None:
    receiver.post(b"x", "harbor", headers={"Content-Type": "text/plain"})
    [letter] = receiver.inbox.dead_letters.page()
    parser = ParserOfRoutes()
    parser.ready = True
    receiver.plugins.register(parser, name="harbor")
    receiver.inbox.dead_letters.replay(letter.id, EventParsers(receiver.plugins))
    assert receiver.stored_events() == [("harbor", "1")]
