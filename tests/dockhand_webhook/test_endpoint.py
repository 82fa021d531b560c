"""Notifications as registries post them, and what they are told."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from notifications import DISTRIBUTION, envelope, push, recorded
from receiving import Recorder, eventually, plugins_with, receiving

from dockhand_core import EventInvalid, hookimpl
from dockhand_core.events import ManifestPushed, RepositoryCreated

MIB = 1 << 20
HEADERS = {"Content-Type": DISTRIBUTION}


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def test_an_event_is_on_disk_before_the_reply(desk: Any) -> None:
    reply = desk.post(envelope(push(id="one"), push(id="two")))
    assert (reply.status_code, reply.content) == (202, b"")
    assert desk.stored() == [("", "one"), ("", "two")]
    assert desk.inbox.counts().received == 2


def test_a_route_for_each_connection(desk: Any) -> None:
    for connection in ("staging", "production", ""):
        assert desk.post(envelope(push(id="one")), connection).status_code == 202
    assert desk.stored() == [("staging", "one"), ("production", "one"), ("", "one")]


@pytest.mark.parametrize("registry", ["distribution-2.8.2", "distribution-3.1.1", "zot"])
def test_what_registries_send(desk: Any, registry: str) -> None:
    sent = list(recorded(registry))
    assert sent
    for each in sent:
        assert desk.post(each.body, headers=each.headers).status_code == 202
    counts = desk.inbox.counts()
    assert counts.letters == counts.invalid == 0
    assert counts.received == len(desk.stored()) > 10


def test_what_is_sent_again_is_stored_once(desk: Any) -> None:
    for _ in range(3):
        assert desk.post(envelope(push(id="one"), push(id="one"))).status_code == 202
    assert desk.stored() == [("", "one")]
    counts = desk.inbox.counts()
    assert (counts.received, counts.duplicated) == (1, 5)


def test_an_empty_envelope(desk: Any) -> None:
    assert desk.post(envelope()).status_code == 202
    assert desk.inbox.counts().letters == len(desk.stored()) == 0


@pytest.mark.parametrize("size", [1, 100, 4096])
def test_a_body_in_pieces(desk: Any, size: int) -> None:
    body = envelope(*(push(id=str(number)) for number in range(3)))
    assert desk.post(pieces(body, size)).status_code == 202
    assert [name for _, name in desk.stored()] == ["0", "1", "2"]


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
def test_what_cannot_be_read_becomes_a_dead_letter(
    desk: Any, caplog: pytest.LogCaptureFixture, body: bytes, kind: str, reason: str
) -> None:
    assert desk.post(body, "staging", headers={"Content-Type": kind}).status_code == 202
    [letter] = desk.inbox.letters.held()
    assert reason in letter.reason
    assert letter.connection == "staging"
    assert (letter.handler, letter.event) == (None, None)
    assert (letter.unread.body, letter.unread.size) == (body[: 64 << 10], len(body))
    assert letter.unread.headers["content-type"] == kind
    assert reason in caplog.text
    counts = desk.inbox.counts()
    assert (counts.invalid, counts.dead, counts.letters, counts.received) == (1, 1, 1, 0)


def test_the_good_events_of_a_bad_envelope_are_stored(desk: Any) -> None:
    body = envelope(push(id="one"), {"id": "wrong"}, push(id="three"))
    assert desk.post(body).status_code == 202
    assert desk.stored() == [("", "one"), ("", "three")]
    [letter] = desk.inbox.letters.held()
    assert letter.reason.startswith("events[1]:")


def test_a_parser_that_fails_in_odd_characters(desk: Any) -> None:
    class Parser:
        def matches(self, headers: Any) -> bool:
            return bool(headers.get("content-type") == "text/odd")

        def parse(self, headers: Any, body: bytes) -> Any:
            raise EventInvalid(f"odd: {json.loads(body)}")

    class Odd:
        @hookimpl
        def dockhand_event_parsers(self) -> list[Parser]:
            return [Parser()]

    desk.plugins.register(Odd())
    reply = desk.post(rb'"half \ud83d"', headers={"Content-Type": "text/odd"})
    assert reply.status_code == 202
    [letter] = desk.inbox.letters.held()
    assert letter.reason.startswith("odd: half ")


@pytest.mark.parametrize(("size", "read"), [(MIB, True), (MIB + 1, False), (16 * MIB, False)])
@pytest.mark.parametrize("chunk", [None, 100_000])
def test_large_bodies_are_taken(
    desk: Any, caplog: pytest.LogCaptureFixture, size: int, read: bool, chunk: int | None
) -> None:
    body = envelope(push(id="one")).ljust(size)
    assert desk.post(body if chunk is None else pieces(body, chunk)).status_code == 202
    letters = desk.inbox.letters.held()
    assert (desk.stored() == [("", "one")]) is read
    assert (letters == []) is read
    if not read:
        [letter] = letters
        assert (letter.unread.size, letter.unread.body) == (size, body[: 64 << 10])
        assert f"{size} bytes" in letter.reason
        assert letter.reason in caplog.text


@pytest.mark.parametrize("chunk", [None, 100_000])
def test_larger_ones_are_refused(desk: Any, chunk: int | None) -> None:
    body = bytes(16 * MIB + 1)
    reply = desk.post(body if chunk is None else pieces(body, chunk))
    assert reply.status_code == 413
    assert desk.inbox.counts().letters == len(desk.stored()) == 0


def test_what_says_that_it_is_too_large_is_not_read(desk: Any) -> None:
    desk.serve()
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("it was read")

    desk.run(desk.app(scope(length=16 * MIB + 1), receive, keeper(sent)))
    assert sent[0]["status"] == 413


def test_who_leaves_in_the_middle_has_sent_nothing(desk: Any) -> None:
    """Neither an event nor a dead letter, and no reply."""
    desk.serve()
    messages = [
        {"type": "http.request", "body": envelope(push()), "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    desk.run(desk.app(scope(), receive, keeper(sent)))
    assert sent == []
    assert messages == []
    assert desk.stored() == []
    assert desk.inbox.counts().letters == 0


def scope(length: int | None = None) -> dict[str, Any]:
    headers = [(b"authorization", b"Bearer t0ken-of-the-tests")]
    headers.append((b"content-type", DISTRIBUTION.encode()))
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {
        "type": "http", "method": "POST", "path": "/dockhand/notify", "query_string": b"",
        "root_path": "", "headers": headers, "client": ("192.0.2.1", 1),
    }  # fmt: skip


def keeper(sent: list[Any]) -> Any:
    async def send(message: Any) -> None:
        sent.append(message)

    return send


def test_other_methods_and_paths(desk: Any) -> None:
    for path in ("/dockhand/notify", "/dockhand/notify/staging"):
        assert desk.get(path).status_code == 405
    for path in ("/", "/dockhand", "/dockhand/notify/a/b", "/dockhand/notifyx"):
        assert desk.post(envelope(push()), path=path).status_code == 404
    assert desk.stored() == []


@pytest.mark.parametrize("name", ["a:b", "-a", "a b", "%C3%A9", "a" * 65, "a%0Ab", ".."])
def test_names_that_no_connection_has(desk: Any, name: str) -> None:
    assert desk.post(envelope(push()), name).status_code == 404
    assert desk.stored() == []
    assert desk.inbox.counts().letters == 0


def test_a_disk_that_fails(
    desk: Any,
    held: Callable[[Path], AbstractContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert desk.post(envelope(push(id="one"))).status_code == 202
    with held(desk.path):
        desk.inbox.close()  # the next connection waits as long as a test may
        for body in (envelope(push(id="two")), b"nonsense"):
            reply = desk.post(body)
            assert reply.status_code == 503
            assert int(reply.headers["retry-after"]) > 0
        assert desk.get("/healthz").status_code == 503
    assert "was not taken" in caplog.text
    assert desk.stored() == [("", "one")]
    assert desk.post(envelope(push(id="two"))).status_code == 202
    assert desk.get("/healthz").status_code == 200
    assert desk.stored() == [("", "one"), ("", "two")]
    assert desk.inbox.counts().letters == 0


def test_health_needs_no_token(desk: Any) -> None:
    reply = desk.get("/healthz", headers={"Authorization": None})
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


def test_metrics(desk: Any) -> None:
    desk.run(desk.inbox.lanes("x", None, 1.0).register(["audit/dockhand_event"]))
    desk.post(envelope(push(id="one"), push(id="one")))
    desk.post(b"nonsense")
    assert desk.post(b"", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert desk.get("/metrics", headers={"Authorization": None}).status_code == 401
    reply = desk.get("/metrics")
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


def test_no_secret_is_kept_or_logged(desk: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dockhand")
    secret = "s3cret-of-a-header"
    names = (
        "Cookie", "Set-Cookie", "X-Api-Key", "Proxy-Authorization", "X-Auth-Token",
        "X-Hub-Signature-256", "X-Vault-Token", "X-Shared-Secret", "Php-Auth-Password",
        "AUTHENTICATION-INFO",
    )  # fmt: skip
    sent = {"X-Request-Id": "r1", **dict.fromkeys(names, secret)}
    assert desk.post(b"nonsense?" + b"x" * 70_000, headers=sent).status_code == 202
    wrong = {**sent, "Authorization": f"Bearer {secret}"}
    assert desk.post(envelope(push()), headers=wrong).status_code == 401
    [letter] = desk.inbox.letters.held()
    assert letter.unread.headers["x-request-id"] == "r1"
    assert {name.lower() for name in names}.isdisjoint(letter.unread.headers)
    assert "authorization" not in letter.unread.headers
    desk.inbox.close()
    for kept in (desk.path, *desk.path.parent.glob("inbox.db-*")):
        assert secret.encode() not in kept.read_bytes()
        assert desk.token.encode() not in kept.read_bytes()
    assert caplog.records
    assert secret not in caplog.text
    assert desk.token not in caplog.text


def test_a_stranger_cannot_forge_lines_of_the_log(
    desk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Authorization": None}
    reply = desk.post(b"", "a%0AERROR%20dockhand.webhook:%20forged", headers=headers)
    assert reply.status_code == 401
    assert "without a valid token" in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_another_route(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ROUTE", "/hooks/registry/")
    desk.serve()
    assert desk.post(envelope(push(id="one"))).status_code == 404
    assert desk.post(envelope(push(id="one")), path="/hooks/registry").status_code == 202
    assert desk.post(envelope(push(id="one")), "a", path="/hooks/registry").status_code == 202
    desk.serve(route="/said")
    assert desk.post(envelope(push(id="two")), path="/said").status_code == 202
    assert desk.post(envelope(push(id="two")), path="/hooks/registry").status_code == 404
    assert desk.stored() == [("", "one"), ("a", "one"), ("", "two")]


def test_served_on_a_socket(tmp_path: Path) -> None:
    recorder = Recorder()
    plugins = plugins_with(recorder=recorder)
    with (
        receiving(tmp_path / "inbox.db", plugins, tokens=["t"]) as served,
        httpx.Client(headers={"Authorization": "Bearer t", **HEADERS}) as client,
    ):
        for number in range(5):
            body = envelope(push(id=str(number)))
            assert client.post(f"{served.route}/staging", content=body).status_code == 202
        eventually(lambda: len(recorder.events) == 5)
        types = {each.headers["Ce-Type"]: each for each in recorded("zot")}
        sent = types["zotregistry.repository.created"]
        assert client.post(served.route, content=sent.body, headers=sent.headers).is_success
        eventually(lambda: len(recorder.events) == 6)
    assert [each.id for each in recorder.events[:5]] == ["0", "1", "2", "3", "4"]
    assert {each.connection for each in recorder.events[:5]} == {"staging"}
    assert isinstance(recorder.events[0], ManifestPushed)
    assert isinstance(recorder.events[5], RepositoryCreated)
    assert recorder.events[5].connection is None


def test_a_socket_that_is_shut_in_the_middle(tmp_path: Path) -> None:
    with receiving(tmp_path / "inbox.db", plugins_with(), tokens=["t"]) as served:
        head = (
            f"POST /dockhand/notify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n"
            f"Content-Type: {DISTRIBUTION}\r\nContent-Length: 100000\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as client:
            client.sendall(head.encode() + envelope(push(id="cut")))
        headers = {"Authorization": "Bearer t", **HEADERS}
        for _ in range(2):  # after which the server has seen that the first one is gone
            reply = httpx.post(served.route, content=envelope(push(id="one")), headers=headers)
            assert reply.status_code == 202
        counts = served.app.counts()
    assert (counts.received, counts.letters) == (1, 0)


def test_many_at_once(desk: Any) -> None:
    desk.serve()
    headers = HEADERS

    async def all_of_them() -> Any:
        return await asyncio.gather(
            *(
                desk.ask(
                    "POST", "/dockhand/notify", content=envelope(push(id=str(n))), headers=headers
                )
                for n in range(200)
            )
        )

    assert {reply.status_code for reply in desk.run(all_of_them())} == {202}
    assert sorted(int(name) for _, name in desk.stored()) == list(range(200))
