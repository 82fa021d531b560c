"""Requests and responses of every transport: bytes, headers, and bodies that are cut short."""

from __future__ import annotations

import gzip
import socket
import time

import httpx
import pytest
from raw_servers import (
    OK_REPLY,
    Connection,
    one_reply_server,
    raw_server,
    refusing_port,
    replying_server,
)
from transport_client import MakeClient, UploadStream, build_request

# --- requests ------------------------------------------------------------------------------


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
def test_a_url_is_sent_byte_for_byte(make_client: MakeClient, target: str) -> None:
    with replying_server(OK_REPLY) as server:
        request = build_request(server.url + target)
        assert make_client().send(request)[1] == b"ok"
        assert server.requests[0].line == f"GET {request.url.raw_path.decode()} HTTP/1.1"
        assert request.url.raw_path.decode() == target.replace("/./", "/")


def test_only_the_given_headers_are_sent(make_client: MakeClient) -> None:
    with replying_server(OK_REPLY) as server:
        client = make_client()
        client.send(
            build_request(
                server.url, headers=[("X-Twice", "1"), ("X-Twice", "2"), ("Cookie", "a=b")]
            )
        )
        client.send(build_request(server.url, "POST", content=b""))
        client.send(
            build_request(server.url, "PUT", content=b"{}", headers=[("Content-Type", "x/y")])
        )
        first, second, third = server.requests
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
    assert (third.header("Content-Type"), third.body) == ("x/y", b"{}")


def test_userinfo_in_a_url_does_not_become_a_header(make_client: MakeClient) -> None:
    with replying_server(OK_REPLY) as server:
        url = f"http://user:secret@127.0.0.1:{server.port}/"
        make_client().send(build_request(url, headers=[("Authorization", "Bearer t")]))
        assert server.requests[0].header("Authorization") == "Bearer t"
        assert server.requests[0].line == "GET / HTTP/1.1"


def test_an_upload_is_sent_with_its_length_and_not_chunked(make_client: MakeClient) -> None:
    with replying_server(OK_REPLY) as server:
        client = make_client()
        for content in (None, b"", b"built with another body"):
            client.send(build_request(server.url, "PUT", content=content, body=UploadStream(40)))
        for received in server.requests:
            assert received.header("Transfer-Encoding") is None
            assert [v for k, v in received.headers if k.lower() == "content-length"]
            assert len(received.body) == int(received.header("Content-Length") or 0)
        assert len(server.requests[-1].body) == 40 * 65536


def test_a_body_of_another_length_is_refused(make_client: MakeClient) -> None:
    for announced in (3 * 65536 + 1, 65536 + 1):
        with replying_server(OK_REPLY) as server:
            request = build_request(server.url, "PUT", body=UploadStream(3), read=1.0)
            request.headers["Content-Length"] = str(announced)
            with pytest.raises(httpx.LocalProtocolError):
                make_client().send(request)


def test_an_exception_from_a_body_reaches_the_caller(make_client: MakeClient) -> None:
    class SourceGone(Exception):
        pass

    with replying_server(OK_REPLY) as server:
        client = make_client(max_connections=1)
        for error in (SourceGone(), FileNotFoundError("gone")):
            with pytest.raises(type(error)) as caught:
                client.send(build_request(server.url, "PUT", body=UploadStream(3, error=error)))
            assert caught.value is error
        assert client.send(build_request(server.url))[1] == b"ok"


def test_an_early_refusal_of_a_large_upload_is_read(make_client: MakeClient) -> None:
    def handle(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 401 No\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope")
        connection.sock.shutdown(socket.SHUT_WR)
        # Read the rest of the body: else the system would reset the connection and drop the reply.
        while connection.sock.recv(65536):
            if time.monotonic() > until:
                return

    until = time.monotonic() + 30
    with raw_server(handle) as server:
        client = make_client(max_connections=1)
        body = UploadStream(4096)
        response, text = client.send(build_request(server.url, "PUT", body=body))
        assert (response.status_code, text) == (401, b"nope")
        response, text = client.send(build_request(server.url, "PUT", body=UploadStream(1)))
        assert response.status_code == 401


# --- responses -----------------------------------------------------------------------------


def test_a_response_is_passed_on_unchanged(make_client: MakeClient) -> None:
    packed = gzip.compress(b"plain" * 100)
    links = [f"</v2/_catalog?n={n}&last=a%2Fb>; rel=next" for n in range(200)]
    head = ["HTTP/1.1 307 Over There", "Location: /else", "Content-Encoding: gzip"]
    head += [f"Link: {link}" for link in links]
    head += ["Set-Cookie: session=1; Path=/", "Set-Cookie: other=2", f"X-Big: {'b' * 60_000}"]
    reply = "\r\n".join([*head, f"Content-Length: {len(packed)}", "", ""]).encode() + packed
    with replying_server(reply) as server:
        client = make_client()
        response, body = client.send(build_request(server.url))
        assert (response.status_code, response.reason_phrase) == (307, "Over There")
        assert response.headers.get_list("Link") == links
        assert len(response.headers.get_list("Set-Cookie")) == 2
        assert len(response.headers["X-Big"]) == 60_000
        assert body == packed
        assert response.http_version == "HTTP/1.1"
        client.send(build_request(server.url))
        assert [received.header("Cookie") for received in server.requests] == [None, None]


def test_endless_headers_are_an_error(make_client: MakeClient) -> None:
    def handle(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nX-Big: ")
        for _ in range(1024):
            connection.send(b"b" * 65536)

    with raw_server(handle) as server, pytest.raises(httpx.RemoteProtocolError):
        make_client().send(build_request(server.url))


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
    make_client: MakeClient, method: str, reply: bytes
) -> None:
    with replying_server(reply) as server:
        client = make_client(max_connections=1)
        for _ in range(3):
            assert client.send(build_request(server.url, method))[1] == b""
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
def test_an_incomplete_response_is_an_error(
    make_client: MakeClient, reply: bytes, reset: bool
) -> None:
    with one_reply_server(reply, reset=reset) as server:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            make_client().send(build_request(server.url))
        assert len(server.requests) == 1, "the request was repeated"


def test_one_call_is_one_attempt(make_client: MakeClient) -> None:
    """Only the runner retries: a transport would continue a half-sent body on a new connection."""
    with one_reply_server(b"") as server:
        client = make_client()
        for method in ("GET", "HEAD", "DELETE", "PUT", "POST", "PATCH"):
            body = UploadStream(2) if method.startswith("P") else None
            with pytest.raises(httpx.TransportError):
                client.send(build_request(server.url, method, body=body))
        assert len(server.requests) == server.connections == 6

    def handle(connection: Connection) -> None:
        connection.read_head()
        connection.reset()

    with raw_server(handle) as server:
        with pytest.raises(httpx.TransportError):
            make_client().send(build_request(server.url, "PUT", body=UploadStream(512)))
        assert server.connections == 1


def test_a_refused_connection_is_a_connect_error(make_client: MakeClient) -> None:
    with refusing_port() as port, pytest.raises(httpx.ConnectError):
        make_client().send(build_request(f"http://127.0.0.1:{port}/"))


def test_an_unknown_host_is_a_connect_error(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:  # a real resolver may be slow or wrong
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(httpx.ConnectError):
        make_client().send(build_request("http://does-not-exist.invalid/"))
