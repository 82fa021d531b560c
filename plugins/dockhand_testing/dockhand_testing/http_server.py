"""An HTTP server on loopback with replies, pauses and faults that a test chooses."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

T = TypeVar("T")

CUT = object()
"""A step that closes the connection."""
HANG = object()
"""A step that keeps the connection open, and sends nothing more."""


@dataclass(frozen=True)
class Wait:
    """A step that waits before the next step.

    Attributes:
        seconds: the time to wait.
    """

    seconds: float


@dataclass(frozen=True)
class WaitUntil:
    """A step that waits until a condition is true.

    Attributes:
        condition: a function without arguments, which is called a hundred times a second.
        seconds: the longest time to wait; then the next step follows.
    """

    condition: Callable[[], bool]
    seconds: float


class RequestHeaders(dict[str, str]):
    """The headers of a request, by lower-case name; any case finds them."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a header, or `default`."""
        return super().get(name.lower(), default)


@dataclass
class ReceivedRequest:
    """A request that the server received.

    Attributes:
        method: the HTTP method, such as `GET`.
        target: the path with the query, as sent.
        headers: the values by lower-case name; any case finds them.
        body: the bytes of the body, of the length that the request states; `b""` without one.
        connection: the number of the connection; the server's first connection is 1.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query; of several values for a name, the first."""
        return {k: v[0] for k, v in parse_qs(urlsplit(self.target).query).items()}


Step: TypeAlias = bytes | Wait | WaitUntil | object
"""A step of a reply: bytes to send, `Wait`, `WaitUntil`, `CUT` or `HANG`."""
Handler: TypeAlias = Callable[[ReceivedRequest], list[Step] | bytes]


class HandlerFailed(AssertionError):
    """A function of the test that gives replies raised an exception, in the server's thread."""


def ask(function: Callable[[ReceivedRequest], T], request: ReceivedRequest) -> T:
    """Call a function of the test with a request.

    Raises:
        HandlerFailed: the function raised an exception; the message names the function.
    """
    try:
        return function(request)
    except HandlerFailed:
        raise
    except Exception as error:
        name = getattr(function, "__qualname__", repr(function)).replace("<locals>.", "")
        raise HandlerFailed(
            f"{name} raised {type(error).__name__}: {error} (for {request.method} {request.target})"
        ) from error


def reply(
    status: int | str = 200,
    body: bytes = b"",
    *,
    length: int | str | None = None,
    **headers: str,
) -> bytes:
    """Build the bytes of a reply.

    Args:
        status: the status code.
        body: the body.
        length: the Content-Length, which may be wrong; by default the length of the body.
        headers: further headers; `_` in a name stands for `-`.
    """
    lines = [f"HTTP/1.1 {status} Said"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass
class ScriptedServer:
    """A running server, and the requests that it has received.

    Attributes:
        url: the URL of the server, without a path.
        handler: returns the reply to a request, as bytes or steps; a test may set it any time.
        requests: the requests that arrived, in order.
        connections: the number of connections accepted so far.
        failures: the exceptions of `handler`. The request gets 500, and the first one is raised
            where the `with` block of the server ends.
        done: an event that is set when the server ends.
    """

    url: str = ""
    handler: Handler = lambda _: reply(404)
    requests: list[ReceivedRequest] = field(default_factory=list)
    connections: int = 0
    failures: list[HandlerFailed] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def with_method(self, method: str) -> list[ReceivedRequest]:
        """Return the received requests that have this method."""
        return [one for one in self.requests if one.method == method]


@contextmanager
def scripted_server(
    handler: Handler | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[ScriptedServer]:
    """Run a server until the `with` block ends, and then end its threads and connections::

        def handler(request):
            return reply(200, b"{}") if request.path == "/login" else [Wait(0.2), CUT]

        with scripted_server(handler) as server:
            ...     # send requests to server.url; server.requests has them

    Args:
        handler: returns the reply to a request, as bytes or steps; without one, each request gets
            404 until `handler` of the server is set.
        tls: the server's certificate and key, for a server with HTTPS.

    Raises:
        HandlerFailed: at the end of the block, if the handler raised an exception.
    """
    server = ScriptedServer()
    if handler is not None:
        server.handler = handler
    threads: list[threading.Thread] = []
    accepted: list[socket.socket] = []
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
                    accepted.append(plain)
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
                acceptor.join()  # this last connection wakes the acceptor
            for plain in accepted:
                with suppress(OSError):
                    plain.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads or writes
            for thread in threads:
                thread.join(10)
    if server.failures:
        raise server.failures[0]


def _serve(
    server: ScriptedServer, plain: socket.socket, tls: ssl.SSLContext | None, number: int
) -> None:
    with plain, suppress(OSError, ConnectionError):
        stream = tls.wrap_socket(plain, server_side=True) if tls else plain
        stream.settimeout(0.1)  # so that a thread that reads with TLS sees the server's end, too
        buffer = b""
        with stream:
            while not server.done.is_set():
                request, buffer = _read_request(server, stream, buffer, number)
                if request is None:
                    return
                server.requests.append(request)
                if not _perform(server, stream, _steps(server, request)):
                    return


def _steps(server: ScriptedServer, request: ReceivedRequest) -> list[Step]:
    try:
        steps = ask(server.handler, request)
    except HandlerFailed as error:
        server.failures.append(error)
        return [reply(500, str(error).encode(), Content_Type="text/plain"), CUT]
    return [steps] if isinstance(steps, bytes) else list(steps)


def _read_request(
    server: ScriptedServer, stream: socket.socket, buffer: bytes, number: int
) -> tuple[ReceivedRequest | None, bytes]:
    """Read a request.

    Returns:
        the request, or None if the connection ended, and the bytes received after the request.
    """

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
    fields = (line.partition(":") for line in lines)
    headers = RequestHeaders({n.lower(): v.strip() for n, _, v in fields})
    length = int(headers.get("content-length", "0"))
    parts, size = [rest], len(rest)
    while size < length:
        data = more()
        if not data:
            break
        parts.append(data)
        size += len(data)
    body = b"".join(parts)
    return ReceivedRequest(method, target, headers, body[:length], number), body[length:]


def _perform(server: ScriptedServer, stream: socket.socket, steps: list[Step]) -> bool:
    """Perform the steps of a reply, and return whether the connection stays open."""
    stream.settimeout(10)
    for step in steps:
        if isinstance(step, bytes):
            stream.sendall(step)
        elif isinstance(step, Wait):
            server.done.wait(step.seconds)
        elif isinstance(step, WaitUntil):
            end = time.monotonic() + step.seconds
            while not step.condition() and time.monotonic() < end and not server.done.is_set():
                time.sleep(0.01)
        elif step is HANG:
            server.done.wait(60)
            return False
        else:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
            return False
    stream.settimeout(0.1)
    return True
