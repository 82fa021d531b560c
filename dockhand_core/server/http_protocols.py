"""uvicorn's two HTTP protocols, with the limits of `HttpLimits` on each connection.

uvicorn itself has a timeout only for connections that are kept alive between two requests, and
stops that timeout at any byte. httptools has no limit on the size of heads and trailers; h11 has
one on a part that is incomplete.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from dockhand_core.server.client_networks import network_of
from dockhand_core.server.http_limits import HttpLimits, error_reply

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
else:
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:  # httptools is optional
        HttpToolsProtocol = None

__all__ = ["LimitedProtocol", "limited_protocol"]

if sys.platform == "linux":
    import fcntl
    import termios

_INT = bytes(4)  # the buffer for a number of an ioctl
# Data is parsed in pieces of this size, so that a limit is checked before all of the data is kept.
_PIECE = 4 << 10
_CHUNK_FRAMING = 16  # bytes that each chunk may add to a body without counting as excess
_MAX_PIPELINED = 32  # requests that may wait while a request before them is answered


class LimitedProtocol:
    """The part that both protocols share: the deadlines of a connection.

    `check` is called a few times a second. That is cheaper than timers, which each received piece
    of data would have to move.
    """

    limits: HttpLimits

    # attributes of uvicorn's protocols
    loop: asyncio.AbstractEventLoop
    transport: Any
    flow: Any
    cycle: Any
    client: tuple[str, int] | None

    # The time when the wait for the head of a request began. None while a request is open, and
    # between two requests, when uvicorn's timeout for idle connections applies.
    _head_since: float | None = None
    _head_began = False  # whether a byte of this head has arrived
    _answered_at = 0.0
    _is_half_closed = False  # the client sends no more, but waits for replies
    _body_since = 0.0  # when a byte of the body arrived, or the server began to wait for it
    _unsent, _unsent_since = 0, 0.0  # bytes that the client has not taken, and when they changed

    def connection_made(self, transport: Any) -> None:
        """Start the deadline of the first request."""
        super().connection_made(transport)  # type: ignore[misc]
        self._head_since = self._unsent_since = self.loop.time()

    def on_response_complete(self) -> None:
        """Note the time, for `waits_since`; close the connection if no request can follow."""
        self._answered_at = self.loop.time()
        super().on_response_complete()  # type: ignore[misc]
        if self._is_half_closed and not self._is_replying:
            self.transport.close()

    def eof_received(self) -> Any:  # uvicorn declares None
        """Keep the connection until complete requests are answered (RFC 9112, section 9.6).

        uvicorn would close it, although the client may only have shut down its sending side. TLS
        has no such state in asyncio.
        """
        is_plain = self.transport.get_extra_info("sslcontext") is None
        self._is_half_closed = is_plain and self._is_replying and not self.is_reading_body
        return self._is_half_closed

    def send_400_response(self, msg: str) -> None:
        """Refuse a malformed request; uvicorn's method fails while a reply is being sent."""
        del msg
        self.refuse(400)

    def refuse(self, status: int) -> None:
        """Close the connection, after a reply without a body unless another reply was begun."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        # uvicorn leaves `more_body` true if it replied before the end of the body
        is_answered = cycle is not None and cycle.response_started
        if not is_answered or (cycle.response_complete and not cycle.more_body):
            self.transport.write(error_reply(status))
        self.transport.close()

    @property
    def _is_replying(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_reading_body(self) -> bool:
        """Whether a request's head is complete and its body is not."""
        raise NotImplementedError

    @property
    def waits_for_request(self) -> bool:
        """Whether no request is open; part of one's head may have arrived."""
        return not self._is_replying and not self.is_reading_body

    @property
    def has_been_used(self) -> bool:
        """Whether a request was read from this connection."""
        return self.cycle is not None

    @property
    def waits_since(self) -> float:
        """The time of the event loop at which the wait for a request began."""
        return self._head_since or self._answered_at

    def stalled(self, now: float) -> float:
        """The seconds for which the server has waited for a byte of a request's body."""
        return now - self._body_since if self.is_reading_body else 0.0

    @property
    def network(self) -> str:
        """The network of the client; see `network_of`."""
        return network_of(self.client[0]) if self.client else ""

    def check(self, now: float) -> None:
        """Close the connection if one of its deadlines has passed.

        Args:
            now: the time of the event loop, in seconds.
        """
        unsent = _unsent_bytes(self.transport)
        if unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif unsent and now - self._unsent_since > self.limits.stall_timeout:
            self.transport.abort()  # closing would wait for the client to read
            return
        if self.transport.is_closing():
            return
        if self.is_reading_body:
            # The client may have to wait for the server, not the other way round.
            waits = self._is_replying and self.cycle.waiting_for_100_continue
            if waits or self.flow.read_paused:
                self._body_since = now
            elif now - self._body_since > self.limits.stall_timeout:
                self.refuse(408)
        elif self._head_since is not None:
            if self._is_replying:  # a part of a pipelined head waits with its reply
                self._head_since = now
            elif now - self._head_since > self.limits.head_timeout:
                if self._head_began:
                    self.refuse(408)
                else:
                    self.transport.close()

    def _wait_for_head(self, now: float, *, began: bool) -> None:
        if self._head_since is None:
            self._head_since = now
        self._head_began = began


def _unsent_bytes(transport: Any) -> int:
    """The bytes of replies that the client has not acknowledged, if more wait to be sent.

    The kernel reports that it can take more only after a third of its buffer is free, which may be
    megabytes. Therefore the bytes in that buffer are counted, too.
    """
    size: int = transport.get_write_buffer_size()
    if size and sys.platform == "linux":
        with suppress(OSError, ValueError):  # the socket may be closed already
            queued = fcntl.ioctl(
                transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, _INT
            )
            size += int.from_bytes(queued, sys.byteorder)
    return size


class _LimitedH11(LimitedProtocol, H11Protocol):
    """h11 limits incomplete heads, trailers and chunk headers by itself; see `limited_protocol`."""

    @property
    def is_reading_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY

    def data_received(self, data: bytes) -> None:
        now = self.loop.time()
        was_waiting = self.conn.their_state is h11.IDLE
        start = 0
        while start < len(data) and not self.transport.is_closing():
            cycle = self.cycle
            received = len(cycle.body) if cycle is not None else 0
            unparsed = len(self.conn.trailing_data[0])
            piece = data[start:] if self.is_reading_body else data[start : start + _PIECE]
            start += len(piece)
            super().data_received(piece)
            if self.cycle is None:
                continue
            if self.cycle.response_complete:  # the body is discarded
                grown = len(self.conn.trailing_data[0]) < unparsed + len(piece)
            else:
                grown = self.cycle is not cycle or len(self.cycle.body) > received
            if grown:
                self._body_since = now
        if self.conn.their_state is h11.IDLE:
            self._wait_for_head(now, began=was_waiting)
        else:
            self._head_since = None


if HttpToolsProtocol is not None:

    class _LimitedHttpTools(LimitedProtocol, HttpToolsProtocol):
        _is_open = False  # from the first byte of a request to its last one
        _in_body = False
        _began = False  # whether a request began in the current piece
        _body_bytes = 0  # of the current piece
        _framing_bytes = 0  # of the current piece, as far as they are ordinary
        # Bytes of the head, or, in a body, of trailers, chunk extensions and unusually small chunks
        _excess = 0

        @property
        def is_reading_body(self) -> bool:
            return self._in_body

        def data_received(self, data: bytes) -> None:
            now = self.loop.time()
            if not self._is_open:
                self._wait_for_head(now, began=True)
            start = 0
            while start < len(data) and not self.transport.is_closing():
                # In a body, whole reads are parsed at once, because that is faster.
                piece = data[start:] if self._in_body else data[start : start + _PIECE]
                start += len(piece)
                self._parse(piece, now)

        def _parse(self, piece: bytes, now: float) -> None:
            was_open, self._began = self._is_open, False
            self._body_bytes = self._framing_bytes = 0
            super().data_received(piece)
            if self._body_bytes:
                self._body_since = now
            # It is unknown which part of the piece belongs to the request before.
            if not (was_open and self._began):
                ordinary = self._body_bytes + self._framing_bytes
                self._excess = max(0, self._excess + len(piece) - ordinary)
            if self._is_open and self._excess > self.limits.max_head:
                self.refuse(431)

        def on_message_begin(self) -> None:
            self._is_open = self._began = True
            self._excess = 0
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            # Trailers come after the head; uvicorn would append them to the request's headers.
            if not self._in_body:
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            upgrades = self.parser.should_upgrade()
            names = {name for name, _ in self.headers}
            if len(self.pipeline) >= _MAX_PIPELINED or (
                # httptools skips the body of a request that asks for another protocol
                upgrades and not names.isdisjoint((b"content-length", b"transfer-encoding"))
            ):
                raise ValueError  # httptools stops, and `data_received` refuses the request
            self._in_body, self._head_since, self._excess = True, None, 0
            self._body_since = self.loop.time()
            super().on_headers_complete()
            if upgrades:  # httptools can parse nothing after such a request
                self.cycle.keep_alive = False

        def on_chunk_header(self) -> None:
            self._framing_bytes += _CHUNK_FRAMING

        def on_body(self, body: bytes) -> None:
            self._body_bytes += len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._is_open = self._in_body = False
            if self.cycle.response_complete:  # uvicorn's timeout does not begin again
                self._wait_for_head(self.loop.time(), began=False)
            super().on_message_complete()


def limited_protocol(limits: HttpLimits, *, prefer_h11: bool = False) -> type[asyncio.Protocol]:
    """Make the protocol class of a server: httptools if it is installed, otherwise h11.

    With h11, `h11_max_incomplete_event_size` of `uvicorn.Config` must be `limits.max_head`.

    Args:
        limits: the limits of each connection.
        prefer_h11: use h11 even if httptools is installed.
    """
    base: type[Any] = _LimitedH11
    if HttpToolsProtocol is not None and not prefer_h11:
        base = _LimitedHttpTools
    return type(base.__name__, (base,), {"limits": limits})
