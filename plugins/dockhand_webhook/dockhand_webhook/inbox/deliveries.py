"""Deliveries of events to handlers: claims, leases, retries.

A delivery is one event for one handler. The deliveries of a handler are divided into partitions,
one for each connection and repository. Within a partition, deliveries are made in order of arrival:
while the first delivery is in progress or waits for its next attempt, the later deliveries wait.

A process claims a partition for a limited time (the lease) and renews the lease while it works. If
the process dies, another process claims the partition after the lease has ended.

In the tables, a partition is called `lane`. The column `due` is the time from which any process may
claim the partition. If the partition is claimed, `due` is the end of the lease.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from dockhand_webhook.inbox.backoff import Backoff
from dockhand_webhook.inbox.database import Database, Transaction
from dockhand_webhook.inbox.dead_letters import FailedDelivery, add_dead_letter
from dockhand_webhook.inbox.event_codec import SerializedEvent

__all__ = ["ClaimedDelivery", "DeliveryQueue"]

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
_COLUMNS = "seq, attempts, handed, kind, data, connection"
# An SQL condition that matches a delivery only if this process has claimed its partition.
_WHERE_CLAIMED = (
    "WHERE handler = ? AND lane = ? AND event = ? "
    "AND EXISTS (SELECT 1 FROM lanes WHERE handler = ? AND lane = ? AND owner = ?)"
)
_SET_HANDED = f"UPDATE deliveries SET handed = ? {_WHERE_CLAIMED}"  # noqa: S608  # a constant
_DELETE = f"DELETE FROM deliveries {_WHERE_CLAIMED}"  # noqa: S608  # a constant


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery whose partition this process has claimed.

    Attributes:
        handler: the handler's name.
        handler_id: the handler's id in the inbox.
        partition: `connection:repository`.
        sequence: the event's position in the order of arrival.
        attempts: number of failed attempts so far.
        event: the event.
        handed_out: time at which the delivery was handed out to another machine, in seconds since
            1970; None if it is not handed out.
    """

    handler: str
    handler_id: int
    partition: str
    sequence: int
    attempts: int
    event: SerializedEvent
    handed_out: float | None = None


class DeliveryQueue:
    """The deliveries of an inbox, which one process claims through this object.

    Args:
        database: the inbox's database.
        owner: the name under which this process claims; no other process may ever have used it.
        backoff: when failed deliveries are retried, and how often.
        lease: seconds for which a claim is valid unless it is renewed.
        clock: returns the time, in seconds since 1970.
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
        self._handler_names: dict[int, str] = {}

    async def register(self, handlers: Iterable[str]) -> dict[str, int]:
        """Register handlers by name. A new handler gets no events that were stored before.

        Returns:
            the id of each handler, by the handler's name.
        """
        names = tuple(handlers)

        def work(transaction: Transaction) -> dict[str, int]:
            ids = {}
            for name in names:
                transaction.execute(
                    "INSERT INTO handlers (name, hook, seen) VALUES (?, ?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET seen = excluded.seen",
                    (name, name.rpartition("/")[2], self._clock()),
                )
                [(ids[name],)] = transaction.execute(
                    "SELECT id FROM handlers WHERE name = ?", (name,)
                )
            return ids

        ids = await self._database.write_async(work)
        self._handler_names = {id_: name for name, id_ in ids.items()}
        return ids

    async def claim(
        self, capacity: Mapping[int, int], in_progress: Iterable[ClaimedDelivery] = ()
    ) -> list[ClaimedDelivery]:
        """Claim partitions that are due. Partitions that have waited longest come first.

        Args:
            capacity: maximum number of partitions to claim, by handler id.
            in_progress: deliveries in progress in this process. Their partitions are not claimed a
                second time, even if their leases have ended because of a late renewal.

        Returns:
            the first delivery of each claimed partition.
        """
        held = {(delivery.handler_id, delivery.partition) for delivery in in_progress}

        def work(transaction: Transaction) -> list[ClaimedDelivery]:
            claimed = []
            for handler_id, limit in capacity.items():
                claimed += self._claim_due(transaction, handler_id, limit, held)
            return claimed

        return await self._database.write_async(work)

    def _claim_due(
        self, transaction: Transaction, handler_id: int, limit: int, held: Set[tuple[int, str]]
    ) -> list[ClaimedDelivery]:
        """Claim the due partitions of one handler."""
        now = self._clock()
        rows = transaction.execute(
            f"SELECT lanes.lane, owner, {_COLUMNS} FROM lanes "  # noqa: S608  # a constant
            "LEFT JOIN events ON seq = (SELECT MIN(event) FROM deliveries "
            "WHERE deliveries.handler = lanes.handler AND deliveries.lane = lanes.lane) "
            "LEFT JOIN deliveries ON deliveries.handler = lanes.handler "
            "AND deliveries.lane = lanes.lane AND event = seq "
            "WHERE lanes.handler = ? AND due <= ? ORDER BY due LIMIT ?",
            (handler_id, now, limit),
        ).fetchall()
        claimed = []
        for partition, owner, *columns in rows:
            if (handler_id, partition) in held:
                continue
            if columns[0] is None:
                self._delete_partition(transaction, handler_id, partition)
                continue
            delivery = self._from_row(handler_id, partition, columns)
            # If a due partition has an owner, the owner's process died or stalled during the
            # attempt, so the attempt failed. But if the delivery was handed out, the handler runs
            # on another machine and was not interrupted.
            if owner is None or delivery.handed_out is not None:
                claimed.append(delivery)
            elif (current := self._count_interrupted(transaction, delivery)) is not None:
                claimed.append(current)
        if claimed:
            marks = ", ".join("?" * len(claimed))
            partitions = [delivery.partition for delivery in claimed]
            transaction.execute(
                f"UPDATE lanes SET owner = ?, due = ? WHERE handler = ? AND lane IN ({marks})",  # noqa: S608
                (self._owner, now + self.lease, handler_id, *partitions),
            )
        return claimed

    def _count_interrupted(
        self, transaction: Transaction, delivery: ClaimedDelivery
    ) -> ClaimedDelivery | None:
        """Count an attempt as failed, because its process ended before the attempt was over.

        Returns:
            the delivery, to be tried again. If this was its last attempt, the next delivery of the
            partition, or None if there is none.
        """
        failed = replace(delivery, attempts=delivery.attempts + 1)
        if failed.attempts < self.backoff.attempts:
            self._store_attempts(transaction, failed)
            return failed
        transaction.execute(
            "DELETE FROM deliveries WHERE handler = ? AND lane = ? AND event = ?",
            (delivery.handler_id, delivery.partition, delivery.sequence),
        )
        self._add_dead_letter(transaction, failed, "the process ended during every attempt")
        return self._first_delivery(transaction, delivery.handler_id, delivery.partition)

    def _first_delivery(
        self, transaction: Transaction, handler_id: int, partition: str
    ) -> ClaimedDelivery | None:
        """Read the first delivery of a partition. If there is none, delete the partition."""
        row = transaction.execute(
            f"SELECT {_COLUMNS} FROM deliveries JOIN events "  # noqa: S608  # a constant
            "ON seq = event WHERE handler = ? AND deliveries.lane = ? ORDER BY event LIMIT 1",
            (handler_id, partition),
        ).fetchone()
        if row is None:
            self._delete_partition(transaction, handler_id, partition)
            return None
        return self._from_row(handler_id, partition, row)

    def _from_row(self, handler_id: int, partition: str, row: Sequence[Any]) -> ClaimedDelivery:
        sequence, attempts, handed_out, *event = row
        return ClaimedDelivery(
            self._handler_names[handler_id],
            handler_id,
            partition,
            sequence,
            attempts,
            SerializedEvent(*event),
            handed_out,
        )

    def _delete_partition(self, transaction: Transaction, handler_id: int, partition: str) -> None:
        transaction.execute(
            "DELETE FROM lanes WHERE handler = ? AND lane = ?", (handler_id, partition)
        )

    async def mark_succeeded(
        self, delivery: ClaimedDelivery, *, keep_partition: bool = True
    ) -> ClaimedDelivery | None:
        """Record that the handler succeeded.

        Args:
            delivery: the delivery.
            keep_partition: keep the partition claimed, for its next delivery.

        Returns:
            the next delivery of the partition; None if there is none, or if this process does not
            have the partition claimed any more.
        """

        def work(transaction: Transaction) -> ClaimedDelivery | None:
            if not self._delete_delivery(transaction, delivery):
                return None
            transaction.counts["delivered", delivery.handler_id] += 1
            return self._next_delivery(transaction, delivery, keep_partition=keep_partition)

        return await self._database.write_async(work)

    async def mark_failed(
        self, delivery: ClaimedDelivery, error: str, *, keep_partition: bool = True
    ) -> ClaimedDelivery | None:
        """Record that the handler failed: schedule a retry, or add a dead letter.

        Args:
            delivery: the delivery.
            error: the handler's error, as the dead letter shows it.
            keep_partition: as for `mark_succeeded`; ignored if a retry is scheduled.

        Returns:
            None if a retry is scheduled; otherwise as for `mark_succeeded`.
        """

        def work(transaction: Transaction) -> ClaimedDelivery | None:
            failed = replace(delivery, attempts=delivery.attempts + 1)
            if failed.attempts >= self.backoff.attempts:
                if not self._delete_delivery(transaction, delivery):
                    return None
                transaction.counts["failed", delivery.handler_id] += 1
                self._add_dead_letter(transaction, failed, error)
                return self._next_delivery(transaction, delivery, keep_partition=keep_partition)
            if self._release(transaction, delivery, self.backoff.delay(failed.attempts)):
                transaction.counts["failed", delivery.handler_id] += 1
                self._store_attempts(transaction, failed)
            return None

        return await self._database.write_async(work)

    async def release(self, delivery: ClaimedDelivery, wait: float = 0.0) -> None:
        """Release the claim on a partition, without counting a failed attempt.

        The first delivery of the partition stays the first.

        Args:
            delivery: the first delivery of the partition.
            wait: seconds until any process may claim the partition.
        """
        await self._database.write_async(
            lambda transaction: self._release(transaction, delivery, wait)
        )

    async def mark_handed_out(self, delivery: ClaimedDelivery) -> ClaimedDelivery | None:
        """Record that a delivery is about to be handed out to another machine.

        Returns:
            the delivery, with the present time as `handed_out`; None if another process has claimed
            the partition.
        """
        return await self._set_handed_out(replace(delivery, handed_out=self._clock()))

    async def clear_handed_out(self, delivery: ClaimedDelivery) -> None:
        """Record that a delivery is not handed out any more: no other machine will work on it."""
        await self._set_handed_out(replace(delivery, handed_out=None))

    async def _set_handed_out(self, delivery: ClaimedDelivery) -> ClaimedDelivery | None:
        def work(transaction: Transaction) -> ClaimedDelivery | None:
            key = (delivery.handler_id, delivery.partition)
            updated = transaction.execute(
                _SET_HANDED, (delivery.handed_out, *key, delivery.sequence, *key, self._owner)
            )
            return delivery if self._has_claim(delivery, updated.rowcount) else None

        return await self._database.write_async(work)

    async def renew(self, deliveries: Iterable[ClaimedDelivery]) -> None:
        """Renew the leases of the deliveries' partitions, and the handlers' registration."""
        keys = [(delivery.handler_id, delivery.partition) for delivery in deliveries]

        def work(transaction: Transaction) -> None:
            now = self._clock()
            for key in keys:
                transaction.execute(
                    "UPDATE lanes SET due = ? WHERE handler = ? AND lane = ? AND owner = ?",
                    (now + self.lease, *key, self._owner),
                )
            for handler_id in self._handler_names:
                transaction.execute("UPDATE handlers SET seen = ? WHERE id = ?", (now, handler_id))

        await self._database.write_async(work)

    def _has_claim(self, delivery: ClaimedDelivery, changed: int) -> bool:
        """Whether this process still has the claim on a delivery's partition; if not, log that.

        Args:
            delivery: the delivery.
            changed: number of rows that an SQL statement has changed. The statement changes rows
                only if this process has the claim, so 0 means that the claim is lost.
        """
        if not changed:
            _log.warning(
                "%s: event %d: this process stood still for longer than its lease, and another "
                "one has the event", delivery.handler, delivery.sequence,
            )  # fmt: skip
        return changed > 0

    def _delete_delivery(self, transaction: Transaction, delivery: ClaimedDelivery) -> bool:
        """Delete a delivery that is done; return false if this process has lost the claim."""
        key = (delivery.handler_id, delivery.partition)
        deleted = transaction.execute(_DELETE, (*key, delivery.sequence, *key, self._owner))
        return self._has_claim(delivery, deleted.rowcount)

    def _store_attempts(self, transaction: Transaction, delivery: ClaimedDelivery) -> None:
        transaction.execute(
            "UPDATE deliveries SET attempts = ?, handed = NULL "
            "WHERE handler = ? AND lane = ? AND event = ?",
            (delivery.attempts, delivery.handler_id, delivery.partition, delivery.sequence),
        )

    def _add_dead_letter(
        self, transaction: Transaction, delivery: ClaimedDelivery, reason: str
    ) -> None:
        failed = FailedDelivery(delivery.handler, delivery.sequence, delivery.attempts)
        add_dead_letter(transaction, self._clock(), reason, delivery.event.connection, failed)
        transaction.counts["dead", delivery.handler_id] += 1

    def _next_delivery(
        self, transaction: Transaction, delivery: ClaimedDelivery, *, keep_partition: bool
    ) -> ClaimedDelivery | None:
        if not keep_partition:
            self._release(transaction, delivery, 0.0)
            return None
        return self._first_delivery(transaction, delivery.handler_id, delivery.partition)

    def _release(self, transaction: Transaction, delivery: ClaimedDelivery, wait: float) -> bool:
        """Release a partition, due in `wait` seconds; return false if the claim was lost."""
        released = transaction.execute(
            "UPDATE lanes SET owner = NULL, due = ? WHERE handler = ? AND lane = ? AND owner = ?",
            (self._clock() + wait, delivery.handler_id, delivery.partition, self._owner),
        )
        return self._has_claim(delivery, released.rowcount)
