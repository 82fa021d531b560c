"""Connections of every transport: reuse, timeouts and cancellation."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time

import httpx
import pytest
from raw_servers import (
    MIB,
    OK_REPLY,
    SECONDS,
    Connection,
    one_reply_server,
    raw_server,
    replying_server,
)
from transport_client import MakeClient, UploadStream, build_request

from dockhand_core.http.transports import (
    ASYNC_TRANSPORTS,
    TransportOptions,
    build_async_transport,
)

# --- connections ---------------------------------------------------------------------------


def test_connections_are_kept_alive(make_client: MakeClient) -> None:
    with replying_server(OK_REPLY) as server:
        client = make_client()
        for _ in range(200):
            assert client.send(build_request(server.url))[1] == b"ok"
        assert server.connections == 1


def test_a_connection_that_the_server_closed_while_idle_is_replaced(
    make_client: MakeClient,
) -> None:
    with one_reply_server(OK_REPLY) as server:
        client = make_client()
        for count in range(1, 6):
            assert client.send(build_request(server.url, "POST"))[1] == b"ok"
            client.sleep_until(lambda count=count: server.closed == count)  # type: ignore[misc]
            client.sleep(0.02)  # an event loop must run to notice that the server closed
        assert server.connections == 5


def test_an_abandoned_download_frees_its_connection_and_is_not_read_ahead(
    make_client: MakeClient,
) -> None:
    sent: list[int] = []

    def handle(connection: Connection) -> None:
        while (received := connection.read_head()) is not None:
            if received.line.startswith("HEAD"):
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
                continue
            connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {128 * MIB}\r\n\r\n".encode())
            sent.append(0)
            for _ in range(128):
                connection.send(b"x" * MIB)
                sent[-1] += MIB

    with raw_server(handle) as server:
        client = make_client(max_connections=1)
        response = client.open(build_request(server.url))
        assert client.read_first_block(response).startswith(b"xxx")
        client.sleep(0.1)
        assert sent[0] < 16 * MIB
        client.close_response(response)
        client.close_response(response)  # a second close does nothing
        for _ in range(2):
            assert client.send(build_request(server.url, "HEAD", pool=5.0))[0].status_code == 200
        assert server.connections == 2


# --- timeouts ------------------------------------------------------------------------------


def test_read_timeouts_belong_to_the_request(make_client: MakeClient) -> None:
    stop = threading.Event()

    def handle(connection: Connection) -> None:
        while (received := connection.read_request()) is not None:
            if "/head" in received.line:
                stop.wait(SECONDS)
            if "/late" in received.line:
                time.sleep(0.4)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
            if "/body" in received.line:
                stop.wait(SECONDS)
            connection.send(b"k")

    with raw_server(handle) as server:
        client = make_client()
        for path in ("/head", "/body"):
            started = time.monotonic()
            with pytest.raises(httpx.ReadTimeout):
                client.send(build_request(server.url + path, read=0.1))
            assert time.monotonic() - started < SECONDS / 2
        assert client.send(build_request(server.url + "/late"))[1] == b"ok"
        stop.set()


def test_timeouts_do_not_limit_the_length_of_a_download(make_client: MakeClient) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
        for _ in range(20):
            connection.send(b"x")
            time.sleep(0.1)

    with raw_server(handle) as server:
        request = build_request(server.url, connect=1.5, read=1.5, write=1.5, pool=1.5)
        assert make_client().send(request)[1] == b"x" * 20


def test_a_stalled_upload_times_out_and_its_body_is_not_read_ahead(
    make_client: MakeClient,
) -> None:
    def handle(connection: Connection) -> None:
        connection.read_head()
        stop.wait(SECONDS)

    stop = threading.Event()
    with raw_server(handle) as server:
        body = UploadStream(4096)
        started = time.monotonic()
        with pytest.raises(httpx.WriteTimeout):
            make_client(max_connections=1).send(
                build_request(server.url, "PUT", body=body, write=0.2, read=5.0)
            )
        assert 0.15 < time.monotonic() - started < SECONDS / 2
        assert body.taken < 32 * MIB
        stop.set()


def test_connecting_to_a_full_backlog_times_out(make_client: MakeClient) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]  # fill the backlog, so that SYNs are dropped
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        time.sleep(0.05)
        try:
            started = time.monotonic()
            with pytest.raises(httpx.ConnectTimeout):
                make_client().send(
                    build_request(f"http://127.0.0.1:{address[1]}/", connect=0.2, read=5.0)
                )
            assert time.monotonic() - started < 4
        finally:
            for sock in waiting:
                sock.close()


def test_waiting_for_a_connection_times_out(make_client: MakeClient) -> None:
    with replying_server(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok") as server:
        client = make_client(max_connections=1)
        held = client.open(build_request(server.url))
        started = time.monotonic()
        with pytest.raises(httpx.PoolTimeout):
            client.open(build_request(server.url, pool=0.1))
        assert time.monotonic() - started < SECONDS / 2
        client.close_response(held)
        client.close_response(client.open(build_request(server.url, pool=5.0)))


# --- cancellation --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ASYNC_TRANSPORTS)
@pytest.mark.parametrize("where", ["waiting", "download", "upload", "connecting"])
def test_cancelled_work_leaves_no_connection_behind(name: str, where: str) -> None:
    def handle(connection: Connection) -> None:
        while (received := connection.read_head()) is not None:
            if "/ok" in received.line:
                connection.send(OK_REPLY)
                continue
            if where == "download":
                connection.send(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * MIB
                )
            if where != "upload":
                connection.sock.recv(1)
            else:
                stop.wait(SECONDS)
                return

    async def run(port: int) -> None:
        transport = build_async_transport(TransportOptions(name=name, max_connections=32))

        async def work() -> None:
            body = UploadStream(4096) if where == "upload" else None
            url = f"http://127.0.0.1:{port}/"
            response = await transport.handle_async_request(
                build_request(url, "PUT" if body else "GET", body=body)
            )
            try:
                async for _ in response.aiter_raw():
                    pass
            finally:
                await response.aclose()

        for _ in range(5):
            tasks = [asyncio.create_task(work()) for _ in range(40)]  # more tasks than connections
            await asyncio.sleep(0.001 if where == "connecting" else 0.05)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)

        async def good() -> bytes:
            url = f"http://127.0.0.1:{port}/ok"
            response = await transport.handle_async_request(build_request(url))
            body = b"".join([chunk async for chunk in response.aiter_raw()])
            await barrier.wait()  # 32 at the same time, so no connection slot is lost
            await response.aclose()
            return body

        barrier = asyncio.Barrier(32)
        assert await asyncio.gather(*[good() for _ in range(32)]) == [b"ok"] * 32
        await transport.aclose()

    stop = threading.Event()
    with raw_server(handle) as server:
        asyncio.run(run(server.port))
        stop.set()
    gc.collect()
