"""TCP servers on loopback that send exact bytes, and certificates for them."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme

SECONDS = 10.0  # seconds; the timeout of every socket operation of a server
MIB = 1024 * 1024
OK_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class ReceivedRequest:
    """A request, with its headers exactly as they arrived.

    Attributes:
        line: the request line.
        headers: the names and values of the headers, in order.
    """

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None."""
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)


@dataclass
class Connection:
    """The server's end of one connection."""

    sock: socket.socket
    buffer: bytes = b""

    def _fill(self) -> bool:
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def read_head(self) -> ReceivedRequest | None:
        """Read a request's head but not its body; return None if the client has disconnected."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._fill():
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        line, *fields = head.decode("latin-1").split("\r\n")
        pairs = [(k, v.strip()) for k, _, v in (field.partition(":") for field in fields)]
        return ReceivedRequest(line, pairs, b"")

    def read_request(self) -> ReceivedRequest | None:
        """Read a request and its body; return None if the client has disconnected."""
        if (request := self.read_head()) is None:
            return None
        length = int(request.header("Content-Length") or 0)
        while len(self.buffer) < length:
            if not self._fill():
                return None
        request.body, self.buffer = self.buffer[:length], self.buffer[length:]
        return request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Handler = Callable[[Connection], None]


@dataclass
class RawServer:
    """A TCP server that runs `handler` in a thread for each connection, and then closes it.

    Attributes:
        connections: the number of connections accepted so far.
        closed: the number of connections that the server has closed.
        requests: a list to which handlers may add the requests that they read.
    """

    handler: Handler
    context: ssl.SSLContext | None = None
    connections: int = 0
    closed: int = 0
    requests: list[ReceivedRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self._lock = threading.Lock()
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
            self.handler(Connection(sock))
        except OSError:
            pass
        finally:
            sock.close()
            with self._lock:
                self.closed += 1

    @property
    def url(self) -> str:
        """The server's URL, without a path."""
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"


@contextmanager
def raw_server(handler: Handler, context: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Run a server until the `with` block ends."""
    server = RawServer(handler, context)
    try:
        yield server
    finally:
        server.listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`; `close` alone would not
        server.listener.close()


@contextmanager
def replying_server(
    reply: bytes | Callable[[ReceivedRequest], bytes], context: ssl.SSLContext | None = None
) -> Iterator[RawServer]:
    """Run a server that records each request, and sends `reply` or the result of its call."""

    def handle(connection: Connection) -> None:
        while (request := connection.read_request()) is not None:
            server.requests.append(request)
            connection.send(reply if isinstance(reply, bytes) else reply(request))

    with raw_server(handle, context) as server:
        yield server


@contextmanager
def one_reply_server(reply: bytes, *, reset: bool = False) -> Iterator[RawServer]:
    """Run a server that sends one reply on each connection, and then closes or resets it."""

    def handle(connection: Connection) -> None:
        request = connection.read_request()
        if request is None:
            return
        server.requests.append(request)
        if reply:
            connection.send(reply)
        if reset:
            time.sleep(0.05)  # so that the reply is usually read before the reset
            connection.reset()

    with raw_server(handle) as server:
        yield server


@contextmanager
def refusing_port() -> Iterator[int]:
    """Reserve a loopback port where connections are refused, until the `with` block ends."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # no other program can listen at a bound port
        port: int = bound.getsockname()[1]
        yield port


@dataclass
class CertificateAuthority:
    """A certificate authority, and its files in PEM.

    Attributes:
        bundle: the file with the authority's certificate.
        cert: the file with a client's certificate.
        key: the file with the private key of that certificate.
    """

    ca: trustme.CA
    folder: Path
    bundle: Path
    cert: Path
    key: Path

    def server_context(self, *, demand_client_certificate: bool = False) -> ssl.SSLContext:
        """Make the TLS settings of a server with a certificate for 127.0.0.1 and registry.test."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("127.0.0.1", "registry.test").configure_cert(context)
        if demand_client_certificate:
            self.ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
