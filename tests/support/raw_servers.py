"""Servers that say exactly what a test tells them, and transports of both worlds to ask them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trustme

from dockhand_core.http import transports as rooms
from dockhand_core.http.transports import TransportOptions

CARRIERS = [("sync", name) for name in rooms.SYNC_TRANSPORTS]
CARRIERS += [("async", name) for name in rooms.ASYNC_TRANSPORTS]
SECONDS = 10.0
MIB = 1024 * 1024

# --- servers -------------------------------------------------------------------------------


@dataclass
class Received:
    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str | None:
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)


@dataclass
class Peer:
    """One connection, seen from the server."""

    sock: socket.socket
    buffer: bytes = b""

    def _fill(self) -> bool:
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def head(self) -> Received | None:
        while b"\r\n\r\n" not in self.buffer:
            if not self._fill():
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        line, *fields = head.decode("latin-1").split("\r\n")
        pairs = [(k, v.strip()) for k, _, v in (field.partition(":") for field in fields)]
        return Received(line, pairs, b"")

    def request(self) -> Received | None:
        if (received := self.head()) is None:
            return None
        length = int(received.get("Content-Length") or 0)
        while len(self.buffer) < length:
            if not self._fill():
                return None
        received.body, self.buffer = self.buffer[:length], self.buffer[length:]
        return received

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Handler = Callable[[Peer], None]


@dataclass
class Endpoint:
    """A TCP server; each connection runs `handler` in a thread and is closed when it returns."""

    handler: Handler
    context: ssl.SSLContext | None = None
    connections: int = 0
    received: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(SECONDS)
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
            self.handler(Peer(sock))
        except OSError:
            pass
        finally:
            sock.close()

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"


@contextmanager
def wire(handler: Handler, context: ssl.SSLContext | None = None) -> Iterator[Endpoint]:
    server = Endpoint(handler, context)
    try:
        yield server
    finally:
        server.listener.shutdown(socket.SHUT_RDWR)  # wakes accept, which close alone does not
        server.listener.close()


@contextmanager
def answering(
    reply: bytes | Callable[[Received], bytes], context: ssl.SSLContext | None = None
) -> Iterator[Endpoint]:
    """A server that reads each request whole, notes it, and gives the same reply."""

    def handle(peer: Peer) -> None:
        while (received := peer.request()) is not None:
            server.received.append(received)
            peer.send(reply if isinstance(reply, bytes) else reply(received))

    with wire(handle, context) as server:
        yield server


@contextmanager
def replying_once(reply: bytes, *, reset: bool = False) -> Iterator[Endpoint]:
    """A server that answers one request of a connection and goes."""

    def handle(peer: Peer) -> None:
        received = peer.request()
        if received is None:
            return
        server.received.append(received)
        if reply:
            peer.send(reply)
        if reset:
            time.sleep(0.05)
            peer.reset()

    with wire(handle) as server:
        yield server


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# --- clients -------------------------------------------------------------------------------


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """An upload as the runner sends it: opened by iteration, in both worlds."""

    def __init__(self, count: int, size: int = 65536, error: Exception | None = None) -> None:
        self.count, self.size, self.error, self.taken = count, size, error, 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.count):
            self.taken += self.size
            yield b"x" * self.size
        if self.error:
            raise self.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


class Carrier:
    """A transport of either kind, driven by blocking calls."""

    def __init__(self, kind: str, options: TransportOptions) -> None:
        self.runner: asyncio.Runner | None = None
        if kind == "async":
            self.runner = asyncio.Runner()
            self.async_transport = rooms.build_async_transport(options)
        else:
            self.transport = rooms.build_transport(options)

    def open(self, request: httpx.Request) -> httpx.Response:
        if self.runner is None:
            return self.transport.handle_request(request)
        return self.runner.run(self.async_transport.handle_async_request(request))

    def read(self, response: httpx.Response) -> bytes:
        async def read() -> bytes:
            try:
                return b"".join([chunk async for chunk in response.aiter_raw()])
            finally:
                await response.aclose()

        if self.runner is not None:
            return self.runner.run(read())
        try:
            return b"".join(response.iter_raw())
        finally:
            response.close()

    def first(self, response: httpx.Response) -> bytes:
        async def first() -> bytes:
            return await anext(aiter(response.stream))  # type: ignore[arg-type]

        if self.runner is not None:
            return self.runner.run(first())
        return next(iter(response.stream))  # type: ignore[arg-type]

    def close(self, response: httpx.Response) -> None:
        if self.runner is not None:
            self.runner.run(response.aclose())
        else:
            response.close()

    def __call__(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        response = self.open(request)
        return response, self.read(response)

    def wait(self, seconds: float) -> None:
        if self.runner is not None:
            self.runner.run(asyncio.sleep(seconds))
        else:
            time.sleep(seconds)

    def shut(self) -> None:
        if self.runner is not None:
            self.runner.run(self.async_transport.aclose())
            self.runner.run(asyncio.sleep(0))
            self.runner.close()
        else:
            self.transport.close()


Make = Callable[..., Carrier]


def ask(
    url: str,
    method: str = "GET",
    *,
    headers: Any = (),
    body: Pieces | None = None,
    content: bytes | None = None,
    **timeouts: float,
) -> httpx.Request:
    """A request as the runner makes it: built with headers, its stream put in afterwards."""
    limits = httpx.Timeout(SECONDS).as_dict() | timeouts
    pairs = [("Accept-Encoding", "identity"), *headers]
    if body is not None:
        pairs.append(("Content-Length", str(body.count * body.size)))
    request = httpx.Request(
        method, url, headers=pairs, content=content, extensions={"timeout": limits}
    )
    if body is not None:
        request.stream = body
    return request


@dataclass
class Authority:
    ca: trustme.CA
    folder: Path
    bundle: Path
    cert: Path
    key: Path

    def server(self, *, clients: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("127.0.0.1", "registry.test").configure_cert(context)
        if clients:
            self.ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
