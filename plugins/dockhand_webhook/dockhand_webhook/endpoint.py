"""The endpoint that registries post notifications to: authentication, limits, parsing, replies.

Distribution repeats a refused notification endlessly, and sends no later notification before it. So
a notification with a valid token is accepted even if it cannot be parsed: it becomes a dead letter.
Only bodies above a limit are refused. The reply 202 is sent when the events are on disk.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable, Mapping

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from dockhand_core import EventInvalid
from dockhand_core.events import EventHeaders, EventParsers
from dockhand_core.server import ThrottledLog
from dockhand_core.text import printable
from dockhand_webhook.errors import InboxError
from dockhand_webhook.inbox.dead_letters import UnreadableNotification
from dockhand_webhook.inbox.inbox import Inbox, is_connection_name
from dockhand_webhook.inbox.tokens import TokenAuthenticator

__all__ = ["MAX_BODY", "NotificationEndpoint", "unauthorized_reply", "unavailable_reply"]

MAX_BODY = 16 << 20  # bytes; the default limit on bodies

_log = logging.getLogger("dockhand.webhook")

_MAX_PARSED_AT_ONCE = 256 << 10  # bytes; a larger body is parsed in a thread, for it takes long
_MAX_KEPT = 64 << 10  # bytes; only the beginning of an unreadable body is stored, up to this size
# A header whose name contains one of these words may hold a secret, so it is not stored.
_SECRET_WORDS = (
    "assertion", "auth", "cookie", "credential", "jwt", "key", "password", "secret", "session",
    "signature", "token",
)  # fmt: skip


def unauthorized_reply() -> Response:
    """The reply 401, for a request without a valid token."""
    challenge = 'Bearer realm="dockhand", Basic realm="dockhand"'
    text = "a valid token is required\n"
    return PlainTextResponse(text, 401, {"WWW-Authenticate": challenge})


def unavailable_reply() -> Response:
    """The reply 503, for a request that came while the inbox cannot be written."""
    return PlainTextResponse("the inbox cannot be written\n", 503, {"Retry-After": "5"})


_REPLIES = {
    202: Response(status_code=202),
    401: unauthorized_reply(),
    404: PlainTextResponse("not a valid connection name\n", 404),
    413: PlainTextResponse("the body is too large\n", 413, {"Connection": "close"}),
    503: unavailable_reply(),
}


def _do_nothing() -> None:
    pass


class NotificationEndpoint:
    """An ASGI application that stores the notifications it receives.

    Args:
        inbox: the inbox that stores the events.
        authenticator: decides which requests are accepted.
        parsers: the parsers of notifications.
        max_body: the size in bytes above which a body is refused.

    Attributes:
        refused: number of requests without a valid token.
        on_stored: a function that is called after each notification is stored.
    """

    def __init__(
        self,
        inbox: Inbox,
        authenticator: TokenAuthenticator,
        parsers: EventParsers,
        max_body: int = MAX_BODY,
    ) -> None:
        self._inbox, self._authenticator, self._parsers = inbox, authenticator, parsers
        self._max_body = max_body
        self.refused = 0
        # Senders cause these messages, so their number is limited.
        self._log_unauthorized = ThrottledLog(_log, logging.WARNING)
        self._log_too_large = ThrottledLog(_log, logging.ERROR)
        self._log_unreadable = ThrottledLog(_log, logging.ERROR)
        self.on_stored: Callable[[], None] = _do_nothing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store the notification in a request, and reply."""
        status = await self._accept(scope, receive)
        if status is not None:  # None: the client has disconnected
            await _REPLIES[status](scope, receive, send)

    async def _accept(self, scope: Scope, receive: Receive) -> int | None:
        """Authenticate a request, and read and store its notification.

        Returns:
            the HTTP status of the reply; None if the client has disconnected.
        """
        headers = _decode_headers(scope["headers"])
        connection: str = scope["path_params"].get("connection", "")
        if not self._authenticator.accepts(headers.get("authorization"), connection):
            self.refused += 1
            self._log_unauthorized(
                "a notification without a valid token, on route %r", scope["path"]
            )
            return 401
        if connection and not is_connection_name(connection):
            return 404
        try:
            body = await _read_body(headers.get("content-length"), receive, self._max_body)
        except _ClientDisconnected:
            return None
        if body is None:
            self._log_too_large(
                "a notification on route %r has more than %d bytes (max_body)",
                scope["path"], self._max_body,
            )  # fmt: skip
            return 413
        try:
            await self._store(connection, headers, body)
        except InboxError as error:
            _log.error("a notification was not taken: %s", error)
            return 503
        self.on_stored()
        return 202

    async def _store(self, connection: str, headers: Mapping[str, str], body: bytes) -> None:
        """Store the events of a notification; if it is unreadable, store it as a dead letter."""
        public = EventHeaders({name: headers[name] for name in headers if _is_public(name)})
        route = connection or None
        try:
            if len(body) > _MAX_PARSED_AT_ONCE:
                events = await asyncio.to_thread(self._parsers.parse, public, body, route)
            else:
                events = self._parsers.parse(public, body, route)
            await self._inbox.store(connection, events)
        except EventInvalid as error:
            self._log_unreadable(
                "a notification of %d bytes on %r: %s",
                len(body),
                connection,
                printable(str(error)),
            )
            notification = UnreadableNotification(dict(public), body[:_MAX_KEPT], len(body))
            await self._inbox.store_unreadable(connection, notification, error)


class _ClientDisconnected(Exception):
    """The client disconnected before the end of its request."""


async def _read_body(length: str | None, receive: Receive, limit: int) -> bytes | None:
    """Read the body of a request, unless it is too large.

    Reading ends above `limit` bytes. It does not begin if `Content-Length` is above that.

    Returns:
        the body; None if it is too large.

    Raises:
        _ClientDisconnected: the client disconnected before the end of the body.
    """
    if length is not None and length.isdecimal() and (len(length) > 20 or int(length) > limit):
        return None
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientDisconnected
        piece = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(piece)
        if size > limit:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _decode_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Decode headers to a dict with lower-case names and the first value of a repeated header."""
    decoded: dict[str, str] = {}
    for name, value in headers:
        decoded.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return decoded


@functools.lru_cache(maxsize=256)
def _is_public(name: str) -> bool:
    return not any(word in name for word in _SECRET_WORDS)
