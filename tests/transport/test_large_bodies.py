"""Replies of several MiB of every transport, which the async default receives by another way."""

from __future__ import annotations

import os
import threading
import time

import httpx
import pytest
from raw_servers import MIB, CertificateAuthority, Connection, raw_server, replying_server
from transport_client import MakeClient, build_request

BODY = os.urandom(5 * MIB + 12345)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
def test_a_large_body_arrives_and_its_connection_is_used_again(
    make_client: MakeClient, authority: CertificateAuthority, encrypted: bool
) -> None:
    context = authority.server_context() if encrypted else None
    with replying_server(HEAD + BODY, context) as server:
        client = make_client()
        for _ in range(3):
            assert client.send(build_request(server.url))[1] == BODY
        assert (server.connections, len(server.requests)) == (1, 3)


def test_a_large_body_that_is_cut_is_an_error(make_client: MakeClient) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(HEAD + BODY[: 3 * MIB])

    with raw_server(handle) as server:
        client = make_client()
        response = client.open(build_request(server.url))
        with pytest.raises(httpx.TransportError) as caught:
            client.read(response)
        assert not isinstance(caught.value, httpx.TimeoutException)


@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
def test_bytes_beyond_a_large_body_reach_no_later_reply(
    make_client: MakeClient,
    request: pytest.FixtureRequest,
    authority: CertificateAuthority,
    encrypted: bool,
) -> None:
    if "-httpx" in request.node.name:
        pytest.skip("httpx takes them for the next reply")
    context = authority.server_context() if encrypted else None
    beyond = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    with replying_server(HEAD + BODY + beyond, context) as server:
        client = make_client()
        assert client.send(build_request(server.url))[1] == BODY
        client.sleep(0.05)
        assert client.send(build_request(server.url))[1] == BODY


def test_the_timeout_runs_from_the_last_byte_of_a_slow_body(make_client: MakeClient) -> None:
    ended = threading.Event()

    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(HEAD + BODY[: 2 * MIB])
        for start in range(2 * MIB, 2 * MIB + 6000, 1000):
            time.sleep(0.25)
            connection.send(BODY[start : start + 1000])
        ended.wait(10)

    with raw_server(handle) as server:
        client = make_client()
        response = client.open(build_request(server.url, read=1.0))
        started = time.monotonic()
        try:
            with pytest.raises(httpx.ReadTimeout):
                client.read(response)
        finally:
            ended.set()
        assert time.monotonic() - started > 2  # 1.5 seconds of pieces, and the timeout


def test_the_start_of_a_large_body_does_not_wait_for_the_rest(make_client: MakeClient) -> None:
    goes_on = threading.Event()

    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(HEAD + BODY[:1000])
        if goes_on.wait(10):
            connection.send(BODY[1000:])

    with raw_server(handle) as server:
        client = make_client()
        response = client.open(build_request(server.url))
        assert client.read_first_block(response) == BODY[:1000]
        goes_on.set()
        client.close_response(response)


def test_a_large_body_that_is_left_closes_its_connection(make_client: MakeClient) -> None:
    left = threading.Event()

    def handle(connection: Connection) -> None:
        connection.read_request()
        try:
            connection.send(HEAD + BODY[: 4 * MIB])
            assert connection.sock.recv(1) == b""
        except OSError:
            pass
        left.set()

    with raw_server(handle) as server:
        client = make_client()
        response = client.open(build_request(server.url))
        client.read_first_block(response)
        client.close_response(response)
        client.sleep_until(left.is_set)
        assert left.is_set()
