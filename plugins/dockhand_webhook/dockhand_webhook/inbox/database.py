"""An SQLite file with one writing thread, which commits concurrent writes together.

Each commit waits for the disk, so few commits are faster than many. One thread does all writing: it
runs all functions that were submitted since the last commit in one transaction. Callers get their
results only after the commit, so a power failure cannot undo a result.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from dockhand_core import ConfigError
from dockhand_webhook.errors import InboxError

__all__ = ["SCHEMA_VERSION", "Database", "NewDeadLetter", "Transaction"]

T = TypeVar("T")

_BUSY_TIMEOUT = 10.0  # seconds to wait for another process that holds the write lock
_MAINTENANCE_INTERVAL = 60.0  # seconds
_CACHED_STATEMENTS = 256
SCHEMA_VERSION = 1


class NewDeadLetter(NamedTuple):
    """A dead letter that was added in a transaction.

    Attributes:
        connection: the connection name in the route of the notification; empty if none.
        is_event: whether it is an event that a handler failed at; else it is a notification.
        size: size of its content, in bytes.
    """

    connection: str
    is_event: bool
    size: int


class Transaction:
    """An open transaction, the argument of the functions that are passed to `Database.write`.

    Attributes:
        execute: runs an SQL statement. In each call other threads may run, and the call may have to
            wait for them. So few large statements take less time than many small ones.
        counts: numbers to add to the counts in the file, by name and handler id (0 for no handler).
        pending_events: rows of events that will be written together before the commit.
        new_dead_letters: the dead letters that were added in this transaction.
    """

    __slots__ = ("counts", "execute", "new_dead_letters", "pending_events")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.execute = connection.execute
        self.counts: Counter[tuple[str, int]] = Counter()
        self.pending_events: list[tuple[object, ...]] = []
        self.new_dead_letters: list[NewDeadLetter] = []


class _Submission(Generic[T]):
    """A function to run in a transaction, and the future for its result.

    If a task waits for the future, `loop` is its event loop; if a thread waits, `loop` is None.
    """

    __slots__ = ("future", "loop", "work")

    def __init__(
        self,
        work: Callable[[Transaction], T],
        future: Future[T] | asyncio.Future[T],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.work, self.future, self.loop = work, future, loop

    def complete(self, result: T | None, error: Exception | None) -> None:
        if self.future.done():  # the waiting task was cancelled
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)  # type: ignore[arg-type]  # None only if T includes it


_Outcome = tuple[_Submission[Any], Any, Exception | None]


class Database:
    """An SQLite file and the thread that writes to it.

    The thread starts with the first write, and ends with `close`. After a fork, the child process
    starts its own thread.

    Args:
        path: the SQLite file. If it does not exist, it is created, and only its owner can access
            it.
        schema: the SQL statements that create the tables.
        before_commit: called with each transaction before it is committed.
        maintenance: called with a transaction about once a minute; if it returns true, it is called
            again at once.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        schema: str,
        before_commit: Callable[[Transaction], None],
        maintenance: Callable[[Transaction], bool],
    ) -> None:
        self.path = Path(path)
        self._before_commit, self._maintenance = before_commit, maintenance
        self._reset()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            with closing(self._open()) as connection:
                self._prepare(connection, schema)
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"inbox: {self.path}: {reason}; name an SQLite file on a local disk that can be "
                "written"
            ) from None

    def _prepare(self, connection: sqlite3.Connection, schema: str) -> None:
        until = time.monotonic() + _BUSY_TIMEOUT
        while True:  # retry here, since SQLite's busy timeout does not apply to this statement
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
        connection.execute("BEGIN IMMEDIATE")  # if two processes start at once, one has to wait
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, SCHEMA_VERSION}:
            raise ConfigError(
                f"inbox: {self.path}: written by a newer version of dockhand-webhook; upgrade this "
                "one, or name another file"
            )
        if not version:
            for statement in schema.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=_BUSY_TIMEOUT,
            isolation_level=None,
            cached_statements=_CACHED_STATEMENTS,
        )
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _reset(self) -> None:
        self._process = os.getpid()
        self._condition = threading.Condition()
        self._submissions: list[_Submission[Any]] = []
        self._thread: threading.Thread | None = None
        self._waking_loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run a function in a transaction, and return its result when the transaction is on disk.

        Raises:
            InboxError: the file cannot be written.
        """
        future: Future[T] = Future()
        self._submit(_Submission(work, future, None))
        return future.result()

    async def write_async(self, work: Callable[[Transaction], T]) -> T:
        """Do the same as `write` in asyncio. If cancelled, the function may run or not."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._submit(_Submission(work, future, loop))
        return await future

    async def probe(self) -> None:
        """Check that the file can be written, without changing its contents.

        Raises:
            InboxError: the file cannot be written.
        """
        await self.write_async(
            lambda transaction: transaction.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        )

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for reading. It sees one committed state, and does not block writers.

        Raises:
            InboxError: the file cannot be read.
        """
        try:
            with closing(self._open()) as connection:
                connection.execute("BEGIN")
                yield connection
        except sqlite3.Error as error:
            raise InboxError(f"{self.path}: {error}") from error

    def close(self) -> None:
        """Write everything submitted so far, and end the thread. A later write starts a new one."""
        with self._condition:
            thread = self._thread
            self._closing = thread is not None
            self._condition.notify()
        if thread is not None and self._process == os.getpid():
            thread.join()

    def _submit(self, submission: _Submission[Any]) -> None:
        if self._process != os.getpid():
            self._reset()
        with self._condition:
            self._submissions.append(submission)
            if self._thread is None:
                self._start_thread()
            elif submission.loop is None:
                self._condition.notify()
            elif self._waking_loop is not submission.loop:
                # Wake the thread through the loop: other tasks that are ready now run first, so
                # that their writes get into the same commit.
                self._waking_loop = submission.loop
                submission.loop.call_soon(self._wake_thread)

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._write_loop, name="inbox", daemon=True)
        self._thread.start()

    def _wake_thread(self) -> None:
        with self._condition:
            self._waking_loop = None
            self._condition.notify()

    def _write_loop(self) -> None:
        connection: sqlite3.Connection | None = None
        maintenance = time.monotonic() + _MAINTENANCE_INTERVAL
        while True:
            with self._condition:
                if not self._submissions and not self._closing:
                    self._condition.wait(max(0.0, maintenance - time.monotonic()))
                batch, self._submissions = self._submissions, []
                last, self._closing = self._closing, False
            try:
                connection = connection or self._open()
            except sqlite3.Error as error:
                _complete_all([(item, None, self._inbox_error(error)) for item in batch])
                maintenance = time.monotonic() + _MAINTENANCE_INTERVAL
            if batch and connection is not None:
                _complete_all(self._commit(connection, batch))
            if connection is not None and time.monotonic() >= maintenance:
                more = self._maintain(connection)
                maintenance = time.monotonic() + (0.0 if more else _MAINTENANCE_INTERVAL)
            if last:
                with self._condition:
                    self._thread = None
                    if self._submissions:
                        self._start_thread()
                break
        if connection is not None:
            connection.close()

    def _commit(
        self, connection: sqlite3.Connection, batch: list[_Submission[Any]]
    ) -> list[_Outcome]:
        """Run a batch in one transaction.

        If a submission raises an error, run each submission in a transaction of its own, so that
        the others succeed.
        """
        try:
            results = self._transact(connection, [item.work for item in batch])
            return [(item, result, None) for item, result in zip(batch, results, strict=True)]
        except sqlite3.DatabaseError as error:
            if not _is_caused_by_work(error):
                failure = self._inbox_error(error)
                return [(item, None, failure) for item in batch]
            caught: Exception = error
        except Exception as error:
            caught = error
        if len(batch) == 1:
            return [(batch[0], None, caught)]
        return [outcome for item in batch for outcome in self._commit(connection, [item])]

    def _transact(
        self, connection: sqlite3.Connection, works: list[Callable[[Transaction], Any]]
    ) -> list[Any]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            transaction = Transaction(connection)
            results = [work(transaction) for work in works]
            self._before_commit(transaction)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return results

    def _maintain(self, connection: sqlite3.Connection) -> bool:
        try:
            [more] = self._transact(connection, [self._maintenance])
        except sqlite3.Error:
            return False  # not reported: the next write will meet the same error and report it
        return bool(more)

    def _inbox_error(self, error: sqlite3.Error) -> InboxError:
        return InboxError(f"{self.path}: {error}")


def _is_caused_by_work(error: sqlite3.DatabaseError) -> bool:
    """Whether a submitted function caused the error; if not, the file or its disk did."""
    codes = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH)
    return (getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF) in codes


def _complete_all(outcomes: list[_Outcome]) -> None:
    """Complete submissions. Each event loop is woken only once, for all of its tasks."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        loop = outcome[0].loop
        if loop is None:
            outcome[0].complete(outcome[1], outcome[2])
        else:
            by_loop.setdefault(loop, []).append(outcome)
    for loop, of_loop in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed, so none of its tasks waits
            loop.call_soon_threadsafe(_complete_in_loop, of_loop)


def _complete_in_loop(outcomes: list[_Outcome]) -> None:
    for submission, result, error in outcomes:
        submission.complete(result, error)
