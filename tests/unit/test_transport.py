"""What every transport must hold, against servers that say exactly what a test tells them."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from dockhand_core import transport as rooms
from dockhand_core.errors import ConfigError
from dockhand_core.transport import TransportOptions, environment_proxy

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
class Wire:
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
def wire(handler: Handler, context: ssl.SSLContext | None = None) -> Iterator[Wire]:
    server = Wire(handler, context)
    try:
        yield server
    finally:
        server.listener.shutdown(socket.SHUT_RDWR)  # wakes accept, which close alone does not
        server.listener.close()


@contextmanager
def answering(
    reply: bytes | Callable[[Received], bytes], context: ssl.SSLContext | None = None
) -> Iterator[Wire]:
    """A server that reads each request whole, notes it, and gives the same reply."""

    def handle(peer: Peer) -> None:
        while (received := peer.request()) is not None:
            server.received.append(received)
            peer.send(reply if isinstance(reply, bytes) else reply(received))

    with wire(handle, context) as server:
        yield server


@contextmanager
def replying_once(reply: bytes, *, reset: bool = False) -> Iterator[Wire]:
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


@pytest.fixture(params=CARRIERS, ids="-".join)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    kind, name = request.param
    made: list[Carrier] = []

    def build(**options: Any) -> Carrier:
        options.setdefault("verify", False)  # loading the usual authorities takes its time
        made.append(Carrier(kind, TransportOptions(name=name, **options)))
        return made[-1]

    yield build
    for carrier in made:
        carrier.shut()
    gc.collect(1)  # what was leaked warns now, and warnings are errors


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


# --- what goes out -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/v2/a/blobs/uploads/1?_state=a%3D%3D&digest=sha256%3Aab",
        "/v2/a?next=b%2Fc%20d+e&x=%7E&y=a:b@c/d,e;f",
        "/v2/a%2Fb/tags%3A/list?last=%e4%f6&n=",
        "/v2/a//b/./c",
        "/?q=%2525&q=1&q",
    ],
)
def test_a_url_goes_out_byte_for_byte(make: Make, target: str) -> None:
    with answering(OK) as server:
        request = ask(server.url + target)
        assert make()(request)[1] == b"ok"
        assert server.received[0].line == f"GET {request.url.raw_path.decode()} HTTP/1.1"
        assert request.url.raw_path.decode() == target.replace("/./", "/")


def test_only_the_headers_given_go_out(make: Make) -> None:
    with answering(OK) as server:
        carrier = make()
        carrier(ask(server.url, headers=[("X-Twice", "1"), ("X-Twice", "2"), ("Cookie", "a=b")]))
        carrier(ask(server.url, "POST", content=b""))
        carrier(ask(server.url, "PUT", content=b"{}", headers=[("Content-Type", "x/y")]))
        first, second, third = server.received
    sent = [(name.lower(), value) for name, value in first.headers]
    assert sorted(sent) == [
        ("accept-encoding", "identity"),
        ("cookie", "a=b"),
        ("host", f"127.0.0.1:{server.port}"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    ]
    names = sorted(name.lower() for name, _ in second.headers)
    assert names == ["accept-encoding", "content-length", "host"]
    assert (third.get("Content-Type"), third.body) == ("x/y", b"{}")


def test_userinfo_in_a_url_is_no_header(make: Make) -> None:
    with answering(OK) as server:
        url = f"http://who:secret@127.0.0.1:{server.port}/"
        make()(ask(url, headers=[("Authorization", "Bearer t")]))
        assert server.received[0].get("Authorization") == "Bearer t"
        assert server.received[0].line == "GET / HTTP/1.1"


def test_an_upload_has_its_length_and_is_not_chunked(make: Make) -> None:
    with answering(OK) as server:
        carrier = make()
        for content in (None, b"", b"built with another body"):
            carrier(ask(server.url, "PUT", content=content, body=Pieces(40)))
        for received in server.received:
            assert received.get("Transfer-Encoding") is None
            assert [v for k, v in received.headers if k.lower() == "content-length"]
            assert len(received.body) == int(received.get("Content-Length") or 0)
        assert len(server.received[-1].body) == 40 * 65536


def test_a_body_of_another_length_is_refused(make: Make) -> None:
    for announced in (3 * 65536 + 1, 65536 + 1):
        with answering(OK) as server:
            request = ask(server.url, "PUT", body=Pieces(3), read=1.0)
            request.headers["Content-Length"] = str(announced)
            with pytest.raises(httpx.LocalProtocolError):
                make()(request)


def test_what_a_body_raises_reaches_the_caller(make: Make) -> None:
    class SourceGone(Exception):
        pass

    with answering(OK) as server:
        carrier = make(max_connections=1)
        for error in (SourceGone(), FileNotFoundError("gone")):
            with pytest.raises(type(error)) as caught:
                carrier(ask(server.url, "PUT", body=Pieces(3, error=error)))
            assert caught.value is error
        assert carrier(ask(server.url))[1] == b"ok"


def test_an_early_refusal_of_a_large_upload_is_read(make: Make) -> None:
    def handle(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 401 No\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope")
        peer.sock.shutdown(socket.SHUT_WR)
        while peer.sock.recv(65536):  # as Go's server does for a while
            if time.monotonic() > until:
                return

    until = time.monotonic() + 0.5
    with wire(handle) as server:
        carrier = make(max_connections=1)
        body = Pieces(4096)
        response, text = carrier(ask(server.url, "PUT", body=body))
        assert (response.status_code, text) == (401, b"nope")
        response, text = carrier(ask(server.url, "PUT", body=Pieces(1)))
        assert response.status_code == 401


# --- what comes back -----------------------------------------------------------------------


def test_a_reply_is_passed_on_as_it_is(make: Make) -> None:
    packed = gzip.compress(b"plain" * 100)
    links = [f"</v2/_catalog?n={n}&last=a%2Fb>; rel=next" for n in range(200)]
    head = ["HTTP/1.1 307 Over There", "Location: /else", "Content-Encoding: gzip"]
    head += [f"Link: {link}" for link in links]
    head += ["Set-Cookie: session=1; Path=/", "Set-Cookie: other=2", f"X-Big: {'b' * 60_000}"]
    reply = "\r\n".join([*head, f"Content-Length: {len(packed)}", "", ""]).encode() + packed
    with answering(reply) as server:
        carrier = make()
        response, body = carrier(ask(server.url))
        assert (response.status_code, response.reason_phrase) == (307, "Over There")
        assert response.headers.get_list("Link") == links
        assert len(response.headers.get_list("Set-Cookie")) == 2
        assert len(response.headers["X-Big"]) == 60_000
        assert body == packed
        assert response.http_version == "HTTP/1.1"
        carrier(ask(server.url))
        assert [received.get("Cookie") for received in server.received] == [None, None]


def test_endless_headers_are_refused(make: Make) -> None:
    def handle(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nX-Big: ")
        for _ in range(1024):
            peer.send(b"b" * 65536)

    with wire(handle) as server, pytest.raises(httpx.RemoteProtocolError):
        make()(ask(server.url))


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n"),
        ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_replies_without_a_body_leave_the_connection_usable(
    make: Make, method: str, reply: bytes
) -> None:
    with answering(reply) as server:
        carrier = make(max_connections=1)
        for _ in range(3):
            assert carrier(ask(server.url, method))[1] == b""
        assert server.connections == 1


CUT_SHORT = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789",
    "length, nothing of it": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n0123456789",
    "last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n",
    "chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n0123\r\n0\r\n\r\n",
    "chunk end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n0123\r\n0\r\n\r\n",
    "status line": b"HTTP/1.1 20",
    "header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "odd length": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
}


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("reply", CUT_SHORT.values(), ids=CUT_SHORT)
def test_a_reply_that_is_not_whole_is_an_error(make: Make, reply: bytes, reset: bool) -> None:
    with replying_once(reply, reset=reset) as server:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            make()(ask(server.url))
        assert len(server.received) == 1, "it was asked again"


def test_one_call_is_one_attempt(make: Make) -> None:
    """Repeating is the runner's: a body half sent must not be continued on another connection."""
    with replying_once(b"") as server:
        carrier = make()
        for method in ("GET", "HEAD", "DELETE", "PUT", "POST", "PATCH"):
            body = Pieces(2) if method.startswith("P") else None
            with pytest.raises(httpx.TransportError):
                carrier(ask(server.url, method, body=body))
        assert len(server.received) == server.connections == 6

    def handle(peer: Peer) -> None:
        peer.head()
        peer.reset()

    with wire(handle) as server:
        with pytest.raises(httpx.TransportError):
            make()(ask(server.url, "PUT", body=Pieces(512)))
        assert server.connections == 1


def test_nobody_listens(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(httpx.ConnectError):
        make()(ask(f"http://127.0.0.1:{port}/"))
    with pytest.raises(httpx.ConnectError):
        make()(ask("http://does-not-exist.invalid/"))


# --- connections ---------------------------------------------------------------------------


def test_connections_are_kept_alive(make: Make) -> None:
    with answering(OK) as server:
        carrier = make()
        for _ in range(200):
            assert carrier(ask(server.url))[1] == b"ok"
        assert server.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(make: Make) -> None:
    with replying_once(OK) as server:
        carrier = make()
        for _ in range(5):
            assert carrier(ask(server.url, "POST"))[1] == b"ok"
            carrier.wait(0.02)
        assert server.connections == 5


def test_a_download_given_up_frees_its_connection_and_is_not_read_ahead(make: Make) -> None:
    sent: list[int] = []

    def handle(peer: Peer) -> None:
        while (received := peer.head()) is not None:
            if received.line.startswith("HEAD"):
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
                continue
            peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {128 * MIB}\r\n\r\n".encode())
            sent.append(0)
            for _ in range(128):
                peer.send(b"x" * MIB)
                sent[-1] += MIB

    with wire(handle) as server:
        carrier = make(max_connections=1)
        response = carrier.open(ask(server.url))
        assert carrier.first(response).startswith(b"xxx")
        carrier.wait(0.1)
        assert sent[0] < 16 * MIB
        carrier.close(response)
        carrier.close(response)  # twice does no harm
        for _ in range(2):
            assert carrier(ask(server.url, "HEAD", pool=0.5))[0].status_code == 200
        assert server.connections == 2


# --- timeouts ------------------------------------------------------------------------------


def test_read_timeouts_are_the_requests_own(make: Make) -> None:
    def handle(peer: Peer) -> None:
        while (received := peer.request()) is not None:
            if "/head" in received.line:
                time.sleep(0.4)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
            time.sleep(0.4)
            peer.send(b"k")

    with wire(handle) as server:
        carrier = make()
        for path in ("/head", "/body"):
            started = time.monotonic()
            with pytest.raises(httpx.ReadTimeout):
                carrier(ask(server.url + path, read=0.1))
            assert time.monotonic() - started < 0.35
        assert carrier(ask(server.url + "/head", read=2.0))[1] == b"ok"


def test_a_slow_download_that_moves_outlives_the_timeouts(make: Make) -> None:
    def handle(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            peer.send(b"x")
            time.sleep(0.1)

    with wire(handle) as server:
        request = ask(server.url, connect=0.2, read=0.2, write=0.2, pool=0.2)
        assert make()(request)[1] == b"x" * 10


def test_a_write_that_does_not_move_times_out_and_is_not_read_ahead(make: Make) -> None:
    def handle(peer: Peer) -> None:
        peer.head()
        stop.wait(SECONDS)

    stop = threading.Event()
    with wire(handle) as server:
        body = Pieces(4096)
        started = time.monotonic()
        with pytest.raises(httpx.WriteTimeout):
            make(max_connections=1)(ask(server.url, "PUT", body=body, write=0.2, read=5.0))
        assert 0.15 < time.monotonic() - started < 2
        assert body.taken < 32 * MIB
        stop.set()


def test_a_connect_that_gets_no_answer_times_out(make: Make) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]  # fill the queue: further SYNs are dropped
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        time.sleep(0.05)
        try:
            started = time.monotonic()
            with pytest.raises(httpx.ConnectTimeout):
                make()(ask(f"http://127.0.0.1:{address[1]}/", connect=0.2, read=5.0))
            assert time.monotonic() - started < 2
        finally:
            for sock in waiting:
                sock.close()


def test_waiting_for_a_connection_times_out(make: Make) -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok") as server:
        carrier = make(max_connections=1)
        held = carrier.open(ask(server.url))
        started = time.monotonic()
        with pytest.raises(httpx.PoolTimeout):
            carrier.open(ask(server.url, pool=0.1))
        assert time.monotonic() - started < 2
        carrier.close(held)
        carrier.close(carrier.open(ask(server.url, pool=0.5)))


# --- cancellation --------------------------------------------------------------------------


@pytest.mark.parametrize("name", rooms.ASYNC_TRANSPORTS)
@pytest.mark.parametrize("where", ["waiting", "download", "upload", "connecting"])
def test_cancelled_work_leaves_no_connection_behind(name: str, where: str) -> None:
    def handle(peer: Peer) -> None:
        while (received := peer.head()) is not None:
            if "/ok" in received.line:
                peer.send(OK)
                continue
            if where == "download":
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * MIB)
            if where != "upload":
                peer.sock.recv(1)
            else:
                stop.wait(SECONDS)
                return

    async def run(port: int) -> None:
        transport = rooms.build_async_transport(TransportOptions(name=name, max_connections=32))

        async def work() -> None:
            body = Pieces(4096) if where == "upload" else None
            url = f"http://127.0.0.1:{port}/"
            response = await transport.handle_async_request(
                ask(url, "PUT" if body else "GET", body=body)
            )
            try:
                async for _ in response.aiter_raw():
                    pass
            finally:
                await response.aclose()

        for _ in range(5):
            tasks = [asyncio.create_task(work()) for _ in range(40)]  # some wait for a connection
            await asyncio.sleep(0.001 if where == "connecting" else 0.05)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)

        async def good() -> bytes:
            url = f"http://127.0.0.1:{port}/ok"
            response = await transport.handle_async_request(ask(url, pool=5.0))
            body = b"".join([chunk async for chunk in response.aiter_raw()])
            await barrier.wait()  # all at one time: not one of 32 places is lost
            await response.aclose()
            return body

        barrier = asyncio.Barrier(32)
        assert await asyncio.gather(*[good() for _ in range(32)]) == [b"ok"] * 32
        await transport.aclose()

    stop = threading.Event()
    with wire(handle) as server:
        asyncio.run(run(server.port))
        stop.set()
    gc.collect()


# --- TLS -----------------------------------------------------------------------------------


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


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    made = Authority(ca, folder, folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    ca.cert_pem.write_to_path(str(made.bundle))
    issued = ca.issue_cert("client@example.test")
    made.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(made.key))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    return made


def test_a_server_is_checked_against_the_bundle(make: Make, authority: Authority) -> None:
    with answering(OK, authority.server()) as server:
        assert make(verify=authority.bundle)(ask(server.url))[1] == b"ok"
        assert make(verify=False)(ask(server.url))[1] == b"ok"
        for verify in (True, authority.folder / "other.pem"):
            with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
                make(verify=verify)(ask(server.url))
        with pytest.raises(httpx.ConnectError, match=r"(?i)hostname|certificate"):
            make(verify=authority.bundle)(ask(f"https://localhost:{server.port}/"))
        assert len(server.received) == 2


def test_tls_to_a_server_without_it(make: Make) -> None:
    def handle(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    with wire(handle) as server, pytest.raises(httpx.ConnectError):
        make(verify=False)(ask(f"https://127.0.0.1:{server.port}/"))


def test_client_certificates(make: Make, authority: Authority) -> None:
    with answering(OK, authority.server(clients=True)) as server:
        files = {"client_cert": authority.cert, "client_key": authority.key}
        assert make(verify=authority.bundle, **files)(ask(server.url))[1] == b"ok"
        with pytest.raises(httpx.TransportError):
            make(verify=authority.bundle)(ask(server.url))
        assert len(server.received) == 1


# --- proxies -------------------------------------------------------------------------------


@contextmanager
def proxying(target: Wire, *, secret: str | None = None) -> Iterator[Wire]:
    """An HTTP proxy that sends everything to `target`."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    def handle(peer: Peer) -> None:
        while (received := peer.head()) is not None:
            server.received.append(received)
            if secret is not None and received.get("Proxy-Authorization") != secret:
                peer.send(b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n")
                continue
            if not received.line.startswith("CONNECT"):
                peer.send(OK)
                continue
            with socket.create_connection(("127.0.0.1", target.port)) as upstream:
                peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=pump, args=(upstream, peer.sock), daemon=True)
                back.start()
                pump(peer.sock, upstream)
                back.join(SECONDS)
            return

    with wire(handle) as server:
        yield server


SECRET = "Basic dXNlcjpwQHNz"  # user:p@ss


def test_a_proxy_for_http(make: Make) -> None:
    with answering(OK) as target, proxying(target, secret=SECRET) as proxy:
        carrier = make(proxy=f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        url = "http://registry.test:5000/v2/a?next=b%2Fc&_state=a%3D%3D"
        for _ in range(2):
            response, body = carrier(ask(url, headers=[("X-A", "1")]))
            assert (response.status_code, body) == (200, b"ok")
        assert proxy.received[0].line == f"GET {url} HTTP/1.1"
        assert proxy.received[0].get("Host") == "registry.test:5000"
        assert proxy.connections == 1
        assert target.connections == 0


def test_a_proxy_for_https(make: Make, authority: Authority) -> None:
    with (
        answering(OK, authority.server()) as target,
        proxying(target, secret=SECRET) as proxy,
    ):
        carrier = make(proxy=f"http://user:p%40ss@127.0.0.1:{proxy.port}", verify=authority.bundle)
        for _ in range(2):
            headers = [("Authorization", "Bearer t")]
            assert carrier(ask("https://registry.test/v2/", headers=headers))[1] == b"ok"
        (connect,) = proxy.received
        assert connect.line == "CONNECT registry.test:443 HTTP/1.1"
        assert connect.get("Authorization") is None
        assert target.received[0].line == "GET /v2/ HTTP/1.1"
        assert target.received[0].get("Proxy-Authorization") is None


def test_a_proxy_that_refuses(make: Make, authority: Authority) -> None:
    with (
        answering(OK, authority.server()) as target,
        proxying(target, secret=SECRET) as proxy,
    ):
        carrier = make(proxy=f"http://127.0.0.1:{proxy.port}", verify=authority.bundle)
        with pytest.raises(httpx.ProxyError):
            carrier(ask("https://registry.test/v2/"))
        assert carrier(ask("http://registry.test/v2/"))[0].status_code == 407
        assert target.connections == 0
    with pytest.raises((httpx.ProxyError, httpx.ConnectError)):
        make(proxy=f"http://127.0.0.1:{proxy.port}")(ask("http://registry.test/"))


def test_the_environment_is_not_read_by_a_transport(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(OK) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert make()(ask(server.url))[1] == b"ok"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def put(**names: str) -> None:
        for name, value in names.items():
            monkeypatch.setenv(name, value)

    return put


def test_environment_proxy(environment: Callable[..., None]) -> None:
    assert environment_proxy("http://registry.test/") is None
    environment(HTTP_PROXY="http://u:p@plain:1", HTTPS_PROXY="secure:2")
    assert environment_proxy("http://registry.test/") == "http://u:p@plain:1"
    assert environment_proxy("https://registry.test/v2/") == "http://secure:2"
    environment(NO_PROXY="other.test,.inside.test,port.test:5000")
    assert environment_proxy("https://other.test:5000") is None
    assert environment_proxy("https://a.inside.test") is None
    assert environment_proxy("https://port.test:5000") is None
    assert environment_proxy("https://port.test:5001") == "http://secure:2"
    environment(NO_PROXY="*")
    assert environment_proxy("https://registry.test") is None


def test_environment_proxy_for_all(environment: Callable[..., None]) -> None:
    environment(ALL_PROXY="http://any:3")
    assert environment_proxy("https://registry.test") == "http://any:3"
    for host in ("localhost", "LOCALHOST:5000", "a.localhost", "127.0.0.1", "127.8.8.8", "[::1]:1"):
        assert environment_proxy(f"https://user@{host}/v2/") is None
    assert environment_proxy("https://localhost.test") == "http://any:3"
    assert environment_proxy("https://[2001:db8::1]") == "http://any:3"


# --- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_settings_that_cannot_be(kind: str, authority: Authority, tmp_path: Path) -> None:
    build = rooms.build_transport if kind == "sync" else rooms.build_async_transport
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    locked = tmp_path / "locked.pem"
    key = load_pem_private_key(authority.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )
    missing = tmp_path / "missing.pem"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"name": "carrier-pigeon"}, "carrier-pigeon.*httpx"),
        ({"verify": missing}, "missing.pem"),
        ({"verify": empty}, "empty.pem"),
        ({"client_cert": missing}, "missing.pem"),
        ({"client_cert": authority.cert}, "cert.pem"),
        ({"client_cert": authority.cert, "client_key": missing}, "missing.pem"),
        ({"client_cert": authority.cert, "client_key": locked}, "locked.pem"),
        ({"client_key": authority.key}, "key.pem"),
        ({"proxy": "socks5://user:hush@proxy.test"}, "proxy"),
        ({"proxy": "http://user:hush@proxy.test:x"}, "proxy"),
        ({"proxy": "http://user:hush@"}, "proxy"),
        ({"proxy": "proxy.test:3128"}, "proxy"),
    ]
    for options, named in cases:
        with pytest.raises(ConfigError, match=named) as caught:
            build(TransportOptions(**options))
        shown: BaseException | None = caught.value
        while shown is not None:
            assert "hush" not in str(shown)
            shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)


def test_a_proxys_password_is_not_shown() -> None:
    assert "hush" not in repr(TransportOptions(proxy="http://user:hush@proxy.test"))


def test_the_names_offered() -> None:
    assert set(rooms.TRANSPORTS) == {*rooms.SYNC_TRANSPORTS, *rooms.ASYNC_TRANSPORTS}
    with pytest.raises(ConfigError, match=r"aiohttp.*blocking"):
        rooms.build_transport(TransportOptions(name="aiohttp"))


def test_a_child_process_makes_its_own(make: Make) -> None:
    with answering(OK) as server:
        assert make()(ask(server.url))[1] == b"ok"
        if (child := os.fork()) == 0:
            try:
                os._exit(0 if make()(ask(server.url))[1] == b"ok" else 1)
            finally:
                os._exit(2)
        for _ in range(100):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.05)
        else:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        assert status == 0
