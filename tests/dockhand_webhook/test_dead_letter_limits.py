"""Limits on dead letters: the oldest are deleted, per connection and kind, and counted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from dockhand_webhook import Backoff, Inbox, create_app
from dockhand_webhook.inbox.dead_letters import UnreadableNotification
from notifications import envelope, push

from dockhand_core import EventInvalid
from dockhand_core.server import ThrottledLog


def add(inbox: Inbox, run: Any, connection: str, name: str, size: int = 1) -> None:
    """Add an unreadable notification as a dead letter."""
    notification = UnreadableNotification({}, b"x" * size, size)
    run(inbox.store_unreadable(connection, notification, EventInvalid(name)))


def reasons(inbox: Inbox, connection: str) -> list[str]:
    letters = inbox.dead_letters.page(10_000)
    return [letter.reason for letter in letters if letter.connection == connection]


def test_the_oldest_of_a_connection_are_deleted(tmp_path: Path, run: Any) -> None:
    inbox = Inbox(tmp_path / "inbox.db", max_dead=3)
    add(inbox, run, "staging", "other")
    for number in range(10):
        add(inbox, run, "production", str(number))
        assert len(reasons(inbox, "production")) <= 3
    assert reasons(inbox, "production") == ["7", "8", "9"]
    assert reasons(inbox, "staging") == ["other"]
    counts = inbox.counts()
    assert (counts.invalid, counts.dead_letters, counts.deleted) == (11, 4, 7)
    inbox.close()


def test_the_size_of_a_connections_dead_letters_is_limited(tmp_path: Path, run: Any) -> None:
    inbox = Inbox(tmp_path / "inbox.db", max_dead_bytes=10_000)
    for number in range(20):
        add(inbox, run, "", str(number), size=3000)
    assert reasons(inbox, "") == ["17", "18", "19"]
    add(inbox, run, "", "huge", size=50_000)  # the newest always stays
    assert reasons(inbox, "") == ["huge"]
    add(inbox, run, "", "small")
    assert reasons(inbox, "") == ["small"]
    inbox.close()


def test_all_connections_together_are_limited(tmp_path: Path, run: Any) -> None:
    """A sender with a token for every route may invent connections."""
    inbox = Inbox(tmp_path / "inbox.db", max_dead=2)
    for number in range(50):
        add(inbox, run, f"c{number}", str(number))
    assert inbox.counts().dead_letters <= 20
    assert reasons(inbox, "c49") == ["49"]
    assert reasons(inbox, "c0") == []
    inbox.close()


def test_few_counts_for_many_dead_letters(tmp_path: Path, run: Any) -> None:
    """Near the limit, some more are deleted at once, and never more than the limit are kept."""
    inbox = Inbox(tmp_path / "inbox.db", max_dead=100)
    statements: list[str] = []

    def trace(transaction: Any) -> None:
        transaction.execute.__self__.set_trace_callback(statements.append)

    inbox.database.write(trace)
    seen = set()
    for number in range(300):
        add(inbox, run, "", str(number))
        seen.add(inbox.counts().dead_letters)
    assert max(seen) == 100
    assert reasons(inbox, "")[-1] == "299"
    assert min(seen - set(range(95))) == 95
    assert len([each for each in statements if each.startswith("SELECT COUNT")]) < 150
    inbox.close()


def test_a_second_process_sees_the_dead_letters_of_the_first(tmp_path: Path, run: Any) -> None:
    first, second = (Inbox(tmp_path / "inbox.db", max_dead=4) for _ in range(2))
    for number in range(10):
        add(first, run, "", str(number))
        add(second, run, "", str(number))
        assert first.counts().dead_letters <= 4
    first.close()
    second.close()


def test_nonsense_does_not_displace_events(tmp_path: Path, run: Any, make_event: Any) -> None:
    inbox = Inbox(tmp_path / "inbox.db", max_dead=2)
    queue = inbox.delivery_queue("a", Backoff(attempts=1), 1e9)
    [handler_id] = run(queue.register(["recorder/dockhand_event"])).values()
    for number in range(3):
        run(inbox.store("", [make_event(f"r{number}", str(number))]))
        [delivery] = run(queue.claim({handler_id: 1}))
        run(queue.mark_failed(delivery, f"failed {number}"))
    for number in range(5):
        add(inbox, run, "", str(number))
    assert sorted(reasons(inbox, "")) == ["3", "4", "failed 1", "failed 2"]
    assert inbox.counts().handlers["recorder/dockhand_event"].dead == 3
    inbox.close()


def test_the_size_of_an_event_counts(tmp_path: Path, run: Any, make_event: Any) -> None:
    inbox = Inbox(tmp_path / "inbox.db", max_dead_bytes=10_000)
    queue = inbox.delivery_queue("a", Backoff(attempts=1), 1e9)
    [handler_id] = run(queue.register(["recorder/dockhand_event"])).values()
    for number in range(3):
        event = make_event(f"r{number}", str(number), references=[{"x": "y" * 3000}])
        run(inbox.store("", [event]))
        [delivery] = run(queue.claim({handler_id: 1}))
        run(queue.mark_failed(delivery, f"failed {number}"))
    assert reasons(inbox, "") == ["failed 2"]
    inbox.close()


def test_undecodable_bodies_are_limited_and_measured(
    receiver: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limited = Inbox(tmp_path / "inbox.db", max_dead=2)
    receiver.app = create_app(receiver.plugins, limited, tokens=[receiver.token])
    for _ in range(5):
        assert receiver.post(b"\xff\xfe\x00", "staging").status_code == 202
    assert receiver.post(envelope(push(id="good")), "staging").status_code == 202
    assert receiver.stored_events() == [("staging", "good")]
    counts = limited.counts()
    assert (counts.invalid, counts.dead_letters, counts.deleted) == (5, 2, 3)
    metrics = receiver.get("/metrics").text
    assert "dockhand_webhook_dead_letters_deleted_total 3.0" in metrics
    assert caplog.text.count("dead letters of connection 'staging' were deleted") == 1


def test_a_throttled_log_says_how_many_were_left_out(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = ThrottledLog(logging.getLogger("dockhand.test"), logging.ERROR, clock=lambda: now)
    for number in range(3):
        log("number %d", number)
    now = 0.9
    log("number %d", 3)
    now = 1.0
    log("number %d", 4)
    now = 2.5
    log("number %d", 5)
    assert caplog.messages == ["number 0", "number 4 (and 3 more like it before)", "number 5"]
