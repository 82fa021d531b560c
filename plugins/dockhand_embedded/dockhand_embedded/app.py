"""The registry as an ASGI application.

Bodies stream both ways in constant memory, and what may wait for a disk runs in a thread, so that
one event loop serves many clients. No framework: the protocol core does all the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote

from dockhand_embedded.driver import storage_at
from dockhand_embedded.protocol import Limits, Registry
from dockhand_embedded.replies import CHUNK, FileBody, Headers, Refused, Reply, Request
from dockhand_embedded.stepping import drive

__all__ = ["create_app"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_READ = ("GET", "HEAD")


class _Gone(Exception):
    """The client went away before its request was whole."""


def create_app(root: str | Path, *, read_only: bool = False, limits: Limits | None = None) -> App:
    """An ASGI application that serves the repositories in a folder.

    It asks nobody who they are: put it where only those can reach it who may do everything, or
    behind something that asks.

    Args:
        root: a folder of OCI Image Layouts, one for each repository, made if it is not there; or
            `:memory:`, which keeps nothing.
        read_only: refuse what writes, with 405 UNSUPPORTED.
        limits: sizes in bytes that are refused with 413.

    Raises:
        ConfigError: the folder cannot be used.
    """
    registry = Registry(storage_at(root), limits)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            request = _request(scope)
            if read_only and request.method not in _READ:
                reply = Refused(
                    405, "UNSUPPORTED", "this registry is read-only", None, [("Allow", "GET, HEAD")]
                ).reply()
            else:
                try:
                    inline = not registry.storage.blocking
                    reply = await drive(registry, request, _pieces(receive), inline=inline)
                except _Gone:
                    return
            await _reply(reply, send)
        else:
            raise RuntimeError(f"a registry does not speak {scope['type']}")

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _request(scope: Message) -> Request:
    raw = scope.get("raw_path")
    path = unquote(raw.decode("latin-1"), errors="replace") if raw else scope["path"]
    prefix = scope.get("root_path", "")
    return Request(
        method=scope["method"].upper(),
        path=path.removeprefix(prefix) if prefix else path,
        query=parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True),
        headers=Headers((n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]),
    )


async def _pieces(receive: Receive) -> AsyncGenerator[bytes, None]:
    """The body in pieces of about 1 MiB.

    Servers pass on a few KiB at a time, and going to a thread for each would cost more than the
    work that it does there.
    """
    more = True
    while more:
        parts: list[bytes] = []
        size = 0
        gone = False
        while more and size < CHUNK and not gone:
            message = await receive()
            gone = message["type"] == "http.disconnect"
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
        if size:
            yield b"".join(parts)
        if gone:
            raise _Gone


async def _reply(reply: Reply, send: Send) -> None:
    headers = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if not isinstance(reply.body, FileBody):
        await send({"type": "http.response.body", "body": reply.body})
        return
    body = reply.body
    try:
        while not body.finished:
            piece = await asyncio.to_thread(body.read)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
    finally:
        body.close()
