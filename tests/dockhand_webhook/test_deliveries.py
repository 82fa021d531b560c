"""Claims, leases and attempts: what the processes that share an inbox may do, and when."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from dockhand_webhook import Backoff, Job, LetterError

from dockhand_core import Plugins
from dockhand_core.events import EventParsers

LEASE = 15.0  # as the processes of the fixture have it
NAME = "told/dockhand_event"


def ids(jobs: list[Job]) -> list[str]:
    return [job.stored.event().id for job in jobs]


def test_a_claim_has_the_first_of_each_lane(owners: Any) -> None:
    lanes = owners.process("a")
    owners.arrive("1", "2", repository="one")
    owners.arrive("3", repository="two")
    owners.arrive("4", repository="one", connection="staging")
    jobs = owners.claim(lanes)
    assert sorted(ids(jobs)) == ["1", "3", "4"]
    assert {job.lane for job in jobs} == {":one", ":two", "staging:one"}
    assert {(job.handler, job.attempts, job.handed) for job in jobs} == {(NAME, 0, None)}
    assert owners.claim(lanes) == []


def test_no_more_than_there_is_room_for(owners: Any) -> None:
    lanes = owners.process("a")
    for number in range(5):
        owners.arrive(str(number), repository=f"r{number}")
        owners.clock.now += 1
    assert ids(owners.claim(lanes, 2)) == ["0", "1"]  # those that wait longest
    assert ids(owners.claim(lanes, 2)) == ["2", "3"]
    assert ids(owners.claim(lanes, 2)) == ["4"]


def test_two_processes_share(owners: Any) -> None:
    one, two = owners.process("a"), owners.process("b")
    for number in range(4):
        owners.arrive(str(number), repository=f"r{number}")
    first, second = owners.claim(one, 2), owners.claim(two, 10)
    assert sorted(ids(first) + ids(second)) == ["0", "1", "2", "3"]
    assert len(first) == len(second) == 2


def test_success_goes_on_with_the_next(owners: Any) -> None:
    lanes = owners.process("a")
    owners.arrive("1", "2", "3")
    job: Job | None = owners.one(lanes)
    seen = []
    while job is not None:
        seen.append(job.stored.event().id)
        job = owners.do(lanes.succeeded(job))
    assert seen == ["1", "2", "3"]
    counts = owners.inbox.counts()
    assert (counts.delivered, counts.waiting) == (3, 0)
    owners.arrive("4")
    assert ids(owners.claim(lanes)) == ["4"]


def test_a_lane_that_is_let_go_is_anybodys(owners: Any) -> None:
    one, two = owners.process("a"), owners.process("b")
    owners.arrive("1", "2")
    assert owners.do(one.succeeded(owners.one(one), go_on=False)) is None
    assert ids(owners.claim(two)) == ["2"]


def test_what_arrives_while_a_lane_is_claimed_waits(owners: Any) -> None:
    one, two = owners.process("a"), owners.process("b")
    owners.arrive("1")
    job = owners.one(one)
    owners.arrive("2")
    assert owners.claim(two) == owners.claim(one) == []
    following = owners.do(one.succeeded(job))
    assert ids([following]) == ["2"]


def test_a_failure_waits_and_then_is_first(owners: Any) -> None:
    lanes = owners.process("a")
    owners.arrive("1", "2")
    assert owners.do(lanes.failed(owners.one(lanes), "no")) is None
    assert owners.claim(lanes) == []
    owners.clock.now += 7.9
    assert owners.claim(lanes) == []
    owners.clock.now += 4.2  # 10 s, more or less a fifth
    job = owners.one(lanes)
    assert (ids([job]), job.attempts) == (["1"], 1)
    owners.do(lanes.failed(job, "no"))
    owners.clock.now += 31.9
    assert owners.claim(lanes) == []
    owners.clock.now += 16.2  # 40 s
    following = owners.do(lanes.failed(owners.one(lanes), "at last"))
    assert ids([following]) == ["2"]
    assert following.attempts == 0
    [letter] = owners.inbox.letters.held()
    assert (letter.reason, letter.attempts, letter.handler) == ("at last", 3, NAME)
    counts = owners.inbox.counts()
    assert (counts.failed, counts.dead, counts.delivered) == (3, 1, 0)


def test_waits() -> None:
    usual = Backoff()
    for failed, middle in ((1, 1.0), (2, 4.0), (3, 16.0), (6, 900.0), (100, 900.0)):
        waits = {usual.wait(failed) for _ in range(50)}
        assert len(waits) > 1
        assert all(0.8 * middle <= wait <= 1.2 * middle for wait in waits)


def test_waits_after_very_many_attempts() -> None:
    assert Backoff(attempts=10**6).wait(5000) <= 900.0 * 1.2


def test_a_lease_ends(owners: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Another process takes over, and what the first one says afterwards changes nothing."""
    one, two = owners.process("a"), owners.process("b")
    owners.arrive("1", "2")
    late = owners.one(one)
    owners.clock.now += LEASE - 0.1
    assert owners.claim(two) == []
    owners.clock.now += 0.2
    job = owners.one(two)
    assert (ids([job]), job.attempts) == (["1"], 1)
    caplog.set_level(logging.WARNING)
    assert owners.do(one.succeeded(late)) is None
    assert "stood still" in caplog.text
    assert owners.do(one.failed(late, "no")) is None
    owners.do(one.give_back(late, 0.0))
    owners.do(one.renew([late]))
    assert owners.do(one.hand_out(late)) is None
    counts = owners.inbox.counts()
    assert (counts.delivered, counts.failed, counts.waiting) == (0, 0, 2)
    assert owners.claim(one) == []
    following = owners.do(two.succeeded(job))
    assert ids([following]) == ["2"]
    assert owners.inbox.counts().delivered == 1


def test_a_late_failure_buries_nothing(owners: Any) -> None:
    one, two = owners.process("a", 1), owners.process("b", 2)
    owners.arrive("1")
    late = owners.one(one)
    owners.clock.now += LEASE + 1
    job = owners.one(two)
    assert owners.do(one.failed(late, "no")) is None
    assert owners.inbox.letters.held() == []
    owners.do(two.succeeded(job))
    assert owners.inbox.counts().delivered == 1


def test_a_lease_that_is_renewed(owners: Any) -> None:
    one, two = owners.process("a"), owners.process("b")
    owners.arrive("1")
    job = owners.one(one)
    for _ in range(5):
        owners.clock.now += LEASE * 0.9
        owners.do(one.renew([job]))
        assert owners.claim(two) == []
    owners.clock.now += LEASE + 1
    assert ids(owners.claim(two)) == ["1"]


def test_a_process_that_is_late_does_not_claim_what_it_has(owners: Any) -> None:
    lanes = owners.process("a")
    owners.arrive("1")
    job = owners.one(lanes)
    owners.clock.now += LEASE * 3
    assert owners.do(lanes.claim({owners.number: 10}, [job])) == []
    owners.do(lanes.succeeded(job))
    assert owners.inbox.counts().delivered == 1


def test_what_broke_off_in_a_process_is_not_held_by_it(owners: Any) -> None:
    """Not for longer than the lease, and as an attempt."""
    lanes = owners.process("a")
    owners.arrive("1")
    owners.one(lanes)
    assert owners.claim(lanes) == []
    owners.clock.now += LEASE + 1
    [again] = owners.claim(lanes)
    assert (ids([again]), again.attempts) == (["1"], 1)


def test_what_ends_its_process_each_time_is_buried(owners: Any) -> None:
    owners.process("0", 3)
    owners.arrive("bad", "next")
    for attempt in range(3):
        lanes = owners.process(f"process {attempt}", 3)
        job = owners.one(lanes)
        assert (ids([job]), job.attempts) == (["bad"], attempt)
        owners.clock.now += LEASE + 1
    assert ids(owners.claim(owners.process("last", 3))) == ["next"]
    [letter] = owners.inbox.letters.held()
    assert "the process ended" in letter.reason
    assert (letter.attempts, letter.handler) == (3, NAME)
    assert owners.inbox.counts().dead == 1


def test_the_only_one_of_its_lane_is_buried_too(owners: Any) -> None:
    owners.process("0", 1)
    owners.arrive("bad")
    owners.one(owners.process("a", 1))
    owners.clock.now += LEASE + 1
    lanes = owners.process("b", 1)
    assert owners.claim(lanes) == []
    assert len(owners.inbox.letters.held()) == 1
    owners.arrive("next")
    assert ids(owners.claim(lanes)) == ["next"]


def test_what_is_handed_out_does_not_count(owners: Any) -> None:
    """Another machine has it, which was not hurt when this process ended."""
    owners.process("0", 2)
    owners.arrive("1", "2")
    handed = None
    for attempt in range(5):
        lanes = owners.process(f"process {attempt}", 2)
        job = owners.one(lanes)
        assert (job.attempts, job.handed) == (0, handed)
        job = owners.do(lanes.hand_out(job))
        handed = job.handed
        assert handed == owners.clock.now
        owners.clock.now += LEASE + 1
    lanes = owners.process("last", 2)
    job = owners.one(lanes)
    following = owners.do(lanes.succeeded(job))
    assert (ids([following]), following.handed) == (["2"], None)
    owners.clock.now += LEASE + 1
    [again] = owners.claim(owners.process("one more", 2))
    assert (again.attempts, again.handed) == (1, None)  # nobody had handed it out


def test_what_is_handed_in_counts_again(owners: Any) -> None:
    one, two = owners.process("a"), owners.process("b")
    owners.arrive("1")
    job = owners.do(one.hand_out(owners.one(one)))
    owners.do(one.hand_in(job))
    owners.clock.now += LEASE + 1
    again = owners.one(two)
    assert (again.attempts, again.handed) == (1, None)


def test_what_failed_is_not_handed_out_any_more(owners: Any) -> None:
    lanes = owners.process("a")
    owners.arrive("1")
    owners.do(lanes.failed(owners.do(lanes.hand_out(owners.one(lanes))), "no"))
    owners.clock.now += 60
    again = owners.one(lanes)
    assert (again.attempts, again.handed) == (1, None)


def test_to_give_back(owners: Any) -> None:
    one, two = owners.process("a"), owners.process("b")
    owners.arrive("1", "2")
    owners.do(one.give_back(owners.one(one), 5.0))
    assert owners.claim(two) == []
    owners.clock.now += 5.1
    job = owners.one(two)
    assert (ids([job]), job.attempts) == (["1"], 0)
    job = owners.do(two.hand_out(job))
    owners.do(two.give_back(job))
    again = owners.one(one)
    assert again.handed == job.handed  # which may be with another machine still


def test_a_replayed_event_goes_to_the_head_of_its_lane(owners: Any) -> None:
    lanes = owners.process("a", 1)
    owners.arrive("1", "2", "3")
    job = owners.do(lanes.failed(owners.one(lanes), "no"))
    assert ids([job]) == ["2"]
    [letter] = owners.inbox.letters.held()
    owners.inbox.letters.replay(letter.id, EventParsers(Plugins()))
    assert owners.inbox.letters.held() == []
    seen = []
    while job is not None:
        seen.append(job.stored.event().id)
        job = owners.do(lanes.succeeded(job))
    assert seen == ["2", "1", "3"]
    with pytest.raises(LetterError, match=f"no dead letter {letter.id}"):
        owners.inbox.letters.replay(letter.id, EventParsers(Plugins()))


def test_a_replayed_event_of_a_lane_that_is_no_more(owners: Any) -> None:
    lanes = owners.process("a", 1)
    owners.arrive("1")
    owners.do(lanes.failed(owners.one(lanes), "no"))
    [letter] = owners.inbox.letters.held()
    owners.inbox.letters.replay(letter.id, EventParsers(Plugins()))
    job = owners.one(lanes)
    assert (ids([job]), job.attempts) == (["1"], 0)


def test_a_replayed_event_waits_for_nothing(owners: Any) -> None:
    """Though the next one of its lane waits for another attempt."""
    lanes = owners.process("a", 2)
    owners.arrive("1", "2")
    owners.do(lanes.failed(owners.one(lanes), "no"))
    owners.clock.now += 60
    job = owners.do(lanes.failed(owners.one(lanes), "no"))
    owners.do(lanes.failed(job, "no"))
    assert owners.claim(lanes) == []
    [letter] = owners.inbox.letters.held()
    owners.inbox.letters.replay(letter.id, EventParsers(Plugins()))
    job = owners.one(lanes)
    assert ids([job]) == ["1"]
    assert (ids([owners.do(lanes.succeeded(job))])) == ["2"]


def test_a_letter_of_an_unknown_handler(owners: Any) -> None:
    lanes = owners.process("a", 1)
    owners.arrive("1")
    owners.do(lanes.failed(owners.one(lanes), "no"))
    owners.inbox.forget_handler(NAME)
    [letter] = owners.inbox.letters.held()
    with pytest.raises(LetterError, match="not known any more"):
        owners.inbox.letters.replay(letter.id, EventParsers(Plugins()))
    owners.process("b", 1)
    owners.inbox.letters.replay(letter.id, EventParsers(Plugins()))
    assert owners.inbox.counts().waiting == 1


def test_handlers_have_lanes_of_their_own(owners: Any) -> None:
    lanes = owners.process("a", 3, "x/dockhand_event", "y/dockhand_manifest_pushed",
                           "z/dockhand_tag_deleted")  # fmt: skip
    owners.arrive("1", "2")
    numbers = owners.do(lanes.register(["x/dockhand_event", "y/dockhand_manifest_pushed",
                                        "z/dockhand_tag_deleted"]))  # fmt: skip
    jobs = owners.do(lanes.claim(dict.fromkeys(numbers.values(), 5)))
    assert {(job.handler, job.stored.event().id) for job in jobs} == {
        ("x/dockhand_event", "1"), ("y/dockhand_manifest_pushed", "1"),
    }  # fmt: skip
    by_handler = {job.handler: job for job in jobs}
    owners.do(lanes.failed(by_handler["x/dockhand_event"], "no"))
    following = owners.do(lanes.succeeded(by_handler["y/dockhand_manifest_pushed"]))
    assert ids([following]) == ["2"]


def test_a_forgotten_handlers_number_is_nobody_elses(owners: Any) -> None:
    """A process that still has the old one would be given the new one's events."""
    old = owners.process("a", 3, "old/dockhand_event")
    number = owners.number
    owners.inbox.forget_handler("old/dockhand_event")
    owners.process("b", 3, "new/dockhand_event")
    owners.arrive("1")
    assert owners.claim(old, number=number) == []
    assert owners.inbox.counts().handlers["new/dockhand_event"].waiting == 1


def test_a_job_of_a_handler_that_was_forgotten_meanwhile(owners: Any) -> None:
    lanes = owners.process("a")
    owners.arrive("1", "2")
    job = owners.one(lanes)
    assert owners.inbox.forget_handler(NAME) == 2
    assert owners.do(lanes.succeeded(job)) is None
    assert owners.inbox.counts().handlers == {}
    assert owners.inbox.counts().waiting == 0


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_noting_twice_counts_once(owners: Any, outcome: str) -> None:
    lanes = owners.process("a", 1)
    owners.arrive("1")
    job = owners.one(lanes)
    note: Callable[[], Any] = {
        "succeeded": lambda: lanes.succeeded(job),
        "failed": lambda: lanes.failed(job, "no"),
    }[outcome]
    for _ in range(2):
        assert owners.do(note()) is None
    counts = owners.inbox.counts()
    assert (counts.delivered, counts.failed) == ((1, 0) if outcome == "succeeded" else (0, 1))
    assert counts.letters == (outcome == "failed")
