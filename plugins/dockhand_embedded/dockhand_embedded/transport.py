"""The registry as an httpx transport: requests are answered in the process, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from inspect import isawaitable, iscoroutine
from typing import Any
from urllib.parse import parse_qsl

import httpx

from dockhand_embedded.access.policy import Authenticate, admitted, ask
from dockhand_embedded.protocol.async_registry import drive, run
from dockhand_embedded.protocol.messages import CHUNK, FileBody, Headers, Reply, Request
from dockhand_embedded.protocol.registry import Registry

# Methods that, over a storage that never waits, take less time than going to a thread and back.
_QUICK = frozenset({"GET", "HEAD", "DELETE"})


class EmbeddedTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Give it to `httpx.Client` or `httpx.AsyncClient` (on asyncio) as `transport`.

    Closing it leaves the registry as it is, since several clients may share one transport; it only
    waits a few seconds for notifications that are not out yet.
    """

    def __init__(self, registry: Registry, authenticate: Authenticate | None = None) -> None:
        """Send every request to this registry, whatever its host.

        Args:
            registry: who answers.
            authenticate: who asks, and whether they may; a plain function.
        """
        self.registry = registry
        self._authenticate = authenticate

    def close(self) -> None:
        """Let notifications out."""
        if self.registry.notifier:
            self.registry.notifier.close()

    async def aclose(self) -> None:
        """Let notifications out."""
        await asyncio.to_thread(self.close)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer in the calling thread; the body is read as far as it is needed."""
        stream = request.stream
        if not isinstance(stream, httpx.SyncByteStream):
            raise RuntimeError("a sync client needs a body that can be iterated without await")
        asked = self._admitted(_request(request, stream))
        reply = asked if isinstance(asked, Reply) else self.registry.handle(asked)
        return _response(reply, inline=True)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer without holding the event loop up: what may wait runs in a thread."""
        quick = not self.registry.storage.blocking
        pieces = _pieces(request.stream)
        inline = quick and request.method in _QUICK
        asked = self._admitted(_request(request))
        if isinstance(asked, Reply):
            return _response(asked, inline=True)
        reply = await drive(self.registry, asked, pieces, inline=inline)
        return _response(reply, inline=quick)

    def _admitted(self, request: Request) -> Request | Reply:
        if self._authenticate is None:
            return request
        verdict = ask(self._authenticate, request)
        if isawaitable(verdict):
            if iscoroutine(verdict):
                verdict.close()
            raise RuntimeError("a transport needs an `authenticate` that is no coroutine")
        return admitted(request, verdict)


async def _pieces(stream: httpx.AsyncByteStream | httpx.SyncByteStream) -> Any:
    """The body in pieces of about 1 MiB, so that going to a thread is paid for rarely."""
    waiting: list[bytes] = []
    size = 0
    try:
        async for piece in _parts(stream):
            if not piece:
                continue
            waiting.append(piece)
            size += len(piece)
            if size >= CHUNK:
                joined, waiting, size = _join(waiting), [], 0
                yield joined
    except Exception:
        # The client broke off; what it had sent is kept, as a server would.
        if waiting:
            yield _join(waiting)
        raise
    if waiting:
        yield _join(waiting)


def _join(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _parts(
    stream: httpx.AsyncByteStream | httpx.SyncByteStream,
) -> AsyncIterator[bytes]:
    if isinstance(stream, httpx.AsyncByteStream):
        async for piece in stream:
            yield piece
        return
    iterator = iter(stream)
    while (part := await asyncio.to_thread(next, iterator, None)) is not None:
        yield part


def _request(request: httpx.Request, body: Iterable[bytes] = ()) -> Request:
    query = request.url.query.decode("ascii")
    # The raw fields: httpx would look for their encoding anew each time.
    fields = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw
    ]
    return Request(
        method=request.method.upper(),
        path=request.url.path,
        query=parse_qsl(query, keep_blank_values=True) if query else (),
        headers=Headers(fields),
        body=body,
        origin=f"{request.url.scheme}://{request.url.netloc.decode('ascii')}",
    )


def _response(reply: Reply, *, inline: bool) -> httpx.Response:
    stream: httpx.ByteStream | _Body
    if isinstance(reply.body, FileBody):
        stream = _Body(reply.body, inline=inline)
    else:
        stream = httpx.ByteStream(reply.body)
    return httpx.Response(reply.status, headers=reply.headers, stream=stream)


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A reply's file, read on demand."""

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
                yield await run(lambda _: self._body.read(), None, inline=self._inline)
        except OSError as error:
            raise httpx.ReadError(str(error)) from error

    def close(self) -> None:
        self._body.close()

    async def aclose(self) -> None:
        self._body.close()
