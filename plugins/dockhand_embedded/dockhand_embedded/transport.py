"""An httpx transport to a registry in the process, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from inspect import isawaitable, iscoroutine
from typing import Any
from urllib.parse import parse_qsl

import httpx

from dockhand_embedded.access.policy import Authenticate, apply_auth_result, authenticate_request
from dockhand_embedded.protocol.async_registry import handle_async, run_blocking
from dockhand_embedded.protocol.messages import (
    PIECE_SIZE,
    FileBody,
    Headers,
    RegistryReply,
    RegistryRequest,
)
from dockhand_embedded.protocol.registry import Registry

# Methods that take less time than a switch to a thread, if the storage never blocks.
_INLINE_METHODS = frozenset({"GET", "HEAD", "DELETE"})


class EmbeddedTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A transport for `httpx.Client` and `httpx.AsyncClient` (on asyncio).

    Several clients may share a transport, so the registry stays usable after the transport is
    closed. Closing only waits a few seconds for notifications that were not sent yet.
    """

    def __init__(self, registry: Registry, authenticate: Authenticate | None = None) -> None:
        """Send every request to one registry, regardless of the host in the URL.

        Args:
            registry: the registry.
            authenticate: access control; a function, but not a coroutine function.
        """
        self.registry = registry
        self._authenticate = authenticate

    def close(self) -> None:
        """Wait a few seconds until the remaining notifications are sent."""
        if self.registry.notifier:
            self.registry.notifier.close()

    async def aclose(self) -> None:
        """Wait a few seconds until the remaining notifications are sent."""
        await asyncio.to_thread(self.close)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer in the calling thread, and read the body as far as needed."""
        stream = request.stream
        if not isinstance(stream, httpx.SyncByteStream):
            raise RuntimeError("a sync client needs a body that is not async")
        request_or_reply = self._authenticate_request(_registry_request(request, stream))
        reply = (
            request_or_reply
            if isinstance(request_or_reply, RegistryReply)
            else self.registry.handle(request_or_reply)
        )
        return _httpx_response(reply, inline=True)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer without blocking the event loop: work that may block runs in a thread."""
        nonblocking = not self.registry.storage.blocking
        pieces = _joined_pieces(request.stream)
        inline = nonblocking and request.method in _INLINE_METHODS
        request_or_reply = self._authenticate_request(_registry_request(request))
        if isinstance(request_or_reply, RegistryReply):
            return _httpx_response(request_or_reply, inline=True)
        reply = await handle_async(self.registry, request_or_reply, pieces, inline=inline)
        return _httpx_response(reply, inline=nonblocking)

    def _authenticate_request(self, request: RegistryRequest) -> RegistryRequest | RegistryReply:
        if self._authenticate is None:
            return request
        result = authenticate_request(self._authenticate, request)
        if isawaitable(result):
            if iscoroutine(result):
                result.close()
            raise RuntimeError(
                "a transport needs an `authenticate` that is not a coroutine function"
            )
        return apply_auth_result(request, result)


async def _joined_pieces(stream: httpx.AsyncByteStream | httpx.SyncByteStream) -> Any:
    """Yield the body in pieces of about 1 MiB, so that there are few switches to a thread."""
    waiting: list[bytes] = []
    size = 0
    try:
        async for piece in _stream_pieces(stream):
            if not piece:
                continue
            waiting.append(piece)
            size += len(piece)
            if size >= PIECE_SIZE:
                joined, waiting, size = _join(waiting), [], 0
                yield joined
    except Exception:
        # Reading the body failed. The bytes before the error are kept, as by a server.
        if waiting:
            yield _join(waiting)
        raise
    if waiting:
        yield _join(waiting)


def _join(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _stream_pieces(
    stream: httpx.AsyncByteStream | httpx.SyncByteStream,
) -> AsyncIterator[bytes]:
    if isinstance(stream, httpx.AsyncByteStream):
        async for piece in stream:
            yield piece
        return
    iterator = iter(stream)
    while (part := await asyncio.to_thread(next, iterator, None)) is not None:
        yield part


def _registry_request(request: httpx.Request, body: Iterable[bytes] = ()) -> RegistryRequest:
    query = request.url.query.decode("ascii")
    # Decode the raw fields here: httpx would first detect their encoding in each request.
    fields = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw
    ]
    return RegistryRequest(
        method=request.method.upper(),
        path=request.url.path,
        query=parse_qsl(query, keep_blank_values=True) if query else (),
        headers=Headers(fields),
        body=body,
        origin=f"{request.url.scheme}://{request.url.netloc.decode('ascii')}",
    )


def _httpx_response(reply: RegistryReply, *, inline: bool) -> httpx.Response:
    stream: httpx.ByteStream | _FileStream
    if isinstance(reply.body, FileBody):
        stream = _FileStream(reply.body, inline=inline)
    else:
        stream = httpx.ByteStream(reply.body)
    return httpx.Response(reply.status, headers=reply.headers, stream=stream)


class _FileStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The file of a reply, which is read on demand."""

    def __init__(self, body: FileBody, *, inline: bool) -> None:
        self._body = body
        self._inline = inline

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except OSError as error:
            raise httpx.ReadError(str(error)) from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while not self._body.finished:
                yield await run_blocking(lambda _: self._body.read(), None, inline=self._inline)
        except OSError as error:
            raise httpx.ReadError(str(error)) from error

    def close(self) -> None:
        self._body.close()

    async def aclose(self) -> None:
        self._body.close()
