"""The runner of async clients, which performs the effects of flows, and does its I/O in asyncio."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import aclosing
from inspect import isawaitable
from typing import Any, TypeVar

import httpx

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ConnectionFailed, DockhandError
from dockhand_core.flow import (
    BLOCK,
    At,
    Blocking,
    Call,
    Discard,
    Drain,
    Flow,
    Parallel,
    Reserve,
    Sleep,
    Take,
    Until,
)
from dockhand_core.flow.one_ahead import end_of
from dockhand_core.http.closing import (
    CloseErrors,
    closers,
    closing_flow,
    closing_runner,
    may_block,
    wrapped_logger,
)
from dockhand_core.http.exchange import Receive, RegistryEndpoint, Send
from dockhand_core.http.flow_loop import FlowQueue, NotAnEffect, call_function, run_async
from dockhand_core.http.forks import alive, inherited
from dockhand_core.http.lanes import (
    MAX_CONNECTIONS,
    AsyncLanes,
    reserve_async,
)
from dockhand_core.lazy import asyncio

__all__ = ["AsyncRunner", "run_async"]

T = TypeVar("T")


class AsyncRunner:
    """The runner of an async client; flows run in the calling task.

    Args:
        endpoint: the registry's endpoint, which exchanges calls for replies.
        transport: makes a transport; called once for each event loop, and again after a reset or a
            fork.
        connections: the limit on connections, for transfers between two registries.

    Attributes:
        registry: is equal for runners whose connections lead to one registry.
    """

    asynchronous = True

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        transport: Callable[[], httpx.AsyncBaseTransport],
        connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.lanes = AsyncLanes(connections)
        self.registry: Hashable = endpoint.registry
        self.endpoint = endpoint
        self._make = transport
        self._closed = False
        alive.add(self)
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
            # Do not wait in a thread: waits could occupy all threads of the pool, and the task that
            # they wait for may need one.
            Until: lambda e: asyncio.wait([asyncio.wrap_future(e.done)]),
            Drain: self._drain,
            Take: self._take,
            Parallel: self._parallel,
            At: lambda e: e.peer.run(e.flow),
            Reserve: lambda e: reserve_async([peer.lanes for peer in e.peers]),
        }

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its result; its errors show no secrets."""
        try:
            return await run_async(flow, self.perform)
        except DockhandError as error:
            self.endpoint.secrets.clean(error)
            raise

    def perform(self, effect: Any) -> Any:
        """Start one effect and return an awaitable of its result."""
        try:
            performer = self._effects[type(effect)]
        except KeyError:
            raise NotAnEffect from None
        return performer(effect)

    def _open(self) -> httpx.AsyncBaseTransport:
        if self._closed and closing_runner.get() is not self:
            raise DockhandError("this client is closed")
        loop = asyncio.get_running_loop()
        found = self._transports.get(loop)
        if found is None:
            found = self._transports[loop] = self._make()
        return found

    def after_fork(self) -> None:
        """Drop the transports of the parent process without closing their sockets."""
        self.endpoint.after_fork()
        inherited.append(dict(self._transports))
        self._transports = weakref.WeakKeyDictionary()

    async def _close_transport(self, errors: CloseErrors) -> None:
        transport = self._transports.pop(asyncio.get_running_loop(), None)
        if transport is not None:
            with errors.collected(transport):
                await transport.aclose()

    async def reset(self) -> None:
        """Close this event loop's sockets and forget cached tokens; the next request reconnects."""
        errors = CloseErrors(self.endpoint.secrets)
        try:
            await self._close_plugins(errors, self.endpoint.take_auth())
        finally:
            await self._close_transport(errors)
        errors.raise_first()

    async def close(self, driver: RegistryDriver) -> None:
        """Close the driver, the auth driver, this event loop's sockets and the logger.

        The drivers come first: their `close` may send requests.

        A client that is used in several event loops is closed in each of them, to close its sockets
        there. Only the first call closes the driver, the auth driver and the logger.
        """
        first, self._closed = not self._closed, True  # before any wait: no request opens a new one
        errors = CloseErrors(self.endpoint.secrets)
        closing = closing_runner.set(self)
        try:
            if first:
                await self._close_plugins(errors, driver)
                await self._close_plugins(errors, self.endpoint.take_auth(last=True))
        finally:
            closing_runner.reset(closing)
            try:
                await self._close_transport(errors)
            finally:
                if first:
                    await self._close_plugins(errors, wrapped_logger(self.endpoint.log))
        errors.raise_first()

    async def _close_plugins(self, errors: CloseErrors, *plugins: object) -> None:
        for plugin, close in closers(plugins):
            with errors.collected(plugin):
                answer = await asyncio.to_thread(close) if may_block(close) else close()
                flow = closing_flow(plugin, answer, self.endpoint)
                if flow is not None:
                    await run_async(flow, self.perform)
                elif isawaitable(answer):
                    await answer

    async def _receive(self, effect: Receive) -> bytes:
        collector = self.endpoint.collector(effect)
        async with aclosing(effect.stream.aiterate()) as blocks:
            async for block in blocks:
                if not collector.add(block):
                    break
        return collector.body()

    async def _blocking(self, effect: Blocking) -> Any:
        """Call a function in a thread.

        A thread cannot be cancelled. If the task is cancelled, the cancellation waits until the
        function returns, because the flow may then close files that the function uses.
        """
        at_work = asyncio.to_thread(call_function, effect.function)
        return await _result_of(asyncio.create_task(at_work))

    async def _drain(self, effect: Drain) -> None:
        """Pass blocks to the sink in a thread, in batches; meanwhile the next batch is received."""
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
                            await _result_of(at_work)
                        at_work = asyncio.create_task(asyncio.to_thread(_feed, effect.sink, batch))
                        batch, size = [], 0
        except ConnectionFailed as error:
            # raised below, after the sink has the received blocks: the caller resumes behind them
            broken = error
        finally:
            if at_work is not None:
                # Even after an error: the sink may be writing to a file that the flow closes next.
                await end_of(at_work)
        if at_work is not None:
            at_work.result()
        await _result_of(asyncio.create_task(asyncio.to_thread(_feed, effect.sink, batch)))
        if broken is not None:
            raise broken

    async def _take(self, effect: Take) -> Any:
        iterator = effect.iterator
        if isinstance(iterator, AsyncIterator):
            return await anext(iterator, None)
        return await asyncio.to_thread(next, iterator, None)

    async def _parallel(self, effect: Parallel) -> list[Any]:
        work = FlowQueue(effect.flows)

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


async def _result_of(task: asyncio.Task[T]) -> T:
    """Wait for the result of a task that runs a thread; see `end_of`."""
    await end_of(task)
    return task.result()


def _feed(sink: Callable[[bytes], object], batch: list[bytes]) -> None:
    for block in batch:
        sink(block)
