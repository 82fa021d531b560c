"""Who is to be told of what, and who is about to: deliveries and lanes.

A lane is what has to go in order: a handler's events of one repository. Its first delivery is the
one that is under way or waits for its next attempt, and those behind it wait for that one alone. A
process claims a lane for a time (a lease) and renews it; what a process that died had claimed, is
another one's when that time is over.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from dockhand_webhook.inbox.database import Database, Transaction
from dockhand_webhook.inbox.dead_letters import Delivery, bury
from dockhand_webhook.inbox.event_codec import Stored

__all__ = ["Backoff", "Job", "Lanes"]

_log = logging.getLogger("dockhand.webhook")

SCHEMA = """
CREATE TABLE handlers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    hook TEXT NOT NULL,
    seen REAL NOT NULL
);
CREATE TABLE deliveries (
    handler INTEGER NOT NULL,
    lane TEXT NOT NULL,
    event INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    handed REAL,
    PRIMARY KEY (handler, lane, event)
) WITHOUT ROWID;
CREATE TABLE lanes (
    handler INTEGER NOT NULL,
    lane TEXT NOT NULL,
    due REAL NOT NULL,
    owner TEXT,
    PRIMARY KEY (handler, lane)
) WITHOUT ROWID;
CREATE INDEX lanes_due ON lanes (handler, due);
"""
_JOB = "seq, attempts, handed, kind, data, connection"
# A delivery, where its lane is this process's.
_ITS = (
    "WHERE handler = ? AND lane = ? AND event = ? "
    "AND EXISTS (SELECT 1 FROM lanes WHERE handler = ? AND lane = ? AND owner = ?)"
)
_HAND = f"UPDATE deliveries SET handed = ? {_ITS}"  # noqa: S608  # ours
_DONE = f"DELETE FROM deliveries {_ITS}"  # noqa: S608  # ours
# A lane's `due` is when anybody may claim it: for one that is claimed, the end of the lease.


@dataclass(frozen=True, slots=True)
class Backoff:
    """When a failed delivery is tried again.

    Attributes:
        attempts: so many in all, before the event is put among the dead letters.
        first: seconds before the second attempt.
        factor: by what the next wait is longer.
        longest: seconds that no wait exceeds.
    """

    attempts: int = 8
    first: float = 1.0
    factor: float = 4.0
    longest: float = 900.0

    def wait(self, failed: int) -> float:
        """Seconds to wait after so many failed attempts; a little random, to spread a burst."""
        try:
            wait = min(self.longest, self.first * self.factor ** (failed - 1))
        except OverflowError:
            wait = self.longest
        return wait * random.uniform(0.8, 1.2)


@dataclass(frozen=True, slots=True)
class Job:
    """A delivery that this process may make now.

    Attributes:
        handler: the handler's name.
        number: the handler's number in the inbox.
        lane: `connection:repository`.
        event: the event's place in the order of arrival.
        attempts: how many failed before.
        stored: the event.
        handed: when it was handed to another machine, in seconds since 1970; None if it was not.
    """

    handler: str
    number: int
    lane: str
    event: int
    attempts: int
    stored: Stored
    handed: float | None = None


class Lanes:
    """The deliveries of one process.

    Args:
        database: the inbox's.
        owner: a name that no other process has, nor had.
        backoff: when failed deliveries are tried again.
        lease: seconds that a claim holds unless it is renewed.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        owner: str,
        *,
        backoff: Backoff,
        lease: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._owner, self._clock = database, owner, clock
        self.backoff, self.lease = backoff, lease
        self._names: dict[int, str] = {}

    async def register(self, handlers: Iterable[str]) -> dict[str, int]:
        """Make handlers known: those that are new are told of what arrives from now on.

        Returns:
            each one's number.
        """
        names = tuple(handlers)

        def work(transaction: Transaction) -> dict[str, int]:
            numbers = {}
            for name in names:
                transaction.execute(
                    "INSERT INTO handlers (name, hook, seen) VALUES (?, ?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET seen = excluded.seen",
                    (name, name.rpartition("/")[2], self._clock()),
                )
                [(numbers[name],)] = transaction.execute(
                    "SELECT id FROM handlers WHERE name = ?", (name,)
                )
            return numbers

        numbers = await self._database.run(work)
        self._names = {number: name for name, number in numbers.items()}
        return numbers

    async def claim(self, free: Mapping[int, int], held: Iterable[Job] = ()) -> list[Job]:
        """The first deliveries of lanes that wait for nobody, now claimed by this process.

        Args:
            free: how many of each handler, by its number.
            held: what is under way in this process. It may be late to be renewed, and is not
                claimed a second time.
        """
        ours = {(job.number, job.lane) for job in held}

        def work(transaction: Transaction) -> list[Job]:
            found = []
            for number, most in free.items():
                found += self._due(transaction, number, most, ours)
            return found

        return await self._database.run(work)

    def _due(
        self, transaction: Transaction, number: int, most: int, ours: Set[tuple[int, str]]
    ) -> list[Job]:
        """Claim the lanes of a handler that are due, for their first deliveries."""
        now = self._clock()
        rows = transaction.execute(
            f"SELECT lanes.lane, owner, {_JOB} FROM lanes "  # noqa: S608  # ours
            "LEFT JOIN events ON seq = (SELECT MIN(event) FROM deliveries "
            "WHERE deliveries.handler = lanes.handler AND deliveries.lane = lanes.lane) "
            "LEFT JOIN deliveries ON deliveries.handler = lanes.handler "
            "AND deliveries.lane = lanes.lane AND event = seq "
            "WHERE lanes.handler = ? AND due <= ? ORDER BY due LIMIT ?",
            (number, now, most),
        ).fetchall()
        jobs = []
        for lane, owner, *found in rows:
            if (number, lane) in ours:
                continue
            if found[0] is None:
                self._close(transaction, number, lane)
                continue
            job = self._job(number, lane, found)
            # Its process died, or stood still, while the handler ran. One that is handed out runs
            # elsewhere, and was not hurt by that.
            if owner is None or job.handed is not None:
                jobs.append(job)
            elif (following := self._crashed(transaction, job)) is not None:
                jobs.append(following)
        if jobs:
            places = ", ".join("?" * len(jobs))
            transaction.execute(
                f"UPDATE lanes SET owner = ?, due = ? WHERE handler = ? AND lane IN ({places})",  # noqa: S608
                (self._owner, now + self.lease, number, *(job.lane for job in jobs)),
            )
        return jobs

    def _crashed(self, transaction: Transaction, job: Job) -> Job | None:
        """Count an attempt that ended its process; after too many the next delivery is first."""
        tried = replace(job, attempts=job.attempts + 1)
        if tried.attempts < self.backoff.attempts:
            self._tried(transaction, tried)
            return tried
        transaction.execute(
            "DELETE FROM deliveries WHERE handler = ? AND lane = ? AND event = ?",
            (job.number, job.lane, job.event),
        )
        self._bury(transaction, tried, "the process ended while it ran, each time")
        return self._first(transaction, job.number, job.lane)

    def _first(self, transaction: Transaction, number: int, lane: str) -> Job | None:
        """A lane's first delivery; a lane without one is no more."""
        row = transaction.execute(
            f"SELECT {_JOB} FROM deliveries JOIN events "  # noqa: S608  # ours
            "ON seq = event WHERE handler = ? AND deliveries.lane = ? ORDER BY event LIMIT 1",
            (number, lane),
        ).fetchone()
        if row is None:
            self._close(transaction, number, lane)
            return None
        return self._job(number, lane, row)

    def _job(self, number: int, lane: str, row: Sequence[Any]) -> Job:
        event, attempts, handed, *stored = row
        return Job(self._names[number], number, lane, event, attempts, Stored(*stored), handed)

    def _close(self, transaction: Transaction, number: int, lane: str) -> None:
        transaction.execute("DELETE FROM lanes WHERE handler = ? AND lane = ?", (number, lane))

    async def succeeded(self, job: Job, *, go_on: bool = True) -> Job | None:
        """Note that a handler is done with an event.

        Args:
            job: what it was.
            go_on: keep the lane for its next delivery.

        Returns:
            the next delivery of the lane, claimed as well; None where there is none, or it was
            given back.
        """

        def work(transaction: Transaction) -> Job | None:
            if not self._done(transaction, job):
                return None
            transaction.counts["delivered", job.number] += 1
            return self._next(transaction, job, go_on=go_on)

        return await self._database.run(work)

    async def failed(self, job: Job, error: str, *, go_on: bool = True) -> Job | None:
        """Note that a handler failed: it waits for its next attempt, or is a dead letter.

        Args:
            job: what it was.
            error: what is kept of why; no more than a few lines.
            go_on: as for `succeeded`.
        """

        def work(transaction: Transaction) -> Job | None:
            tried = replace(job, attempts=job.attempts + 1)
            if tried.attempts >= self.backoff.attempts:
                if not self._done(transaction, job):
                    return None
                transaction.counts["failed", job.number] += 1
                self._bury(transaction, tried, error)
                return self._next(transaction, job, go_on=go_on)
            if self._free(transaction, job, self.backoff.wait(tried.attempts)):
                transaction.counts["failed", job.number] += 1
                self._tried(transaction, tried)
            return None

        return await self._database.run(work)

    async def give_back(self, job: Job, wait: float = 0.0) -> None:
        """Leave a delivery that was not made to whoever comes first, in some seconds."""
        await self._database.run(lambda transaction: self._free(transaction, job, wait))

    async def hand_out(self, job: Job) -> Job | None:
        """Note that another machine is about to be given it.

        Returns:
            the job with that time; None where the lane is another process's by now.
        """
        return await self._hand(replace(job, handed=self._clock()))

    async def hand_in(self, job: Job) -> None:
        """Note that no other machine has it, nor will."""
        await self._hand(replace(job, handed=None))

    async def _hand(self, job: Job) -> Job | None:
        def work(transaction: Transaction) -> Job | None:
            lane = (job.number, job.lane)
            noted = transaction.execute(_HAND, (job.handed, *lane, job.event, *lane, self._owner))
            return job if self._is_ours(job, noted.rowcount) else None

        return await self._database.run(work)

    async def renew(self, jobs: Iterable[Job]) -> None:
        """Keep the lanes of these jobs for another lease, and the handlers known."""
        lanes = [(job.number, job.lane) for job in jobs]

        def work(transaction: Transaction) -> None:
            now = self._clock()
            for lane in lanes:
                transaction.execute(
                    "UPDATE lanes SET due = ? WHERE handler = ? AND lane = ? AND owner = ?",
                    (now + self.lease, *lane, self._owner),
                )
            for number in self._names:
                transaction.execute("UPDATE handlers SET seen = ? WHERE id = ?", (now, number))

        await self._database.run(work)

    def _is_ours(self, job: Job, changed: int) -> bool:
        if not changed:
            _log.warning(
                "%s: event %d: this process stood still for longer than its lease, and another "
                "one has the event", job.handler, job.event,
            )  # fmt: skip
        return changed > 0

    def _done(self, transaction: Transaction, job: Job) -> bool:
        """Remove a delivery, and say whether its lane was this process's."""
        lane = (job.number, job.lane)
        done = transaction.execute(_DONE, (*lane, job.event, *lane, self._owner))
        return self._is_ours(job, done.rowcount)

    def _tried(self, transaction: Transaction, job: Job) -> None:
        transaction.execute(
            "UPDATE deliveries SET attempts = ?, handed = NULL "
            "WHERE handler = ? AND lane = ? AND event = ?",
            (job.attempts, job.number, job.lane, job.event),
        )

    def _bury(self, transaction: Transaction, job: Job, error: str) -> None:
        delivery = Delivery(job.handler, job.event, job.attempts)
        bury(transaction, self._clock(), error, job.stored.connection, delivery)
        transaction.counts["dead", job.number] += 1

    def _next(self, transaction: Transaction, job: Job, *, go_on: bool) -> Job | None:
        if not go_on:
            self._free(transaction, job, 0.0)
            return None
        return self._first(transaction, job.number, job.lane)

    def _free(self, transaction: Transaction, job: Job, wait: float) -> bool:
        """Let go of a lane for some seconds, and say whether it was this process's."""
        freed = transaction.execute(
            "UPDATE lanes SET owner = NULL, due = ? WHERE handler = ? AND lane = ? AND owner = ?",
            (self._clock() + wait, job.number, job.lane, self._owner),
        )
        return self._is_ours(job, freed.rowcount)
