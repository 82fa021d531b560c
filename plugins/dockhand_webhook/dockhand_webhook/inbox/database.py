"""An SQLite file that many write to at once: what is asked meanwhile is committed together.

A commit waits for the disk. So one thread writes: it takes whatever has been asked of it since the
last commit, does it all in one transaction, and tells everybody after that commit. Nobody is told
that something is done which a loss of power could undo.
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
from typing import Any, Generic, TypeVar

from dockhand_core import ConfigError
from dockhand_webhook.errors import InboxError

__all__ = ["Database", "Transaction"]

T = TypeVar("T")

_BUSY = 10.0  # seconds that another process may hold the file
_PAUSE = 60.0  # seconds between two rounds of chores
_STATEMENTS = 256  # that are kept prepared
_VERSION = 1


class Transaction:
    """What a piece of work does to the file, before it is committed.

    Attributes:
        execute: runs a statement. Each one lets other threads run, and may wait for them: few large
            ones take less time than many.
        counts: what is to be added to the file's counters, by name and handler (0 for none).
        arrivals: rows that are stored before the commit, all at once.
    """

    __slots__ = ("arrivals", "counts", "execute")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.execute = connection.execute
        self.counts: Counter[tuple[str, int]] = Counter()
        self.arrivals: list[tuple[object, ...]] = []


class _Asked(Generic[T]):
    """A piece of work, and who waits for it: a thread, or a task of a loop."""

    __slots__ = ("future", "loop", "work")

    def __init__(
        self,
        work: Callable[[Transaction], T],
        future: Future[T] | asyncio.Future[T],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.work, self.future, self.loop = work, future, loop

    def answer(self, result: T | None, error: Exception | None) -> None:
        if self.future.done():  # whoever waited was cancelled
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)  # type: ignore[arg-type]  # of this work


_Answer = tuple[_Asked[Any], Any, Exception | None]


class Database:
    """The file, and the thread that writes to it.

    The thread runs while there is something to write, and in a fork there is another one.

    Args:
        path: the file, made readable for its owner alone if it is not there.
        schema: statements that make its tables.
        finish: done before each commit.
        chores: work that is done about once a minute, again and again until it says that there is
            no more.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        schema: str,
        finish: Callable[[Transaction], None],
        chores: Callable[[Transaction], bool],
    ) -> None:
        self.path = Path(path)
        self._finish, self._chores = finish, chores
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
        until = time.monotonic() + _BUSY
        while True:  # for this one statement SQLite does not wait for others
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
        connection.execute("BEGIN IMMEDIATE")  # two processes may start at once
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, _VERSION}:
            raise ConfigError(f"inbox: {self.path}: written by a newer version of this")
        if not version:
            for statement in schema.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY, isolation_level=None, cached_statements=_STATEMENTS
        )
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _reset(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._asked: list[_Asked[Any]] = []
        self._thread: threading.Thread | None = None
        self._waking: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def do(self, work: Callable[[Transaction], T]) -> T:
        """Do something and wait until it is on disk.

        Raises:
            InboxError: the file cannot be written.
        """
        future: Future[T] = Future()
        self._put(_Asked(work, future, None))
        return future.result()

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """The same in asyncio. Who is cancelled meanwhile does not know whether it was done."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Asked(work, future, loop))
        return await future

    async def probe(self) -> None:
        """Write to the file without changing anything.

        Raises:
            InboxError: the file cannot be written.
        """
        await self.run(lambda transaction: transaction.execute(f"PRAGMA user_version = {_VERSION}"))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees what is committed, and keeps nobody from writing.

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
        """Write what was asked, and end the thread; it begins again if it is asked again."""
        with self._changed:
            thread = self._thread
            self._closed = thread is not None
            self._changed.notify()
        if thread is not None and self._process == os.getpid():
            thread.join()

    def _put(self, asked: _Asked[Any]) -> None:
        if self._process != os.getpid():
            self._reset()
        with self._changed:
            self._asked.append(asked)
            if self._thread is None:
                self._begin()
            elif asked.loop is None:
                self._changed.notify()
            elif self._waking is not asked.loop:
                # Whatever else the loop has to do first may ask for something, too.
                self._waking = asked.loop
                asked.loop.call_soon(self._wake)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._write, name="inbox", daemon=True)
        self._thread.start()

    def _wake(self) -> None:
        with self._changed:
            self._waking = None
            self._changed.notify()

    def _write(self) -> None:
        connection: sqlite3.Connection | None = None
        chores = time.monotonic() + _PAUSE
        while True:
            with self._changed:
                if not self._asked and not self._closed:
                    self._changed.wait(max(0.0, chores - time.monotonic()))
                batch, self._asked = self._asked, []
                last, self._closed = self._closed, False
            try:
                connection = connection or self._open()
            except sqlite3.Error as error:
                _tell([(asked, None, self._failure(error)) for asked in batch])
                chores = time.monotonic() + _PAUSE
            if batch and connection is not None:
                _tell(self._commit(connection, batch))
            if connection is not None and time.monotonic() >= chores:
                more = self._tidy(connection)
                chores = time.monotonic() + (0.0 if more else _PAUSE)
            if last:
                with self._changed:
                    self._thread = None
                    if self._asked:
                        self._begin()
                break
        if connection is not None:
            connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[_Asked[Any]]) -> list[_Answer]:
        """Do it all in one transaction; what fails for a reason of its own, fails alone."""
        try:
            results = self._transact(connection, [asked.work for asked in batch])
            return [(asked, result, None) for asked, result in zip(batch, results, strict=True)]
        except sqlite3.DatabaseError as error:
            if not _is_of_the_work(error):
                failure = self._failure(error)
                return [(asked, None, failure) for asked in batch]
            caught: Exception = error
        except Exception as error:
            caught = error
        if len(batch) == 1:
            return [(batch[0], None, caught)]
        return [answer for asked in batch for answer in self._commit(connection, [asked])]

    def _transact(
        self, connection: sqlite3.Connection, works: list[Callable[[Transaction], Any]]
    ) -> list[Any]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            transaction = Transaction(connection)
            results = [work(transaction) for work in works]
            self._finish(transaction)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return results

    def _tidy(self, connection: sqlite3.Connection) -> bool:
        try:
            [more] = self._transact(connection, [self._chores])
        except sqlite3.Error:
            return False  # whoever writes next is told
        return bool(more)

    def _failure(self, error: sqlite3.Error) -> InboxError:
        return InboxError(f"{self.path}: {error}")


def _is_of_the_work(error: sqlite3.DatabaseError) -> bool:
    """Whether what went wrong is what was asked for, not the file or its disk."""
    own = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH)
    return (getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF) in own


def _tell(answers: list[_Answer]) -> None:
    """Tell everybody; a loop is woken once for all of its tasks."""
    loops: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
    for answer in answers:
        loop = answer[0].loop
        if loop is None:
            answer[0].answer(answer[1], answer[2])
        else:
            loops.setdefault(loop, []).append(answer)
    for loop, theirs in loops.items():
        with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
            loop.call_soon_threadsafe(_answer, theirs)


def _answer(answers: list[_Answer]) -> None:
    for asked, result, error in answers:
        asked.answer(result, error)
