"""The only place that does I/O: flows are run here, in threads or in tasks."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import aclosing, closing
from contextvars import copy_context
from typing import Any, TypeVar

import httpx

from dockhand_core.errors import ConnectionFailed, DockhandError, ResponseTooLarge, Timeout
from dockhand_core.flow import (
    BLOCK,
    Blocking,
    Call,
    Discard,
    Drain,
    Flow,
    Parallel,
    Sleep,
    Take,
    Until,
)
from dockhand_core.http.exchange import Receive, RegistryEndpoint, Send

__all__ = ["AsyncRunner", "SyncRunner", "run_async", "run_sync"]

T = TypeVar("T")

_alive: weakref.WeakSet[SyncRunner | AsyncRunner] = weakref.WeakSet()
_left: list[Any] = []  # a parent's transports: not closed in the child, nor finalised there


def _after_fork() -> None:
    """A child makes its own sockets, and does not wait for locks that its parent held."""
    for runner in list(_alive):
        runner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

SLOWEST = 64 << 10  # bytes a second that a body which is parsed must come with


def run_sync(flow: Generator[Any, Any, T], perform: Callable[[Any], Any]) -> T:
    """Run a flow to its end; `perform` does each effect and gives its result."""
    try:
        effect = next(flow)
        while True:
            try:
                result = perform(effect)
            except BaseException as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


async def run_async(flow: Generator[Any, Any, T], perform: Callable[[Any], Any]) -> T:
    """Run a flow to its end; `perform` does each effect and gives its result.

    A cancellation is thrown into the flow like any error, so that it can undo what it began.
    """
    try:
        effect = next(flow)
        while True:
            try:
                result = await perform(effect)
            except BaseException as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


class _Collector:
    """Gathers a body that is parsed: bounded in bytes, and in time by a rate it must keep."""

    def __init__(self, effect: Receive, seconds: float) -> None:
        self._effect = effect
        self._deadline = time.monotonic() + seconds
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, block: bytes) -> bool:
        """Take a block; False when enough was read."""
        stream, limit = self._effect.stream, self._effect.limit
        self._size += len(block)
        if max(self._size, stream.length or 0) > limit:
            if not self._effect.cut:
                raise ResponseTooLarge(f"{stream.where}: the body is larger than {limit} bytes")
            if self._size > limit:
                return False
        if time.monotonic() > self._deadline + self._size / SLOWEST:
            raise Timeout(f"{stream.where}: the body trickles in")
        self._parts.append(block)
        return True

    def body(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


class SyncRunner:
    """Runs a connection's flows in the calling thread.

    Args:
        endpoint: the registry, and how one call is exchanged with it.
        transport: makes the transport; in a process that was forked, anew.
    """

    def __init__(
        self, endpoint: RegistryEndpoint, transport: Callable[[], httpx.BaseTransport]
    ) -> None:
        self.endpoint = endpoint
        self._make = transport
        self._lock = threading.Lock()
        self._transport: httpx.BaseTransport | None = None
        self._closed = False
        _alive.add(self)
        self._effects: dict[type, Callable[[Any], Any]] = {
            Call: lambda e: run_sync(endpoint.exchange(e), self.perform),
            Send: lambda e: self._open().handle_request(e.request),
            Receive: self._receive,
            Discard: lambda e: e.stream.close(),
            Sleep: lambda e: time.sleep(e.seconds),
            Blocking: lambda e: e.function(),
            Until: lambda e: wait_for([e.done]),
            Drain: self._drain,
            Take: lambda e: next(e.iterator, None),
            Parallel: self._parallel,
        }

    def run(self, flow: Flow[T]) -> T:
        """Run a flow."""
        return run_sync(flow, self.perform)

    def perform(self, effect: Any) -> Any:
        """Do one effect."""
        return self._effects[type(effect)](effect)

    def _open(self) -> httpx.BaseTransport:
        if self._transport is not None:
            return self._transport
        with self._lock:
            if self._closed:
                raise DockhandError("this client is closed")
            if self._transport is None:
                self._transport = self._make()
            return self._transport

    def after_fork(self) -> None:
        """Leave the parent's sockets to the parent."""
        self._lock = threading.Lock()
        _left.append(self._transport)
        self._transport = None

    def reset(self) -> None:
        """Close the sockets and forget the tokens; the next request opens new ones."""
        with self._lock:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        self.endpoint.forget()

    def close(self) -> None:
        """Close the sockets for good."""
        self._closed = True
        self.reset()

    def _receive(self, effect: Receive) -> bytes:
        collector = _Collector(effect, self.endpoint.timeout * 4)
        with closing(effect.stream.iterate()) as blocks:
            for block in blocks:
                if not collector.add(block):
                    break
        return collector.body()

    def _drain(self, effect: Drain) -> None:
        with closing(effect.stream.iterate()) as blocks:
            for block in blocks:
                effect.sink(block)

    def _parallel(self, effect: Parallel) -> list[Any]:
        work = _Work(effect.flows)

        def worker() -> None:
            try:
                for position, flow in work:
                    work.results[position] = self.run(flow)
            except BaseException as error:
                work.error = work.error or error

        with ThreadPoolExecutor(effect.limit, thread_name_prefix="dockhand") as pool:
            try:
                for future in [
                    pool.submit(copy_context().run, worker) for _ in range(effect.limit)
                ]:
                    future.result()
            except BaseException as error:  # Ctrl-C in the waiting thread stops the others too
                work.error = work.error or error
                raise
        return work.outcome()


class AsyncRunner:
    """Runs a connection's flows in tasks; one transport for each event loop.

    Args:
        endpoint: the registry, and how one call is exchanged with it.
        transport: makes the transport, for each loop anew.
    """

    def __init__(
        self, endpoint: RegistryEndpoint, transport: Callable[[], httpx.AsyncBaseTransport]
    ) -> None:
        self.endpoint = endpoint
        self._make = transport
        self._closed = False
        _alive.add(self)
        self._transports: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, httpx.AsyncBaseTransport
        ] = weakref.WeakKeyDictionary()
        self._effects: dict[type, Callable[[Any], Any]] = {
            Call: lambda e: run_async(endpoint.exchange(e), self.perform),
            Send: lambda e: self._open().handle_async_request(e.request),
            Receive: self._receive,
            Discard: lambda e: e.stream.aclose(),
            Sleep: lambda e: asyncio.sleep(e.seconds),
            Blocking: self._blocking,
            # not `to_thread`: those who wait could take the threads of the one they wait for
            Until: lambda e: asyncio.wait([asyncio.wrap_future(e.done)]),
            Drain: self._drain,
            Take: self._take,
            Parallel: self._parallel,
        }

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow."""
        return await run_async(flow, self.perform)

    def perform(self, effect: Any) -> Any:
        """Begin one effect; what comes back is awaited."""
        return self._effects[type(effect)](effect)

    def _open(self) -> httpx.AsyncBaseTransport:
        if self._closed:
            raise DockhandError("this client is closed")
        loop = asyncio.get_running_loop()
        found = self._transports.get(loop)
        if found is None:
            found = self._transports[loop] = self._make()
        return found

    def after_fork(self) -> None:
        """Leave the parent's sockets to the parent."""
        _left.append(dict(self._transports))
        self._transports = weakref.WeakKeyDictionary()

    async def reset(self) -> None:
        """Close this loop's sockets and forget the tokens; the next request opens new ones."""
        transport = self._transports.pop(asyncio.get_running_loop(), None)
        if transport is not None:
            await transport.aclose()
        self.endpoint.forget()

    async def close(self) -> None:
        """Close this loop's sockets for good."""
        self._closed = True
        await self.reset()

    async def _receive(self, effect: Receive) -> bytes:
        collector = _Collector(effect, self.endpoint.timeout * 4)
        async with aclosing(effect.stream.aiterate()) as blocks:
            async for block in blocks:
                if not collector.add(block):
                    break
        return collector.body()

    async def _blocking(self, effect: Blocking) -> Any:
        """A thread cannot be cancelled: who is cancelled waits, so that it may then close files."""
        at_work = asyncio.create_task(asyncio.to_thread(effect.function))
        try:
            return await asyncio.shield(at_work)
        except asyncio.CancelledError:
            if not at_work.done():
                await asyncio.wait({at_work})
            if not at_work.cancelled():
                at_work.exception()  # seen; the cancellation is what counts
            raise

    async def _drain(self, effect: Drain) -> None:
        """Blocks are handed on in a thread, one batch while the next one arrives."""
        batch: list[bytes] = []
        size = 0
        at_work: asyncio.Task[None] | None = None
        broken: ConnectionFailed | None = None
        try:
            async with aclosing(effect.stream.aiterate()) as blocks:
                async for block in blocks:
                    batch.append(block)
                    size += len(block)
                    if size >= BLOCK:
                        if at_work is not None:
                            await at_work
                        at_work = asyncio.create_task(asyncio.to_thread(_feed, effect.sink, batch))
                        batch, size = [], 0
        except ConnectionFailed as error:
            broken = error  # what arrived is handed on: from there it will be carried on
        finally:
            if at_work is not None and not at_work.done():
                # The sink may be writing to a file that the flow is about to close.
                await asyncio.wait({at_work})
        if at_work is not None:
            await at_work
        await asyncio.to_thread(_feed, effect.sink, batch)
        if broken is not None:
            raise broken

    async def _take(self, effect: Take) -> Any:
        iterator = effect.iterator
        if isinstance(iterator, AsyncIterator):
            return await anext(iterator, None)
        return await asyncio.to_thread(next, iterator, None)

    async def _parallel(self, effect: Parallel) -> list[Any]:
        work = _Work(effect.flows)

        async def worker() -> None:
            for position, flow in work:
                work.results[position] = await self.run(flow)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(effect.limit):
                    group.create_task(worker())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return work.outcome()


class _Work:
    """Flows that several workers take from, until one fails."""

    def __init__(self, flows: Iterable[Flow[Any]]) -> None:
        self._flows = enumerate(flows)
        self._lock = threading.Lock()
        self.results: dict[int, Any] = {}
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[tuple[int, Flow[Any]]]:
        while True:
            with self._lock:
                item = None if self.error else next(self._flows, None)
            if item is None:
                return
            yield item

    def outcome(self) -> list[Any]:
        if self.error is not None:
            raise self.error
        return [self.results[position] for position in sorted(self.results)]


def _feed(sink: Callable[[bytes], object], batch: list[bytes]) -> None:
    for block in batch:
        sink(block)
