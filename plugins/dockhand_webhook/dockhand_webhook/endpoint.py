"""Taking a notification: who may send one, how it is read, and what the registry is told.

A registry repeats what is refused for ever, and holds back everything behind it. So whatever comes
from one that showed its token is taken, and what cannot be read becomes a dead letter. It is only
told 202 when that is on disk.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from dockhand_core import EventInvalid
from dockhand_core.events import EventHeaders, EventParsers
from dockhand_webhook.errors import InboxError
from dockhand_webhook.inbox.dead_letters import Unread
from dockhand_webhook.inbox.inbox import Inbox, is_connection
from dockhand_webhook.inbox.tokens import Door

__all__ = ["Notify"]

_log = logging.getLogger("dockhand.webhook")

READ = 1 << 20  # bytes: what is larger is not read
TAKEN = 16 << 20  # bytes: what is larger is refused
KEPT = 64 << 10  # bytes of what cannot be read
# Whatever a header is called, such a word in it says that it may hold a secret.
_SECRET = (
    "assertion", "auth", "cookie", "credential", "jwt", "key", "password", "secret", "session",
    "signature", "token",
)  # fmt: skip


def refusal() -> Response:
    """The reply to who shows no valid token."""
    challenge = 'Bearer realm="dockhand", Basic realm="dockhand"'
    text = "a valid token is needed\n"
    return PlainTextResponse(text, 401, {"WWW-Authenticate": challenge})


def failure() -> Response:
    """The reply where the disk fails."""
    return PlainTextResponse("the inbox cannot be written\n", 503, {"Retry-After": "5"})


_REPLIES = {
    202: Response(status_code=202),
    401: refusal(),
    404: PlainTextResponse("this cannot be a connection's name\n", 404),
    413: PlainTextResponse("more than 16 MiB\n", 413, {"Connection": "close"}),
    503: failure(),
}


def _nothing() -> None:
    pass


class Notify:
    """The ASGI application that registries post to.

    Args:
        inbox: where events are kept.
        door: who may come in.
        parsers: what reads notifications.

    Attributes:
        refused: requests without a valid token.
        taken: called when there is something new in the inbox.
    """

    def __init__(self, inbox: Inbox, door: Door, parsers: EventParsers) -> None:
        self._inbox, self._door, self._parsers = inbox, door, parsers
        self.refused = 0
        self.taken: Callable[[], None] = _nothing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        status = await self._take(scope, receive)
        if status is not None:  # else whoever asked is gone
            await _REPLIES[status](scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive) -> int | None:
        headers = _text(scope["headers"])
        connection: str = scope["path_params"].get("connection", "")
        if not self._door.admits(headers.get("authorization"), connection):
            self.refused += 1
            _log.warning("a notification without a valid token, on route %r", scope["path"])
            return 401
        if connection and not is_connection(connection):
            return 404
        try:
            body, size = await _body(headers.get("content-length"), receive)
        except _Gone:
            return None
        if size > TAKEN:
            _log.error("a notification on route %r has more than 16 MiB", scope["path"])
            return 413
        try:
            await self._keep(connection, headers, body, size)
        except InboxError as error:
            _log.error("a notification was not taken: %s", error)
            return 503
        self.taken()
        return 202

    async def _keep(
        self, connection: str, headers: Mapping[str, str], body: bytes, size: int
    ) -> None:
        public = EventHeaders({name: headers[name] for name in headers if _is_public(name)})
        try:
            if size > READ:
                raise EventInvalid(f"the body has {size} bytes, and more than {READ} are not read")
            await self._inbox.take(connection, self._parsers.parse(public, body))
        except EventInvalid as error:
            _log.error("a notification of %d bytes on %r: %s", size, connection, error)
            await self._inbox.take_unread(
                connection, Unread(dict(public), body[:KEPT], size), error
            )


class _Gone(Exception):
    """Whoever sent the request went away before its end."""


async def _body(length: str | None, receive: Receive) -> tuple[bytes, int]:
    """A request's body and its size; the body's beginning alone where it is too large to read."""
    if length is not None and length.isdecimal() and int(length) > TAKEN:
        return b"", int(length)
    pieces: list[bytes] = []
    size, more = 0, True
    while more and size <= TAKEN:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        piece = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(piece)
        if size <= READ:
            pieces.append(piece)
        elif pieces or size == len(piece):
            pieces = [b"".join([*pieces, piece])[:KEPT]]
    return b"".join(pieces), size


def _text(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers in lower case; of one that came twice the first."""
    found: dict[str, str] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return found


@functools.lru_cache(maxsize=256)
def _is_public(name: str) -> bool:
    return not any(word in name for word in _SECRET)
