"""An HTTP server on loopback that does what a test tells it: lie, trickle, cut, remember."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

CUT = object()  # reset the connection here
STOP = object()  # say nothing more, and keep the connection open until the server ends


@dataclass(frozen=True)
class Wait:
    """Pause before what follows."""

    seconds: float


@dataclass
class Asked:
    """A request that arrived."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query, one value for each name."""
        return {k: v[0] for k, v in parse_qs(urlsplit(self.target).query).items()}


Step: TypeAlias = bytes | Wait | object
Handler: TypeAlias = Callable[[Asked], list[Step] | bytes]


def reply(
    status: int | str = 200,
    body: bytes = b"",
    *,
    length: int | str | None = None,
    **headers: str,
) -> bytes:
    """An answer; `length` is a Content-Length that need not be true."""
    lines = [f"HTTP/1.1 {status} Said"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass
class Scripted:
    """The server: set `handler`, look at `asked`."""

    url: str = ""
    handler: Handler = lambda asked: reply(404)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def said(self, method: str) -> list[Asked]:
        """The requests of a method."""
        return [one for one in self.asked if one.method == method]


@contextmanager
def scripted(
    handler: Handler | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[Scripted]:
    """Serve until the block ends."""
    server = Scripted()
    if handler is not None:
        server.handler = handler
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        scheme = "https" if tls else "http"
        server.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"

        def accept() -> None:
            with suppress(OSError):
                while True:
                    plain, _ = listener.accept()
                    if server.done.is_set():
                        plain.close()
                        return
                    server.connections += 1
                    thread = threading.Thread(
                        target=_serve, args=(server, plain, tls, server.connections)
                    )
                    threads.append(thread)
                    thread.start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield server
        finally:
            server.done.set()
            with socket.create_connection(listener.getsockname()):
                acceptor.join()  # woken by that last connection
            for thread in threads:
                thread.join(5)


def _serve(server: Scripted, plain: socket.socket, tls: ssl.SSLContext | None, number: int) -> None:
    with plain, suppress(OSError, ConnectionError):
        stream = tls.wrap_socket(plain, server_side=True) if tls else plain
        stream.settimeout(0.1)
        buffer = b""
        with stream:
            while not server.done.is_set():
                request, buffer = _read(server, stream, buffer, number)
                if request is None:
                    return
                server.asked.append(request)
                steps = server.handler(request)
                if not _perform(server, stream, [steps] if isinstance(steps, bytes) else steps):
                    return


def _read(
    server: Scripted, stream: socket.socket, buffer: bytes, number: int
) -> tuple[Asked | None, bytes]:
    def more() -> bytes:
        while not server.done.is_set():
            with suppress(TimeoutError):
                return stream.recv(1 << 16)
        return b""

    while b"\r\n\r\n" not in buffer:
        data = more()
        if not data:
            return None, b""
        buffer += data
    head, _, rest = buffer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    parts, size = [rest], len(rest)
    while size < length:
        data = more()
        if not data:
            break
        parts.append(data)
        size += len(data)
    body = b"".join(parts)
    return Asked(method, target, headers, body[:length], number), body[length:]


def _perform(server: Scripted, stream: socket.socket, steps: list[Step]) -> bool:
    stream.settimeout(10)
    for step in steps:
        if isinstance(step, bytes):
            stream.sendall(step)
        elif isinstance(step, Wait):
            end = time.monotonic() + step.seconds
            while time.monotonic() < end and not server.done.is_set():
                time.sleep(0.01)
        elif step is STOP:
            server.done.wait(20)
            return False
        else:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
            return False
    stream.settimeout(0.1)
    return True
