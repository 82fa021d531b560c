"""Claims, leases, attempts and replays of deliveries, in processes that share an inbox."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from dockhand_webhook import Backoff, ClaimedDelivery, DeadLetterError

from dockhand_core import Plugins
from dockhand_core.events import EventParsers

LEASE = 15.0  # seconds; the same as in the fixture `processes`
HANDLER = "recorder/dockhand_event"


def ids(deliveries: list[ClaimedDelivery]) -> list[str]:
    return [delivery.event.deserialize().id for delivery in deliveries]


def test_a_claim_returns_the_first_delivery_of_each_partition(processes: Any) -> None:
    queue = processes.start("a")
    processes.store("1", "2", repository="one")
    processes.store("3", repository="two")
    processes.store("4", repository="one", connection="staging")
    deliveries = processes.claim(queue)
    assert sorted(ids(deliveries)) == ["1", "3", "4"]
    assert {delivery.partition for delivery in deliveries} == {":one", ":two", "staging:one"}
    assert {
        (delivery.handler, delivery.attempts, delivery.handed_out) for delivery in deliveries
    } == {(HANDLER, 0, None)}
    assert processes.claim(queue) == []


def test_a_claim_is_limited_to_the_partitions_that_wait_longest(processes: Any) -> None:
    queue = processes.start("a")
    for number in range(5):
        processes.store(str(number), repository=f"r{number}")
        processes.clock.now += 1
    assert ids(processes.claim(queue, 2)) == ["0", "1"]
    assert ids(processes.claim(queue, 2)) == ["2", "3"]
    assert ids(processes.claim(queue, 2)) == ["4"]


def test_two_processes_claim_different_partitions(processes: Any) -> None:
    one, two = processes.start("a"), processes.start("b")
    for number in range(4):
        processes.store(str(number), repository=f"r{number}")
    first, second = processes.claim(one, 2), processes.claim(two, 10)
    assert sorted(ids(first) + ids(second)) == ["0", "1", "2", "3"]
    assert len(first) == len(second) == 2


def test_success_returns_the_next_delivery_of_the_partition(processes: Any) -> None:
    queue = processes.start("a")
    processes.store("1", "2", "3")
    delivery: ClaimedDelivery | None = processes.claim_one(queue)
    seen = []
    while delivery is not None:
        seen.append(delivery.event.deserialize().id)
        delivery = processes.run(queue.mark_succeeded(delivery))
    assert seen == ["1", "2", "3"]
    counts = processes.inbox.counts()
    assert (counts.delivered, counts.waiting) == (3, 0)
    processes.store("4")
    assert ids(processes.claim(queue)) == ["4"]


def test_a_released_partition_can_be_claimed_by_another_process(processes: Any) -> None:
    one, two = processes.start("a"), processes.start("b")
    processes.store("1", "2")
    assert processes.run(one.mark_succeeded(processes.claim_one(one), keep_partition=False)) is None
    assert ids(processes.claim(two)) == ["2"]


def test_an_event_waits_while_its_partition_is_claimed(processes: Any) -> None:
    one, two = processes.start("a"), processes.start("b")
    processes.store("1")
    delivery = processes.claim_one(one)
    processes.store("2")
    assert processes.claim(two) == processes.claim(one) == []
    following = processes.run(one.mark_succeeded(delivery))
    assert ids([following]) == ["2"]


def test_a_failed_delivery_is_retried_before_later_events(processes: Any) -> None:
    queue = processes.start("a")
    processes.store("1", "2")
    assert processes.run(queue.mark_failed(processes.claim_one(queue), "no")) is None
    assert processes.claim(queue) == []
    processes.clock.now += 7.9
    assert processes.claim(queue) == []
    processes.clock.now += 4.2  # 12.1 s in all: the longest first wait is 10 s + 20 %
    delivery = processes.claim_one(queue)
    assert (ids([delivery]), delivery.attempts) == (["1"], 1)
    processes.run(queue.mark_failed(delivery, "no"))
    processes.clock.now += 31.9
    assert processes.claim(queue) == []
    processes.clock.now += 16.2  # the second wait is 40 s ± 20 %
    following = processes.run(queue.mark_failed(processes.claim_one(queue), "at last"))
    assert ids([following]) == ["2"]
    assert following.attempts == 0
    [letter] = processes.inbox.dead_letters.page()
    assert (letter.reason, letter.attempts, letter.handler) == ("at last", 3, HANDLER)
    counts = processes.inbox.counts()
    assert (counts.failed, counts.dead, counts.delivered) == (3, 1, 0)


def test_delays_grow_up_to_the_longest() -> None:
    usual = Backoff()
    for failures, middle in ((1, 1.0), (2, 4.0), (3, 16.0), (6, 900.0), (100, 900.0)):
        delays = {usual.delay(failures) for _ in range(50)}
        assert len(delays) > 1
        assert all(0.8 * middle <= delay <= 1.2 * middle for delay in delays)


def test_the_delay_after_very_many_failures_does_not_overflow() -> None:
    assert Backoff(attempts=10**6).delay(5000) <= 900.0 * 1.2


def test_a_process_whose_lease_ended_changes_nothing(
    processes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process has claimed the partition, so the outcomes of the first are ignored."""
    one, two = processes.start("a"), processes.start("b")
    processes.store("1", "2")
    late = processes.claim_one(one)
    processes.clock.now += LEASE - 0.1
    assert processes.claim(two) == []
    processes.clock.now += 0.2
    delivery = processes.claim_one(two)
    assert (ids([delivery]), delivery.attempts) == (["1"], 1)
    caplog.set_level(logging.WARNING)
    assert processes.run(one.mark_succeeded(late)) is None
    assert "stood still" in caplog.text
    assert processes.run(one.mark_failed(late, "no")) is None
    processes.run(one.release(late, 0.0))
    processes.run(one.renew([late]))
    assert processes.run(one.mark_handed_out(late)) is None
    counts = processes.inbox.counts()
    assert (counts.delivered, counts.failed, counts.waiting) == (0, 0, 2)
    assert processes.claim(one) == []
    following = processes.run(two.mark_succeeded(delivery))
    assert ids([following]) == ["2"]
    assert processes.inbox.counts().delivered == 1


def test_a_failure_after_the_lease_ended_adds_no_dead_letter(processes: Any) -> None:
    one, two = processes.start("a", 1), processes.start("b", 2)
    processes.store("1")
    late = processes.claim_one(one)
    processes.clock.now += LEASE + 1
    delivery = processes.claim_one(two)
    assert processes.run(one.mark_failed(late, "no")) is None
    assert processes.inbox.dead_letters.page() == []
    processes.run(two.mark_succeeded(delivery))
    assert processes.inbox.counts().delivered == 1


def test_a_renewed_lease_keeps_the_claim(processes: Any) -> None:
    one, two = processes.start("a"), processes.start("b")
    processes.store("1")
    delivery = processes.claim_one(one)
    for _ in range(5):
        processes.clock.now += LEASE * 0.9
        processes.run(one.renew([delivery]))
        assert processes.claim(two) == []
    processes.clock.now += LEASE + 1
    assert ids(processes.claim(two)) == ["1"]


def test_a_process_that_renews_late_does_not_claim_its_own_delivery_again(processes: Any) -> None:
    queue = processes.start("a")
    processes.store("1")
    delivery = processes.claim_one(queue)
    processes.clock.now += LEASE * 3
    assert processes.run(queue.claim({processes.handler_id: 10}, [delivery])) == []
    processes.run(queue.mark_succeeded(delivery))
    assert processes.inbox.counts().delivered == 1


def test_an_abandoned_delivery_is_claimed_again_after_the_lease(processes: Any) -> None:
    """The process that abandoned the delivery can claim it, too; the abandoned attempt counts."""
    queue = processes.start("a")
    processes.store("1")
    processes.claim_one(queue)
    assert processes.claim(queue) == []
    processes.clock.now += LEASE + 1
    [again] = processes.claim(queue)
    assert (ids([again]), again.attempts) == (["1"], 1)


def test_an_event_that_ends_its_process_each_time_becomes_a_dead_letter(processes: Any) -> None:
    processes.start("0", 3)
    processes.store("bad", "next")
    for attempt in range(3):
        queue = processes.start(f"process {attempt}", 3)
        delivery = processes.claim_one(queue)
        assert (ids([delivery]), delivery.attempts) == (["bad"], attempt)
        processes.clock.now += LEASE + 1
    assert ids(processes.claim(processes.start("last", 3))) == ["next"]
    [letter] = processes.inbox.dead_letters.page()
    assert "the process ended" in letter.reason
    assert (letter.attempts, letter.handler) == (3, HANDLER)
    assert processes.inbox.counts().dead == 1


def test_an_event_that_ends_its_process_leaves_an_empty_partition(processes: Any) -> None:
    processes.start("0", 1)
    processes.store("bad")
    processes.claim_one(processes.start("a", 1))
    processes.clock.now += LEASE + 1
    queue = processes.start("b", 1)
    assert processes.claim(queue) == []
    assert len(processes.inbox.dead_letters.page()) == 1
    processes.store("next")
    assert ids(processes.claim(queue)) == ["next"]


def test_an_interrupted_process_does_not_count_for_a_handed_out_delivery(processes: Any) -> None:
    """The handler runs on another machine, which goes on when this process ends."""
    processes.start("0", 2)
    processes.store("1", "2")
    handed_out = None
    for attempt in range(5):
        queue = processes.start(f"process {attempt}", 2)
        delivery = processes.claim_one(queue)
        assert (delivery.attempts, delivery.handed_out) == (0, handed_out)
        delivery = processes.run(queue.mark_handed_out(delivery))
        handed_out = delivery.handed_out
        assert handed_out == processes.clock.now
        processes.clock.now += LEASE + 1
    queue = processes.start("last", 2)
    delivery = processes.claim_one(queue)
    following = processes.run(queue.mark_succeeded(delivery))
    assert (ids([following]), following.handed_out) == (["2"], None)
    processes.clock.now += LEASE + 1
    [again] = processes.claim(processes.start("one more", 2))
    assert (again.attempts, again.handed_out) == (1, None)  # event 2 had not been handed out


def test_an_interruption_counts_after_handed_out_is_cleared(processes: Any) -> None:
    one, two = processes.start("a"), processes.start("b")
    processes.store("1")
    delivery = processes.run(one.mark_handed_out(processes.claim_one(one)))
    processes.run(one.clear_handed_out(delivery))
    processes.clock.now += LEASE + 1
    again = processes.claim_one(two)
    assert (again.attempts, again.handed_out) == (1, None)


def test_a_failed_delivery_is_no_longer_handed_out(processes: Any) -> None:
    queue = processes.start("a")
    processes.store("1")
    delivery = processes.run(queue.mark_handed_out(processes.claim_one(queue)))
    processes.run(queue.mark_failed(delivery, "no"))
    processes.clock.now += 60
    again = processes.claim_one(queue)
    assert (again.attempts, again.handed_out) == (1, None)


def test_a_released_delivery_is_due_after_the_wait(processes: Any) -> None:
    one, two = processes.start("a"), processes.start("b")
    processes.store("1", "2")
    processes.run(one.release(processes.claim_one(one), 5.0))
    assert processes.claim(two) == []
    processes.clock.now += 5.1
    delivery = processes.claim_one(two)
    assert (ids([delivery]), delivery.attempts) == (["1"], 0)
    delivery = processes.run(two.mark_handed_out(delivery))
    processes.run(two.release(delivery))
    again = processes.claim_one(one)
    assert again.handed_out == delivery.handed_out  # another machine may still run it


def test_a_replayed_event_is_the_next_delivery_of_its_partition(processes: Any) -> None:
    queue = processes.start("a", 1)
    processes.store("1", "2", "3")
    delivery = processes.run(queue.mark_failed(processes.claim_one(queue), "no"))
    assert ids([delivery]) == ["2"]
    [letter] = processes.inbox.dead_letters.page()
    processes.inbox.dead_letters.replay(letter.id, EventParsers(Plugins()))
    assert processes.inbox.dead_letters.page() == []
    seen = []
    while delivery is not None:
        seen.append(delivery.event.deserialize().id)
        delivery = processes.run(queue.mark_succeeded(delivery))
    assert seen == ["2", "1", "3"]
    with pytest.raises(DeadLetterError, match=f"no dead letter {letter.id}"):
        processes.inbox.dead_letters.replay(letter.id, EventParsers(Plugins()))


def test_a_replayed_event_of_an_empty_partition_is_due(processes: Any) -> None:
    queue = processes.start("a", 1)
    processes.store("1")
    processes.run(queue.mark_failed(processes.claim_one(queue), "no"))
    [letter] = processes.inbox.dead_letters.page()
    processes.inbox.dead_letters.replay(letter.id, EventParsers(Plugins()))
    delivery = processes.claim_one(queue)
    assert (ids([delivery]), delivery.attempts) == (["1"], 0)


def test_a_replayed_event_is_due_at_once(processes: Any) -> None:
    """It is due even if the next event of its partition waits for a retry."""
    queue = processes.start("a", 2)
    processes.store("1", "2")
    processes.run(queue.mark_failed(processes.claim_one(queue), "no"))
    processes.clock.now += 60
    delivery = processes.run(queue.mark_failed(processes.claim_one(queue), "no"))
    processes.run(queue.mark_failed(delivery, "no"))
    assert processes.claim(queue) == []
    [letter] = processes.inbox.dead_letters.page()
    processes.inbox.dead_letters.replay(letter.id, EventParsers(Plugins()))
    delivery = processes.claim_one(queue)
    assert ids([delivery]) == ["1"]
    assert (ids([processes.run(queue.mark_succeeded(delivery))])) == ["2"]


def test_an_event_of_an_unknown_handler_cannot_be_replayed(processes: Any) -> None:
    queue = processes.start("a", 1)
    processes.store("1")
    processes.run(queue.mark_failed(processes.claim_one(queue), "no"))
    processes.inbox.forget_handler(HANDLER)
    [letter] = processes.inbox.dead_letters.page()
    with pytest.raises(DeadLetterError, match="not known any more"):
        processes.inbox.dead_letters.replay(letter.id, EventParsers(Plugins()))
    processes.start("b", 1)
    processes.inbox.dead_letters.replay(letter.id, EventParsers(Plugins()))
    assert processes.inbox.counts().waiting == 1


def test_each_handler_has_its_own_partitions(processes: Any) -> None:
    handlers = ["x/dockhand_event", "y/dockhand_manifest_pushed", "z/dockhand_tag_deleted"]
    queue = processes.start("a", 3, *handlers)
    processes.store("1", "2")
    handler_ids = processes.run(queue.register(handlers))
    deliveries = processes.run(queue.claim(dict.fromkeys(handler_ids.values(), 5)))
    assert {(delivery.handler, delivery.event.deserialize().id) for delivery in deliveries} == {
        ("x/dockhand_event", "1"), ("y/dockhand_manifest_pushed", "1"),
    }  # fmt: skip
    by_handler = {delivery.handler: delivery for delivery in deliveries}
    processes.run(queue.mark_failed(by_handler["x/dockhand_event"], "no"))
    following = processes.run(queue.mark_succeeded(by_handler["y/dockhand_manifest_pushed"]))
    assert ids([following]) == ["2"]


def test_the_id_of_a_removed_handler_is_not_reused(processes: Any) -> None:
    """Otherwise a process that still knows the old handler would claim the new one's events."""
    old = processes.start("a", 3, "old/dockhand_event")
    old_id = processes.handler_id
    processes.inbox.forget_handler("old/dockhand_event")
    processes.start("b", 3, "new/dockhand_event")
    processes.store("1")
    assert processes.claim(old, handler_id=old_id) == []
    assert processes.inbox.counts().handlers["new/dockhand_event"].waiting == 1


def test_an_outcome_of_a_removed_handler_is_ignored(processes: Any) -> None:
    queue = processes.start("a")
    processes.store("1", "2")
    delivery = processes.claim_one(queue)
    assert processes.inbox.forget_handler(HANDLER) == 2
    assert processes.run(queue.mark_succeeded(delivery)) is None
    assert processes.inbox.counts().handlers == {}
    assert processes.inbox.counts().waiting == 0


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_an_outcome_recorded_twice_counts_once(processes: Any, outcome: str) -> None:
    queue = processes.start("a", 1)
    processes.store("1")
    delivery = processes.claim_one(queue)
    record: Callable[[], Any] = {
        "succeeded": lambda: queue.mark_succeeded(delivery),
        "failed": lambda: queue.mark_failed(delivery, "no"),
    }[outcome]
    for _ in range(2):
        assert processes.run(record()) is None
    counts = processes.inbox.counts()
    assert (counts.delivered, counts.failed) == ((1, 0) if outcome == "succeeded" else (0, 1))
    assert counts.dead_letters == (outcome == "failed")
