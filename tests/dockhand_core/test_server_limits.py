"""Limits of the servers on hostile clients, with both HTTP parsers and on real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn
from webhook_receiver import eventually

from dockhand_core.server import HttpLimits, connections, listen
from dockhand_core.server.connections import LimitedServer
from dockhand_core.server.http_limits import RequestHeadCheck
from dockhand_core.server.http_protocols import limited_protocol

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
EARLY = b"POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
QUICK = HttpLimits(head_timeout=0.6, stall_timeout=0.6)

Start = Callable[..., "Running"]


class Running:
    """A server that runs in a thread: its port, and the bodies that its application received."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.bodies: list[bytes] = []
        self.release = threading.Event()  # lets requests for /held finish
        self.stop: Callable[[], None] = lambda: None

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    async def app(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/held":
            await asyncio.to_thread(self.release.wait, 20)
        self.bodies.append(body)
        answer = b"a" * (8 << 20) if scope["path"] == "/large" else b"answer"
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@pytest.fixture(params=["httptools", "h11"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """A function that starts a server with the given limits, for either HTTP parser."""

    @contextmanager
    def running(limits: HttpLimits = QUICK, **settings: Any) -> Iterator[Running]:
        with listen("127.0.0.1", 0, limits.backlog) as listener:
            it = Running(listener.getsockname()[1])
            config = uvicorn.Config(
                RequestHeadCheck(it.app, limits.max_head),
                http=limited_protocol(limits, prefer_h11=request.param == "h11"),
                h11_max_incomplete_event_size=limits.max_head,
                ws="none", lifespan="off", log_config=None, **settings,
            )  # fmt: skip
            server = LimitedServer(config, limits)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            eventually(lambda: server.started)

            def stop() -> None:
                server.should_exit = True
                thread.join(20)
                assert not thread.is_alive()

            it.stop = stop
            try:
                yield it
            finally:
                it.release.set()
                stop()

    with ExitStack() as stack:
        yield lambda *limits, **settings: stack.enter_context(running(*limits, **settings))


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionError:
        pass
    return data


def answer_of(connection: socket.socket) -> int:
    """Read the application's short answer, and return its status."""
    data = b""
    while not data.endswith(b"answer"):
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return status_of(data)


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def send_until_closed(connection: socket.socket, piece: bytes, limit: int) -> int:
    """Send a piece again and again, until the server closes the connection; return the bytes."""
    sent = 0
    try:
        while sent < limit:
            connection.sendall(piece)
            sent += len(piece)
    except OSError:  # the reply may be lost
        return sent
    pytest.fail(f"the server accepted {sent} bytes")


@pytest.mark.parametrize("first", [b"", GET], ids=["first request", "kept alive"])
@pytest.mark.parametrize("trickled", [b"", b"\r\n", b"x: y\r\n"])
def test_a_head_must_arrive_in_time(start: Start, first: bytes, trickled: bytes) -> None:
    """Neither silence nor single bytes keep a connection open, whatever was answered before."""
    with start().connect() as connection:
        if first:
            connection.sendall(first)
            assert answer_of(connection) == 200
        if trickled == b"x: y\r\n":
            connection.sendall(POST)
        elif not trickled and first:
            connection.sendall(b"G")
        began = time.monotonic()
        connection.settimeout(0.1)
        while time.monotonic() < began + 5:
            try:
                if trickled:
                    connection.sendall(trickled)
                if not connection.recv(65536):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        # h11 refuses an empty line at once
        assert (0.0 if trickled == b"\r\n" else 0.5) < time.monotonic() - began < 2.5


def test_the_reply_to_a_head_that_is_late(start: Start) -> None:
    with start().connect() as connection:
        connection.sendall(POST)
        assert status_of(read_to_end(connection)) == 408


def test_a_slow_head_within_the_deadline_is_answered(start: Start) -> None:
    with start(HttpLimits(head_timeout=5)).connect() as connection:
        for byte in GET:
            connection.sendall(bytes([byte]))
            time.sleep(0.01)
        assert answer_of(connection) == 200


def test_the_tls_handshake_must_finish_in_time(start: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    file = tmp_path / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(file)
    server = start(ssl_certfile=file)
    with server.connect() as silent, server.connect() as honest:
        began = time.monotonic()
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with context.wrap_socket(honest, server_hostname="127.0.0.1") as connection:
            connection.sendall(GET)
            assert answer_of(connection) == 200
            assert read_to_end(silent) == b""
            assert 0.5 < time.monotonic() - began < 2.5


@pytest.mark.parametrize(
    "stalled",
    [
        POST + b"Content-Length: 9\r\n\r\nhalf",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\nTrailer: ",
        CHUNKED + b"5;extension=",
        EARLY + b"5\r\nhello\r\n",
    ],
)
def test_a_body_that_stalls_is_closed(start: Start, stalled: bytes) -> None:
    with start().connect() as connection:
        connection.sendall(stalled)
        began = time.monotonic()
        reply = read_to_end(connection)
        assert 0.5 < time.monotonic() - began < 2.5
    assert status_of(reply) == (200 if stalled.startswith(EARLY) else 408)


@pytest.mark.parametrize("start_of_body", [CHUNKED, EARLY], ids=["read", "answered early"])
def test_a_body_of_framing_alone_is_closed(start: Start, start_of_body: bytes) -> None:
    """Bytes of a chunk extension or a trailer are no progress of the body."""
    with start().connect() as connection:
        connection.sendall(start_of_body + b"5;x=")
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() < began + 5:
                connection.sendall(b"a")
                time.sleep(0.05)


def test_a_slow_body_is_read(start: Start) -> None:
    server = start()
    with server.connect() as connection:
        connection.sendall(POST + b"Content-Length: 20\r\n\r\n")
        for _ in range(20):
            time.sleep(0.1)
            connection.sendall(b"b")
        assert answer_of(connection) == 200
    assert server.bodies == [b"b" * 20]


def test_a_request_that_takes_the_server_long_is_not_closed(start: Start) -> None:
    server = start()
    with server.connect() as connection:
        connection.sendall(GET.replace(b"/ ", b"/held "))
        time.sleep(1.5)
        server.release.set()
        assert answer_of(connection) == 200


def test_a_client_that_does_not_read_its_reply_is_closed(start: Start) -> None:
    server = start()
    with server.connect() as connection:
        connection.sendall(GET.replace(b"/ ", b"/large "))
        eventually(lambda: server.bodies)
        time.sleep(2)
        assert 0 < len(read_to_end(connection)) < 8 << 20


def test_a_client_that_reads_its_reply_slowly_gets_all_of_it(start: Start) -> None:
    with start(HttpLimits(stall_timeout=3)).connect() as connection:
        connection.sendall(
            GET.replace(b"/ ", b"/large ").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        received = 0
        for _ in range(20):
            time.sleep(0.2)
            received += len(connection.recv(256 << 10))
        received += len(read_to_end(connection))
    assert received > 8 << 20


def growth_of_memory(work: Callable[[], None]) -> int:
    """Call a function, and return by how many bytes the peak of memory in this process exceeds."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux shows the peak memory of a process")

    def peak() -> int:
        [line] = [row for row in status.read_text().splitlines() if row.startswith("VmHWM")]
        return int(line.split()[1]) * 1024

    clear.write_text("5")  # the peak begins anew
    before = peak()
    work()
    return peak() - before


ENDLESS = {
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\n", b"x: " + b"a" * 1000 + b"\r\n"),
    "trailers after the reply": (EARLY + b"0\r\n", b"x: " + b"a" * 1000 + b"\r\n"),
    "one trailer": (CHUNKED + b"0\r\nx: ", b"a" * 1000),
    "a chunk extension": (CHUNKED + b"5;", b"a" * 1000),
    "a chunk extension after the reply": (EARLY + b"5;", b"a" * 1000),
    "headers": (POST, b"x: " + b"a" * 1000 + b"\r\n"),
    "one header": (POST + b"x: ", b"a" * 1000),
    "request line": (b"GET /", b"a" * 1000),
    "query": (b"GET /?", b"a" * 1000),
    "method": (b"", b"A" * 1000),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_endless_framing_is_refused(start: Start, kind: str) -> None:
    opening, piece = ENDLESS[kind]
    with start(HttpLimits()).connect() as connection:
        connection.sendall(opening)
        # The kernel's buffers take a few MiB more than the server reads.
        assert send_until_closed(connection, piece, 32 << 20) < 32 << 20


def test_endless_trailers_do_not_use_memory(start: Start) -> None:
    server = start(HttpLimits())

    def attack() -> None:
        for opening, piece in ENDLESS.values():
            with server.connect() as connection:
                connection.sendall(opening)
                send_until_closed(connection, piece * 64, 64 << 20)

    attack()  # the first attack takes memory that the second one uses again
    assert growth_of_memory(attack) < 8 << 20


@pytest.mark.parametrize("size", [66 << 10, 200 << 10, 256 << 10])
@pytest.mark.parametrize("where", ["header", "headers", "path", "query"])
def test_a_large_head_in_one_read_is_refused(start: Start, size: int, where: str) -> None:
    head = {
        "header": POST + b"x: " + b"a" * size + b"\r\n\r\n",
        "headers": POST + (b"x: " + b"a" * 1019 + b"\r\n") * (size >> 10) + b"\r\n",
        "path": GET.replace(b"/ ", b"/" + b"a" * size + b" "),
        "query": GET.replace(b"/ ", b"/?" + b"a" * size + b" "),
    }[where]
    server = start(HttpLimits())
    with server.connect() as connection:
        connection.sendall(head)
        assert status_of(read_to_end(connection)) in {400, 431}
    assert server.bodies == []


def test_a_head_below_the_limit_is_accepted(start: Start) -> None:
    with start(HttpLimits()).connect() as connection:
        for _ in range(2):
            connection.sendall(GET[:-2] + b"x: " + b"a" * (60 << 10) + b"\r\n\r\n")
            assert answer_of(connection) == 200


def test_a_body_of_tiny_chunks_and_short_trailers_is_read(start: Start) -> None:
    server = start(HttpLimits())
    with server.connect() as connection:
        for _ in range(2):
            connection.sendall(CHUNKED + b"1\r\nb\r\n" * 100_000 + b"0\r\nDigest: x\r\n\r\n")
            assert answer_of(connection) == 200
    assert server.bodies == [b"b" * 100_000] * 2


def test_many_pipelined_requests(start: Start) -> None:
    """A few are answered in order; thousands in one read do not use memory."""
    server = start(HttpLimits())
    with server.connect() as connection:
        connection.sendall(GET * 10)
        data = b""
        while data.count(b"answer") < 10:
            data += connection.recv(65536)

    def attack() -> None:
        for _ in range(10):
            with server.connect() as connection:
                connection.sendall(GET.replace(b"/ ", b"/held ") + GET * 8_000)
                time.sleep(0.1)

    assert growth_of_memory(attack) < 16 << 20


AMBIGUOUS = {
    "length and coding": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "coding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    "chunked, identity": b"Transfer-Encoding: chunked, identity",
    "identity, chunked": b"Transfer-Encoding: identity, chunked",
    "identity": b"Transfer-Encoding: identity",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked",
    "chunked, then identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "unknown coding": b"Transfer-Encoding: xchunked",
    "vertical tab": b"Transfer-Encoding: \x0bchunked",
    "space before the colon": b"Transfer-Encoding : chunked",
    "empty coding": b"Transfer-Encoding:",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 5",
    "positive length": b"Content-Length: +5",
    "negative length": b"Content-Length: -5",
    "hexadecimal length": b"Content-Length: 0x5",
    "underscore": b"Content-Length: 1_0",
    "empty length": b"Content-Length:",
    "huge length": b"Content-Length: 99999999999999999999999",
    "bare carriage return": b"X: a\rContent-Length: 5",
    "NUL": b"X: a\0b",
    "space in a name": b"X Y: a",
    "no colon": b"XY",
    "two hosts": b"Host: b",
}
AMBIGUOUS_CHUNKS = [
    b"5\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"5;a\nb\r\nhello\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_an_ambiguous_request_is_refused_and_the_connection_closed(start: Start, kind: str) -> None:
    """No request that a proxy might not have seen is answered."""
    body = b"0\r\n\r\n" if b"chunked" in AMBIGUOUS[kind] else b""
    server = start()
    with server.connect() as connection:
        connection.sendall(POST + AMBIGUOUS[kind] + b"\r\n\r\n" + body + GET)
        reply = read_to_end(connection)
    assert (status_of(reply), reply.count(b"HTTP/1.1 ")) == (400, 1)
    assert server.bodies == []


@pytest.mark.parametrize("body", AMBIGUOUS_CHUNKS)
def test_an_ambiguous_chunk_is_refused_and_the_connection_closed(start: Start, body: bytes) -> None:
    server = start()
    with server.connect() as connection:
        connection.sendall(CHUNKED + body + GET)
        reply = read_to_end(connection)
    assert (status_of(reply), reply.count(b"HTTP/1.1 ")) == (400, 1)
    assert server.bodies == []


@pytest.mark.parametrize(
    "request_", [b"POST / HTTP/1.1\r\n\r\n", CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n"]
)
def test_requests_without_host_or_with_a_coding_of_a_later_version(
    start: Start, request_: bytes
) -> None:
    with start().connect() as connection:
        connection.sendall(request_ + GET)
        assert status_of(read_to_end(connection)) == 400


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("registry.test:5000", 200), ("[2001:db8::1]:443", 200), ("", 200), ("a_b.c-d", 200),
        ("a/b", 400), ("a@b", 400), ("a?b", 400), ("a#b", 400), ("a b", 400), ("a\\b", 400),
        ("a\x1b[31m", 400), ("é", 400),
    ],
)  # fmt: skip
def test_the_host_must_be_a_host(start: Start, host: str, status: int) -> None:
    """The registry makes URLs of it, for notifications."""
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    with start().connect() as connection:
        connection.sendall(request.encode())
        assert status_of(read_to_end(connection)) == status


def test_a_client_that_sends_no_more_gets_its_replies(start: Start) -> None:
    server = start()
    with server.connect() as connection:
        connection.sendall(GET.replace(b"/ ", b"/held ", 1) + GET)
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        server.release.set()
        reply = read_to_end(connection)
    assert (status_of(reply), reply.count(b"answer")) == (200, 2)


def test_a_request_that_was_cut_off_is_not_handled(start: Start) -> None:
    server = start(HttpLimits())
    for request in (GET[:-2], POST + b"Content-Length: 9\r\n\r\nhalf", CHUNKED + b"4\r\nhalf\r\n"):
        with server.connect() as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            assert read_to_end(connection) == b""
    assert server.bodies == []


def test_trailers_are_not_headers(start: Start) -> None:
    """A trailer cannot add a header to a request whose headers were checked."""
    server = start()
    with server.connect() as connection:
        connection.sendall(CHUNKED + b"0\r\nAuthorization: Basic x\r\n\r\n" + GET)
        assert answer_of(connection) == 200


def test_garbage_during_a_reply_closes_the_connection(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    with start().connect() as connection:
        connection.sendall(EARLY)
        assert answer_of(connection) == 200
        connection.sendall(b"not a chunk\r\n")
        assert b"HTTP/1.1 4" not in read_to_end(connection)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


def test_a_request_for_another_protocol_is_answered_in_http(start: Start) -> None:
    """Java's client asks for h2c in its first request."""
    upgrade = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with start().connect() as connection:
        connection.sendall(upgrade)
        assert answer_of(connection) == 200


def test_connections_above_the_limit_replace_idle_ones(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(HttpLimits(max_connections=20))
    began = time.monotonic()
    with ExitStack() as stack:
        used = stack.enter_context(server.connect())
        used.sendall(GET)
        assert answer_of(used) == 200
        idle = [stack.enter_context(server.connect()) for _ in range(100)]
        honest = stack.enter_context(server.connect())
        honest.sendall(GET)
        assert answer_of(honest) == 200
        used.sendall(GET)  # a connection that was used outlives those that never were
        assert answer_of(used) == 200
        for connection in idle:
            connection.setblocking(False)
        eventually(lambda: sum(is_open(connection) for connection in idle) <= 20)
    lines = [each for each in caplog.records if "--max-connections" in each.getMessage()]
    assert 1 <= len(lines) <= 1 + time.monotonic() - began


def test_a_client_with_many_connections_closes_its_own(start: Start) -> None:
    """Connections of another address stay open, even if they are older and never were used."""
    server = start(HttpLimits(max_connections=20))
    with ExitStack() as stack:
        honest = stack.enter_context(server.connect())
        for _ in range(100):
            address = ("127.0.0.1", server.port)
            hostile = socket.create_connection(address, 10, ("127.0.0.2", 0))
            stack.enter_context(hostile)
        hostile.sendall(GET)
        assert answer_of(hostile) == 200  # all were accepted
        honest.sendall(GET)
        assert answer_of(honest) == 200


def is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_connections_above_the_limit_are_refused_while_all_are_busy(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(HttpLimits(max_connections=3))
    with ExitStack() as stack:
        busy = [stack.enter_context(server.connect()) for _ in range(3)]
        for connection in busy:
            connection.sendall(GET.replace(b"/ ", b"/held "))
        time.sleep(0.3)
        with server.connect() as refused:
            assert status_of(read_to_end(refused)) == 503
        server.release.set()
        for connection in busy:
            assert answer_of(connection) == 200
    assert "a new one was refused" in caplog.text
    with server.connect() as connection:
        connection.sendall(GET)
        assert answer_of(connection) == 200


def test_a_connection_whose_body_stalls_is_replaced(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, a client that sends nothing more would lock out all others for a minute."""
    monkeypatch.setattr(connections, "_SHORT_STALL", 0.5)
    server = start(HttpLimits(max_connections=3))
    with ExitStack() as stack:
        stalled, slow, busy = (stack.enter_context(server.connect()) for _ in range(3))
        busy.sendall(GET.replace(b"/ ", b"/held "))
        for connection in (stalled, slow):
            connection.sendall(POST + b"Content-Length: 9\r\n\r\nhalf")
        time.sleep(0.7)
        slow.sendall(b"12")
        time.sleep(0.2)
        with server.connect() as connection:
            connection.sendall(GET)
            assert answer_of(connection) == 200
            assert status_of(read_to_end(stalled)) == 408
            slow.sendall(b"345")
            assert answer_of(slow) == 200
        server.release.set()
        assert answer_of(busy) == 200
    assert "one whose request stalled was closed" in caplog.text


def test_stalled_connections_delay_the_end_by_seconds_only(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_SHORT_STALL", 0.5)
    server = start(HttpLimits())
    with server.connect() as body, server.connect() as reply:
        body.sendall(POST + b"Content-Length: 9\r\n\r\nhalf")
        reply.sendall(GET.replace(b"/ ", b"/large "))
        time.sleep(0.3)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 5
        assert status_of(read_to_end(body)) == 408


def test_a_stalled_connection_does_not_delay_the_end(start: Start) -> None:
    server = start()
    with server.connect() as connection:
        connection.sendall(POST + b"Content-Length: 9\r\n\r\nhalf")
        time.sleep(0.1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 3
        assert status_of(read_to_end(connection)) == 408
