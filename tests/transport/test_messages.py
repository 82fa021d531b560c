"""What every transport sends, and what it makes of what comes back."""

from __future__ import annotations

import gzip
import socket
import time

import httpx
import pytest
from raw_servers import OK, Make, Peer, Pieces, answering, ask, replying_once, wire

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
        while peer.sock.recv(65536):  # else the system drops the reply with the connection
            if time.monotonic() > until:
                return

    until = time.monotonic() + 30
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
