"""A uvicorn server that limits its connections: how many are open, and how long each may wait."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import uvicorn

from dockhand_core.server.client_networks import network_of
from dockhand_core.server.http_limits import HttpLimits, error_reply
from dockhand_core.server.http_protocols import LimitedProtocol
from dockhand_core.server.throttled_log import ThrottledLog

__all__ = ["LimitedServer"]

_TLS_SHUTDOWN = 5.0  # seconds that a client may take to confirm the end of TLS
# Seconds without a byte of a request's body after which the connection may be closed: for a new
# connection, if none other can be, or at the end of the server. Most containers get 10 seconds to
# stop. A stall timeout that is shorter counts instead.
_SHORT_STALL = 5.0
_ACCEPT_PAUSE = 0.1  # seconds, if the process or the system has no free file descriptor
_log = logging.getLogger("dockhand.server")


class _Waiting(NamedTuple):
    """A connection that can be closed: without an open request, or with one that stalls."""

    network: str
    has_been_used: bool
    since: float  # time of the event loop
    close: Callable[[], object]


class LimitedServer(uvicorn.Server):
    """A server whose connections are accepted within the limits of `HttpLimits`.

    Above the limit, a new connection takes the place of one that waits for a request, or else of
    one with a request whose body has stalled. If there is none, the new connection is refused with
    503.

    Args:
        config: uvicorn's configuration, with a protocol of `limited_protocol`.
        limits: the limits.
    """

    def __init__(self, config: uvicorn.Config, limits: HttpLimits) -> None:
        super().__init__(config)
        self._limits = limits
        self._handshakes: dict[asyncio.Task[None], _Waiting] = {}
        self._report = ThrottledLog(_log, logging.ERROR)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application's lifespan, and accept connections."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(1)  # uvicorn's own status, 3, means `not found` in Dockhand's programs
        self.servers = []
        for listener in sockets or []:
            listener.setblocking(False)
            self.servers.append(_Acceptor(self._accept_connections(listener)))  # type: ignore[arg-type]
        self._checks = asyncio.create_task(self._check_connections())
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the open requests; deadlines are shorter, so that no client delays the end."""
        short = replace(
            self._limits,
            head_timeout=min(self._limits.head_timeout, _SHORT_STALL),
            stall_timeout=min(self._limits.stall_timeout, _SHORT_STALL),
        )
        for connection in self._connections():
            connection.limits = short
        for task in list(self._handshakes):
            task.cancel()
        await super().shutdown(sockets)
        self._checks.cancel()

    async def _accept_connections(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except ConnectionError:  # the client closed the connection in the backlog
                continue
            except OSError as error:
                self._report("no connection can be accepted: %s", error.strerror)
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            if not self._make_room():
                with suppress(OSError):
                    if not self.config.is_ssl:
                        connection.send(error_reply(503))
                connection.close()
            elif self.config.is_ssl:
                task = loop.create_task(self._start(connection))
                network = network_of(address[0])
                self._handshakes[task] = _Waiting(network, False, loop.time(), task.cancel)
                task.add_done_callback(functools.partial(self._end_handshake, connection))
            else:
                await self._start(connection)
            await asyncio.sleep(0)  # if a connection is in the backlog, `sock_accept` does not wait

    async def _start(self, connection: socket.socket) -> None:
        """Do the TLS handshake, if any, and create the connection's protocol."""
        config = self.config

        def protocol() -> Any:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        timeouts: dict[str, Any] = {}
        if config.ssl:
            timeouts["ssl_handshake_timeout"] = self._limits.head_timeout
            timeouts["ssl_shutdown_timeout"] = _TLS_SHUTDOWN
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol, connection, ssl=config.ssl, **timeouts
            )
        except OSError:  # the handshake failed, or took too long
            connection.close()
        except Exception:  # otherwise no further connection would be accepted
            _log.exception("a connection could not be started")
            connection.close()

    def _end_handshake(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task, None)
        if task.cancelled():  # possibly before it began
            connection.close()

    def _make_room(self) -> bool:
        """Close a waiting connection if there are too many; return False if none is waiting."""
        open_ = self._connections()
        waiting = [each for task, each in self._handshakes.items() if not task.cancelling()]
        if len(open_) + len(waiting) < self._limits.max_connections:
            return True
        for each in open_:
            # One that is being closed may wait until its client reads the last reply.
            if each.waits_for_request or each.transport.is_closing():
                since = each.waits_since
                close = each.transport.abort
                waiting.append(_Waiting(each.network, each.has_been_used, since, close))
        outcome = "one that waited for a request was closed"
        if not waiting:
            waiting = self._stalled(open_)
            outcome = "one whose request stalled was closed" if waiting else "a new one was refused"
        networks = Counter(each.network for each in waiting)
        # A client that opens many connections closes its own, not those of others.
        first = min(
            waiting,
            key=lambda each: (-networks[each.network], each.has_been_used, each.since),
            default=None,
        )
        if first is not None:
            first.close()
        self._report(
            "there are %d connections, the maximum (--max-connections); %s",
            self._limits.max_connections,
            outcome,
        )
        return first is not None

    def _stalled(self, connections: list[LimitedProtocol]) -> list[_Waiting]:
        limit = min(self._limits.stall_timeout, _SHORT_STALL)
        now = asyncio.get_running_loop().time()
        return [
            _Waiting(
                each.network, True, now - each.stalled(now), functools.partial(each.refuse, 408)
            )
            for each in connections
            if each.stalled(now) > limit
        ]

    def _connections(self) -> list[LimitedProtocol]:
        return [each for each in self.server_state.connections if isinstance(each, LimitedProtocol)]

    async def _check_connections(self) -> None:
        loop = asyncio.get_running_loop()
        shortest = min(self._limits.head_timeout, self._limits.stall_timeout)
        while True:
            await asyncio.sleep(min(0.5, shortest / 4))
            for connection in self._connections():
                connection.check(loop.time())


class _Acceptor:
    """A listener in the form in which uvicorn closes its servers."""

    def __init__(self, accepting: Any) -> None:
        self._task = asyncio.create_task(accepting)

    def close(self) -> None:
        self._task.cancel()

    async def wait_closed(self) -> None:
        with suppress(asyncio.CancelledError):
            await self._task
