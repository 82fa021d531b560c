"""The runner of sync clients, which performs the effects of flows, and does its I/O in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from contextlib import closing
from contextvars import copy_context
from typing import Any, TypeVar

import httpx

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import DockhandError
from dockhand_core.flow import (
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
from dockhand_core.http.closing import (
    CloseErrors,
    check_closed,
    closers,
    closing_flow,
    closing_runner,
    wrapped_logger,
)
from dockhand_core.http.exchange import Receive, RegistryEndpoint, Send
from dockhand_core.http.flow_loop import FlowQueue, NotAnEffect, call_function, run_sync
from dockhand_core.http.forks import alive, inherited
from dockhand_core.http.lanes import (
    MAX_CONNECTIONS,
    Lanes,
    reserve,
)
from dockhand_core.lazy import futures

__all__ = ["SyncRunner", "run_sync"]

T = TypeVar("T")


class SyncRunner:
    """The runner of a sync client; flows run in the calling thread.

    Args:
        endpoint: the registry's endpoint, which exchanges calls for replies.
        transport: makes the transport; called when the first request is sent, and again after a
            reset or a fork.
        connections: the limit on connections, for transfers between two registries.

    Attributes:
        registry: is equal for runners whose connections lead to one registry.
    """

    asynchronous = False

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        transport: Callable[[], httpx.BaseTransport],
        connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.lanes = Lanes(connections)
        self.registry: Hashable = endpoint.registry
        self.endpoint = endpoint
        self._make = transport
        self._lock = threading.Lock()
        self._transport: httpx.BaseTransport | None = None
        self._closed = False
        alive.add(self)
        self._effects: dict[type, Callable[[Any], Any]] = {
            Call: lambda e: run_sync(endpoint.exchange(e), self.perform),
            Send: lambda e: self._open().handle_request(e.request),
            Receive: self._receive,
            Discard: lambda e: e.stream.close(),
            Sleep: lambda e: time.sleep(e.seconds),
            Blocking: lambda e: call_function(e.function),
            Until: lambda e: futures.wait([e.done]),
            Drain: self._drain,
            Take: lambda e: next(e.iterator, None),
            Parallel: self._parallel,
            At: lambda e: e.peer.run(e.flow),
            Reserve: lambda e: reserve([peer.lanes for peer in e.peers]),
        }

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its result; its errors show no secrets."""
        try:
            return run_sync(flow, self.perform)
        except DockhandError as error:
            self.endpoint.secrets.clean(error)
            raise

    def perform(self, effect: Any) -> Any:
        """Perform one effect and return its result."""
        try:
            performer = self._effects[type(effect)]
        except KeyError:
            raise NotAnEffect from None
        return performer(effect)

    def _open(self) -> httpx.BaseTransport:
        if self._transport is not None and not self._closed:
            return self._transport
        with self._lock:
            if self._closed and closing_runner.get() is not self:
                raise DockhandError("this client is closed")
            if self._transport is None:
                self._transport = self._make()
            return self._transport

    def after_fork(self) -> None:
        """Drop the transports of the parent process without closing their sockets."""
        self._lock = threading.Lock()
        self.endpoint.after_fork()
        self.lanes = Lanes(self.lanes.count)
        inherited.append(self._transport)
        self._transport = None

    def _close_transport(self, errors: CloseErrors) -> None:
        with self._lock:
            transport, self._transport = self._transport, None
        if transport is not None:
            with errors.collected(transport):
                transport.close()

    def reset(self) -> None:
        """Close the sockets and forget cached tokens; the next request connects again."""
        errors = CloseErrors(self.endpoint.secrets)
        try:
            self._close_plugins(errors, self.endpoint.take_auth())
        finally:
            self._close_transport(errors)
        errors.raise_first()

    def close(self, driver: RegistryDriver) -> None:
        """Close the driver, the auth driver, the sockets and the logger, if they are still open.

        The drivers come first: their `close` may send requests.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        errors = CloseErrors(self.endpoint.secrets)
        closing = closing_runner.set(self)
        try:
            self._close_plugins(errors, driver)
            self._close_plugins(errors, self.endpoint.take_auth(last=True))
        finally:
            closing_runner.reset(closing)
            try:
                self._close_transport(errors)
            finally:
                self._close_plugins(errors, wrapped_logger(self.endpoint.log))
        errors.raise_first()

    def _close_plugins(self, errors: CloseErrors, *plugins: object) -> None:
        for plugin, close in closers(plugins):
            with errors.collected(plugin):
                answer = close()
                flow = closing_flow(plugin, answer, self.endpoint)
                if flow is not None:
                    run_sync(flow, self.perform)
                check_closed(answer, close)

    def _receive(self, effect: Receive) -> bytes:
        collector = self.endpoint.collector(effect)
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
        work = FlowQueue(effect.flows, effect.stop)

        def worker() -> None:
            try:
                for position, flow in work:
                    work.results[position] = self.run(flow)
            except BaseException as error:
                work.failed(error)

        with futures.ThreadPoolExecutor(effect.limit, thread_name_prefix="dockhand") as pool:
            try:
                for future in [
                    pool.submit(copy_context().run, worker) for _ in range(effect.limit)
                ]:
                    future.result()
            except BaseException as error:  # such as KeyboardInterrupt
                work.failed(error)  # stops the workers
                raise
        return work.outcome()
