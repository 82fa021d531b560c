"""How every transport keeps connections, waits, and gives up."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time

import httpx
import pytest
from raw_servers import MIB, OK, SECONDS, Make, Peer, Pieces, answering, ask, replying_once, wire

from dockhand_core.http import transports as rooms
from dockhand_core.http.transports import TransportOptions

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
