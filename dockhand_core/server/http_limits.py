"""Limits of the servers on connections and request heads, and a check of request heads.

`http_protocols` and `connections` enforce the limits on time, bytes and connections. This module
needs no HTTP library.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["HttpLimits", "RequestHeadCheck", "error_reply"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

# The characters of a host and a port; another one, such as `/` or `@`, would change the meaning of
# a URL that is made of the header. The host may be empty.
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of a server on its clients.

    Attributes:
        head_timeout: seconds in which the TLS handshake, and then the line and headers of a
            request, must arrive, counted from the start of the connection or, on a connection that
            is kept alive, from the first byte of the request.
        stall_timeout: seconds after which a connection is closed if no byte of a request's body
            arrives while the server reads it, or if the client reads no byte of a reply.
        max_head: bytes of a request's line and headers together. Trailers and chunk extensions
            have the same limit.
        max_connections: connections that may be open at once.
        backlog: connections that the operating system queues before the server accepts them.
    """

    head_timeout: float = 30.0
    stall_timeout: float = 60.0
    max_head: int = 64 << 10
    max_connections: int = 512
    backlog: int = 128


def error_reply(status: int) -> bytes:
    """The bytes of a reply without a body, after which the connection is closed."""
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    return head.encode()


class RequestHeadCheck:
    """An ASGI application that refuses requests with an ambiguous or too large head.

    The connection is closed after such a request, since a proxy and the server may disagree about
    the end of its body: the server could take a part of the body for a further request.

    Args:
        app: the ASGI application that gets all other requests.
        max_head: maximum number of bytes of a request's line and headers.

    Follows: RFC 9112, sections 3.2 (Host), 6.1 (Transfer-Encoding) and 6.3 (the length of bodies).
    """

    def __init__(self, app: AsgiApp, max_head: int) -> None:
        self._app, self._max_head = app, max_head

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] == "http" and (status := self._refusal(scope)):
            headers = [(b"content-length", b"0"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body"})
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Message) -> int | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) + 4 for name, value in headers)
        if size > self._max_head:
            return 431
        hosts: list[bytes] = []
        codings, has_length = [], False
        for name, value in headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding":
                codings.append(value.strip().lower())
            elif name == b"content-length":
                has_length = True
        has_wrong_coding = codings and (
            codings != [b"chunked"] or has_length or scope["http_version"] == "1.0"
        )
        has_wrong_host = len(hosts) > 1 or not all(map(_HOST.fullmatch, hosts))
        has_wrong_host |= not hosts and scope["http_version"] != "1.0"
        return 400 if has_wrong_coding or has_wrong_host else None
