"""The registry as an ASGI application.

Request and reply bodies are streamed in constant memory, and work that may wait for a disk runs in
threads, so that one event loop serves many clients. The application needs no web framework.
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
from dockhand_embedded.access.policy import Authenticate, apply_auth_result, authenticate_request
from dockhand_embedded.access_log import AccessLogEntry
from dockhand_embedded.driver import open_storage
from dockhand_embedded.notifications import NotificationTarget, Notifier
from dockhand_embedded.protocol.async_registry import handle_async, run_blocking
from dockhand_embedded.protocol.messages import (
    PIECE_SIZE,
    FileBody,
    Headers,
    RegistryReply,
    RegistryRequest,
    RequestRejectedError,
)
from dockhand_embedded.protocol.registry import Limits, Registry, parse_path
from dockhand_embedded.storage import UPLOAD_AGE

__all__ = ["create_app"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_READ_METHODS = ("GET", "HEAD")
# Bytes. A request body up to this size is received completely before it is handled, which takes
# less time than a switch to a thread for each piece.
_SMALL_BODY = 256 * 1024
_CLEANUP_INTERVAL = 3600.0  # seconds
_PATHSEND = "http.response.pathsend"
_log = logging.getLogger("dockhand_embedded")


class _ClientDisconnectedError(Exception):
    """The client disconnected before its request was complete."""


def create_app(
    root: str | Path,
    *,
    read_only: bool = False,
    limits: Limits | None = None,
    upload_age: float = UPLOAD_AGE,
    authenticate: Authenticate | None = None,
    notifications: Sequence[NotificationTarget | Mapping[str, Any]] = (),
    access_log: bool = False,
) -> AsgiApp:
    """Create an ASGI application that serves the repositories in a folder.

    Without `authenticate` there is no access control: make the application reachable only for
    clients that may do everything, or put it behind a proxy that authenticates.

    Args:
        root: a folder of OCI Image Layouts, one for each repository, created if it does not exist;
            or `:memory:`, which stores nothing on disk.
        read_only: reject all requests that write, with 405 UNSUPPORTED.
        limits: the largest sizes, and the largest number of uploads in progress.
        upload_age: seconds after which an upload that got no byte is deleted. Uploads are checked
            by this call, and at least every hour if the server runs the application's lifespan.
        authenticate: access control: `htpasswd.Htpasswd`, `bearer.Bearer`, or a function of your
            own (`access.Authenticate`).
        notifications: the endpoints that get notifications, as `NotificationTarget` or as mappings
            with `url`, `token` and `timeout`.
        access_log: log a line for each request, with the logger `dockhand_embedded.access` and the
            level INFO.

    Raises:
        ConfigError: the folder cannot be used, or a notification endpoint is invalid.
    """
    endpoints = [
        each
        if isinstance(each, NotificationTarget)
        else validate_table(
            NotificationTarget, each, where=f"notifications: number {number}", base=Path()
        )
        for number, each in enumerate(notifications, 1)
    ]
    registry = Registry(
        open_storage(root, upload_age), limits, Notifier(endpoints) if endpoints else None
    )
    return _Application(registry, read_only, upload_age, authenticate, access_log=access_log)


class _Application:
    def __init__(
        self,
        registry: Registry,
        read_only: bool,
        upload_age: float,
        authenticate: Authenticate | None,
        *,
        access_log: bool,
    ) -> None:
        self._registry = registry
        self._access_log = access_log
        self._read_only = read_only
        self._upload_age = upload_age
        self._authenticate = authenticate

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._handle(scope, receive, send)
        else:
            raise RuntimeError(
                f"the registry does not support the ASGI scope type {scope['type']!r}"
            )

    async def _handle(self, scope: Message, receive: Receive, send: Send) -> None:
        entry = AccessLogEntry(scope, send) if self._access_log else None
        by_path = _PATHSEND in (scope.get("extensions") or {})
        try:
            reply = await self._answer(_registry_request(scope), receive, entry)
            await _send_reply(reply, entry.send if entry else send, by_path=by_path)
        except _ClientDisconnectedError:
            return
        finally:
            if entry:
                entry.write()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        cleanup = asyncio.ensure_future(self._remove_stale_uploads())
        try:
            while True:
                message = await receive()
                if message["type"] == "lifespan.shutdown":
                    break
                await send({"type": "lifespan.startup.complete"})
        finally:
            cleanup.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await cleanup
        if self._registry.notifier:
            await asyncio.to_thread(self._registry.notifier.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _remove_stale_uploads(self) -> None:
        while True:
            await asyncio.sleep(min(_CLEANUP_INTERVAL, max(1.0, self._upload_age / 2)))
            try:
                removed = await asyncio.to_thread(
                    self._registry.storage.remove_stale_uploads, self._upload_age
                )
            except OSError:
                _log.exception("stale uploads could not be removed")
            else:
                if removed:
                    _log.info("deleted %d stale uploads", removed)

    async def _answer(
        self, request: RegistryRequest, receive: Receive, entry: AccessLogEntry | None
    ) -> RegistryReply:
        if self._authenticate:
            result = authenticate_request(self._authenticate, request)
            outcome = apply_auth_result(request, await result if isawaitable(result) else result)
            if isinstance(outcome, RegistryReply):
                return outcome
            request = outcome
            if entry:
                entry.user = request.user
        if self._read_only and request.method not in _READ_METHODS:
            return RequestRejectedError(
                405, "UNSUPPORTED", "this registry is read-only", None, [("Allow", "GET, HEAD")]
            ).reply()
        pieces = _body_pieces(receive)
        nonblocking = not self._registry.storage.blocking
        if not _has_small_body(request):
            inline = nonblocking or _is_quick_read(request)
            return await handle_async(self._registry, request, pieces, inline=inline, prefetch=True)
        whole = replace(request, body=await _receive_whole(pieces))
        reply: RegistryReply = await run_blocking(self._registry.handle, whole, inline=nonblocking)
        return reply


def _has_small_body(request: RegistryRequest) -> bool:
    """Whether the body should be received completely before the request is handled."""
    # A client that sends `Expect: 100-continue` waits for a rejection before it sends the body.
    return 0 < (request.length or 0) <= _SMALL_BODY and "expect" not in request.headers


def _is_quick_read(request: RegistryRequest) -> bool:
    """Whether a request takes less time than a switch to a thread, even if it reads files.

    The manifest of a tag is found in the cached index, and its file was probably read before. A
    digest may require a search through image indexes that another tool has written.
    """
    if request.method not in _READ_METHODS:
        return False
    kind, _, reference = parse_path(request.path)
    return kind == "base" or (kind == "manifests" and ":" not in reference)


def _registry_request(scope: Message) -> RegistryRequest:
    raw = scope.get("raw_path")
    path = unquote(raw.decode("latin-1"), errors="replace") if raw else scope["path"]
    prefix = scope.get("root_path", "")
    headers = Headers((n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"])
    host, port = scope.get("client") or ("", 0)
    return RegistryRequest(
        method=scope["method"].upper(),
        path=path.removeprefix(prefix) if prefix else path,
        query=parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True),
        headers=headers,
        origin=f"{scope.get('scheme', 'http')}://{headers.get('host', '')}{prefix}",
        client=f"{host}:{port}" if host else "",
    )


async def _body_pieces(receive: Receive) -> AsyncGenerator[bytes, None]:
    """Receive the request body, and yield it in pieces of about 1 MiB.

    ASGI servers pass on a few KiB at a time. A switch to a thread for each of these parts would
    take more time than the work in the thread.
    """
    more = True
    while more:
        parts: list[bytes] = []
        size = 0
        disconnected = False
        while more and size < PIECE_SIZE and not disconnected:
            message = await receive()
            disconnected = message["type"] == "http.disconnect"
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
        if size:
            yield b"".join(parts)
        if disconnected:
            raise _ClientDisconnectedError


async def _receive_whole(pieces: AsyncGenerator[bytes, None]) -> Iterator[bytes]:
    """Receive the whole body, and return an iterator over it.

    If the client disconnects, the iterator raises the error after the last received byte.
    """
    parts: list[bytes] = []
    disconnected: _ClientDisconnectedError | None = None
    try:
        async for piece in pieces:
            parts.append(piece)
    except _ClientDisconnectedError as error:
        disconnected = error

    def body() -> Iterator[bytes]:
        yield from parts
        if disconnected:
            raise disconnected

    return body()


async def _send_reply(reply: RegistryReply, send: Send, *, by_path: bool) -> None:
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
