"""From the inbox to the handlers: in order for each handler and repository, else all at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dockhand_core.events import EventHandler, RegistryBaseEvent
from dockhand_webhook.dispatch.invoke import NotNow, call
from dockhand_webhook.dispatch.threads import Threads
from dockhand_webhook.errors import InboxError
from dockhand_webhook.inbox.deliveries import Backoff, Job, Lanes
from dockhand_webhook.inbox.inbox import Inbox

__all__ = ["Dispatcher", "Hang", "InProcess", "Runner"]

_log = logging.getLogger("dockhand.webhook")
_POLL = 0.5  # seconds, for what another process stored, and what is to be tried again
_STOP = 5.0  # seconds to note what became of those that were cancelled
_TURN = 1.0  # seconds that a lane keeps its place before others get theirs


Hang = Callable[[], None]
_Note = Callable[[bool], Awaitable[Job | None]]


class Runner(Protocol):
    """Has a delivery made, wherever it is made."""

    async def run(self, job: Job, lanes: Lanes, hangs: Hang) -> None:
        """Have a handler called, and wait until it is done.

        Args:
            job: the delivery.
            lanes: where it is noted.
            hangs: to be called when the handler takes longer than it may, and is waited for.

        Raises:
            NotNow: it could not be called.
            Exception: it failed.
        """

    def close(self) -> None:
        """Let go of what it holds; it may be used again."""


class InProcess:
    """Calls handlers in this process.

    Args:
        handlers: by name.
        timeout: seconds that a call may take.
    """

    def __init__(self, handlers: Mapping[str, EventHandler], timeout: float) -> None:
        self._handlers, self._timeout = handlers, timeout
        self._threads = Threads()

    async def run(self, job: Job, lanes: Lanes, hangs: Hang) -> None:  # noqa: ARG002
        """Call the handler with the event."""
        handler = self._handlers[job.handler]
        event: RegistryBaseEvent = job.stored.event()
        await call(handler, event, self._threads, timeout=self._timeout, hangs=hangs)

    def close(self) -> None:
        """End the threads that no handler uses."""
        self._threads.close()


@dataclass
class _Place:
    """One of a handler's places: it is given up once its handler hangs."""

    used: dict[int, int]
    number: int
    taken: bool = True

    def leave(self) -> None:
        if self.taken:
            self.taken = False
            self.used[self.number] -= 1


class Dispatcher:
    """Makes the deliveries of an inbox, as one of any number of processes.

    Args:
        inbox: the inbox.
        handlers: whose deliveries: the names of handlers.
        runner: what calls them.
        concurrency: so many repositories at once for each handler.
        backoff: when failed deliveries are tried again.
        lease: seconds after which another process takes over what this one had, when it died.
    """

    def __init__(
        self,
        inbox: Inbox,
        handlers: Mapping[str, object],
        runner: Runner,
        *,
        concurrency: int = 16,
        backoff: Backoff | None = None,
        lease: float = 15.0,
    ) -> None:
        self._handlers, self._runner, self._concurrency = tuple(handlers), runner, concurrency
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._lanes = inbox.lanes(owner, backoff or Backoff(), lease)
        self._used: dict[int, int] = {}
        self._jobs: dict[asyncio.Task[None], Job] = {}
        self._changed = asyncio.Event()
        self._main: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; handlers that the inbox did not know get what arrives from now on.

        Raises:
            InboxError: the inbox cannot be written.
        """
        numbers = await self._lanes.register(self._handlers)
        self._used = dict.fromkeys(numbers.values(), 0)
        self._main = asyncio.create_task(self._run(), name="dispatcher")

    async def stop(self, grace: float = 10.0) -> None:
        """Begin no more deliveries, and wait for those under way.

        Args:
            grace: seconds, after which async handlers are cancelled, and called again later;
                others are left to themselves, and their lanes to the end of the lease.
        """
        if self._main is None:
            return
        self._main.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._main
        self._main = None
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=grace)
        left = list(self._jobs)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_STOP)
        self._runner.close()

    def wake(self) -> None:
        """There is something new in the inbox."""
        self._changed.set()

    async def _run(self) -> None:
        renew = time.monotonic() + self._lanes.lease / 3
        while True:
            try:
                if time.monotonic() >= renew:
                    await self._lanes.renew(self._jobs.values())
                    renew = time.monotonic() + self._lanes.lease / 3
                self._changed.clear()
                free = {
                    number: self._concurrency - used
                    for number, used in self._used.items()
                    if used < self._concurrency
                }
                if free:
                    await self._claim(free)
            except InboxError as error:
                _log.error("deliveries wait: %s", error)
                await asyncio.sleep(_POLL)
            except Exception:  # the others must not end with it
                _log.exception("deliveries wait")
                await asyncio.sleep(_POLL)
            until = min(_POLL, max(0.0, renew - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until):  # 3.11's wait_for may miss that it is cancelled
                    await self._changed.wait()

    async def _claim(self, free: dict[int, int]) -> None:
        """Claim lanes and begin with them; when this is cancelled, none is left claimed."""
        claiming = asyncio.ensure_future(self._lanes.claim(free, self._jobs.values()))
        try:
            jobs = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with contextlib.suppress(InboxError):
                for job in await claiming:
                    await self._lanes.give_back(job)
            raise
        for job in jobs:
            self._begin(job)

    def _begin(self, job: Job) -> None:
        self._used[job.number] += 1
        task = asyncio.create_task(self._lane(job, _Place(self._used, job.number)))
        self._jobs[task] = job
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._jobs[task]
        if not task.cancelled() and task.exception():
            _log.error("a lane broke off", exc_info=task.exception())
        self.wake()

    async def _lane(self, job: Job | None, place: _Place) -> None:
        """Make a lane's deliveries, one after the other, until others are to have a turn."""
        turn = time.monotonic() + _TURN
        try:
            while job is not None:
                note = await self._deliver(job, place)
                # What runs after it was reported to hang has no place any more.
                go_on = self._main is not None and place.taken and time.monotonic() < turn
                job = await self._noted(note, go_on)
                if job is not None:
                    self._jobs[_current()] = job
        finally:
            place.leave()

    async def _deliver(self, job: Job, place: _Place) -> _Note:
        """Make a delivery; gives how to note what came of it."""
        started = time.monotonic()

        def hangs() -> None:
            _log.error(
                "handler %s still runs after %.0f s with event %d; later events of %s wait for it",
                job.handler, time.monotonic() - started, job.event, job.lane,
            )  # fmt: skip
            place.leave()
            self.wake()

        try:
            await self._runner.run(job, self._lanes, hangs)
        except NotNow as later:
            return functools.partial(self._give_back, job, later.wait)
        except Exception as error:
            _log.warning(
                "handler %s failed at event %d, attempt %d", job.handler, job.event,
                job.attempts + 1, exc_info=error,
            )  # fmt: skip
            text = _said(error)
            return lambda go_on: self._lanes.failed(job, text, go_on=go_on)
        return lambda go_on: self._lanes.succeeded(job, go_on=go_on)

    async def _give_back(self, job: Job, wait: float, go_on: bool) -> None:  # noqa: ARG002
        await self._lanes.give_back(job, wait)

    async def _noted(self, note: _Note, go_on: bool) -> Job | None:
        """Note what came of a delivery: a handler that was called must not be called again."""
        while True:
            try:
                return await note(go_on)
            except InboxError as error:
                _log.error("what a handler did cannot be noted: %s", error)
                await asyncio.sleep(_POLL)


def _said(error: Exception) -> str:
    """What a handler raised, in words; its own text may fail as well."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _current() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task
