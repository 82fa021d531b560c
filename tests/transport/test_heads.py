"""Heads of replies that are read in one step have the same meaning as with h11."""

from __future__ import annotations

import h11
from hypothesis import given
from hypothesis import strategies as st

from dockhand_core.http.transports.heads import Head

NAMES = st.sampled_from(
    [b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"X-A", b"x_b",
     b"Bad Name", b"", b"Etag", b"D\xc3\xa9"]
)  # fmt: skip
VALUES = st.sampled_from(
    [b"0", b"12", b" 12", b"12 ", b"1, 1", b"-1", b"two", b"9" * 25, b"chunked", b"close", b"",
     b"a b", b"a\tb", b"\xe9", b"a\x00b", b"a\rb", b'"sha256:ab"']
)  # fmt: skip
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([b": ", b":", b" : "]), VALUES), max_size=4)
STATUS_LINES = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 404 ", b"HTTP/1.1 404", b"HTTP/1.0 200 OK", b"HTTP/1.1 99 No",
     b"HTTP/1.1 100 Continue", b"HTTP/2 200 OK", b"HTTP/1.1 200 \x01", b"ICY 200 OK"]
)  # fmt: skip


@given(STATUS_LINES, FIELDS, st.sampled_from([b"\r\n", b"\n"]), st.sampled_from([b"", b"more"]))
def test_a_head_that_is_read_in_one_step_is_what_h11_reads(
    status_line: bytes, fields: list[tuple[bytes, bytes, bytes]], end: bytes, rest: bytes
) -> None:
    lines = [status_line, *(b"".join(field) for field in fields)]
    data = end.join([*lines, b"", b""]) + rest
    found = Head.usual(data)
    if found is None:
        return  # h11 reads it
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(data)
    reply = parser.next_event()
    assert isinstance(reply, h11.Response)
    assert (found.status, found.version, found.reason) == (
        reply.status_code,
        reply.http_version,
        reply.reason,
    )
    assert found.headers == reply.headers.raw_items()
    assert found.fields == dict(reply.headers)
    assert (found.rest, parser.trailing_data[0]) == (rest, rest)


def test_a_usual_head_is_read_in_one_step() -> None:
    data = b'HTTP/1.1 201 Created\r\nContent-Length: 2\r\nETag: "a"\r\n\r\nok'
    found = Head.usual(data)
    assert found is not None
    assert (found.status, found.fields[b"etag"], found.rest) == (201, b'"a"', b"ok")
    assert Head.usual(data[:-8]) is None  # the head goes on
