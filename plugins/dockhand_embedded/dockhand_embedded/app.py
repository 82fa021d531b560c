"""The registry as an ASGI application.

Bodies stream both ways in constant memory, and what may wait for a disk runs in a thread, so that
one event loop serves many clients. No framework: the protocol core does all the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from dataclasses import replace
from inspect import isawaitable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote

from dockhand_core.config import validate_table
from dockhand_embedded.access.policy import Authenticate, admitted, ask
from dockhand_embedded.driver import storage_at
from dockhand_embedded.notifications import Endpoint, Notifier
from dockhand_embedded.protocol.async_registry import drive, run
from dockhand_embedded.protocol.messages import CHUNK, FileBody, Headers, Refused, Reply, Request
from dockhand_embedded.protocol.registry import Limits, Registry, endpoint
from dockhand_embedded.storage.upload_files import UPLOAD_AGE

__all__ = ["create_app"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_READ = ("GET", "HEAD")
# A body of this many bytes is taken in as a whole: each way to a thread and back costs as much.
_SMALL = 256 * 1024
_SWEEP_EVERY = 3600.0
_PATHSEND = "http.response.pathsend"
_log = logging.getLogger("dockhand_embedded")


class _Gone(Exception):
    """The client went away before its request was whole."""


def create_app(
    root: str | Path,
    *,
    read_only: bool = False,
    limits: Limits | None = None,
    upload_age: float = UPLOAD_AGE,
    authenticate: Authenticate | None = None,
    notifications: Sequence[Endpoint | Mapping[str, Any]] = (),
) -> App:
    """An ASGI application that serves the repositories in a folder.

    Without `authenticate` it asks nobody who they are: put it where only those can reach it who
    may do everything, or behind something that asks.

    Args:
        root: a folder of OCI Image Layouts, one for each repository, made if it is not there; or
            `:memory:`, which keeps nothing.
        read_only: refuse what writes, with 405 UNSUPPORTED.
        limits: how large things may be, and how many uploads on their way.
        upload_age: uploads that got no byte for so many seconds are forgotten: now, and every hour
            where the server runs the application's lifespan.
        authenticate: who asks, and whether they may: `htpasswd.Htpasswd`, `bearer.Bearer`, or a
            callable of your own (`access.Authenticate`).
        notifications: who is told what happens: mappings with `url`, `token`, `timeout`.

    Raises:
        ConfigError: the folder cannot be used, or an endpoint cannot be told.
    """
    told = [
        each
        if isinstance(each, Endpoint)
        else validate_table(Endpoint, each, where=f"notifications: number {number}", base=Path())
        for number, each in enumerate(notifications, 1)
    ]
    registry = Registry(storage_at(root, upload_age), limits, Notifier(told) if told else None)
    return _Application(registry, read_only, upload_age, authenticate)


class _Application:
    def __init__(
        self,
        registry: Registry,
        read_only: bool,
        upload_age: float,
        authenticate: Authenticate | None,
    ) -> None:
        self._registry = registry
        self._read_only = read_only
        self._upload_age = upload_age
        self._authenticate = authenticate

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            by_path = _PATHSEND in (scope.get("extensions") or {})
            try:
                await _reply(await self._answer(_request(scope), receive), send, by_path=by_path)
            except _Gone:
                return
        else:
            raise RuntimeError(f"a registry does not speak {scope['type']}")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        sweeper = asyncio.ensure_future(self._sweep())
        try:
            while True:
                message = await receive()
                if message["type"] == "lifespan.shutdown":
                    break
                await send({"type": "lifespan.startup.complete"})
        finally:
            sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeper
        if self._registry.notifier:
            await asyncio.to_thread(self._registry.notifier.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_EVERY, max(1.0, self._upload_age / 2)))
            try:
                swept = await asyncio.to_thread(self._registry.storage.sweep, self._upload_age)
            except OSError:
                _log.exception("stale uploads could not be swept")
            else:
                if swept:
                    _log.info("swept %d stale uploads", swept)

    async def _answer(self, request: Request, receive: Receive) -> Reply:
        if self._authenticate:
            verdict = ask(self._authenticate, request)
            outcome = admitted(request, await verdict if isawaitable(verdict) else verdict)
            if isinstance(outcome, Reply):
                return outcome
            request = outcome
        if self._read_only and request.method not in _READ:
            return Refused(
                405, "UNSUPPORTED", "this registry is read-only", None, [("Allow", "GET, HEAD")]
            ).reply()
        pieces = _pieces(receive)
        quick = not self._registry.storage.blocking
        if not _is_small(request):
            inline = quick or _is_quick(request)
            return await drive(self._registry, request, pieces, inline=inline, ahead=True)
        whole = replace(request, body=await _whole(pieces))
        reply: Reply = await run(self._registry.handle, whole, inline=quick)
        return reply


def _is_small(request: Request) -> bool:
    """Whether the body is best taken in before anything else."""
    # Who waits for `100 Continue` wants to be refused before the body is sent.
    return 0 < (request.length or 0) <= _SMALL and "expect" not in request.headers


def _is_quick(request: Request) -> bool:
    """Whether a folder answers sooner than a thread could be asked.

    What a tag names is in the index that is kept in memory, and its file was read a moment ago. A
    digest may have to be searched below another tool's indexes.
    """
    if request.method not in _READ:
        return False
    kind, _, reference = endpoint(request.path)
    return kind == "base" or (kind == "manifests" and ":" not in reference)


def _request(scope: Message) -> Request:
    raw = scope.get("raw_path")
    path = unquote(raw.decode("latin-1"), errors="replace") if raw else scope["path"]
    prefix = scope.get("root_path", "")
    headers = Headers((n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"])
    host, port = scope.get("client") or ("", 0)
    return Request(
        method=scope["method"].upper(),
        path=path.removeprefix(prefix) if prefix else path,
        query=parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True),
        headers=headers,
        origin=f"{scope.get('scheme', 'http')}://{headers.get('host', '')}{prefix}",
        client=f"{host}:{port}" if host else "",
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


async def _whole(pieces: AsyncGenerator[bytes, None]) -> Iterator[bytes]:
    """All of a body; one that broke off raises again behind its last byte."""
    parts: list[bytes] = []
    gone: _Gone | None = None
    try:
        async for piece in pieces:
            parts.append(piece)
    except _Gone as error:
        gone = error

    def body() -> Iterator[bytes]:
        yield from parts
        if gone:
            raise gone

    return body()


async def _reply(reply: Reply, send: Send, *, by_path: bool) -> None:
    headers = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in reply.headers]
    start = {"type": "http.response.start", "status": reply.status, "headers": headers}
    body = reply.body
    if not isinstance(body, FileBody):
        await send(start)
        await send({"type": "http.response.body", "body": body})
        return
    try:
        await send(start)
        if by_path and body.path:
            await send({"type": _PATHSEND, "path": body.path})
            return
        while not body.finished:
            piece = await asyncio.to_thread(body.read)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
    finally:
        body.close()
