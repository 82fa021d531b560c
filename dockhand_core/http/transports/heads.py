"""Heads of HTTP/1.1 messages: a request's as bytes, and a usual reply's read in one step.

Follows: RFC 9110, section 5 ("Fields"); RFC 9112, sections 2 to 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import h11
import httpx

__all__ = ["MAX_HEADER_BYTES", "Head", "Headers", "asks_to_close", "serialized"]

MAX_HEADER_BYTES = 100 * 1024  # the same limit as in httpx
_MAX_LENGTH_DIGITS = 20

Headers = list[tuple[bytes, bytes]]

# RFC 9110, section 5.6.2 and 5.5; and of the request line, the target (RFC 9112, section 3.2)
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINES = re.compile(rb"(?:" + _TOKEN + rb": [^\0\r\n]*\r\n)*")
_REQUEST_LINE = re.compile(_TOKEN + rb" [!-~]+")
# The head of a usual reply, which is read without h11; any other head is left to h11.
_VALUE = rb"[!-~](?:[ -~]*[!-~])?"
_USUAL = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([ -~]*)\r\n"
    rb"((?:" + _TOKEN + rb": " + _VALUE + rb"\r\n)*+)\r\n"
)
_FIELD = re.compile(rb"(" + _TOKEN + rb"): (" + _VALUE + rb")\r\n")


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a reply.

    Attributes:
        fields: the headers by lower-case name, to read the length of the body.
        rest: the bytes after the head that were received with it.
        parser: the parser that goes on with a chunked body; None if the body is not chunked.
    """

    version: bytes
    status: int
    reason: bytes
    headers: Headers
    fields: dict[bytes, bytes]
    rest: bytes
    parser: h11.Connection | None = None

    @classmethod
    def usual(cls, data: bytes) -> Head | None:
        """Read the head of a usual reply; None if h11 has to read it, or to refuse it."""
        found = _USUAL.match(data)
        if found is None or found.end() > MAX_HEADER_BYTES:
            return None
        headers = _FIELD.findall(found[3])
        fields = {name.lower(): value for name, value in headers}
        if b"transfer-encoding" in fields:
            return None
        length = fields.get(b"content-length")
        if length is not None:
            several = sum(name.lower() == b"content-length" for name, _ in headers) > 1
            if several or not length.isdigit() or len(length) >= _MAX_LENGTH_DIGITS:
                return None
        return cls(b"1.1", int(found[1]), found[2], headers, fields, data[found.end() :])


def serialized(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head of a request.

    Raises:
        httpx.LocalProtocolError: HTTP does not allow a character in it. The message does not show
            the value, which may be a secret.
    """
    line = b"%b %b" % (method, target)
    lines = b"".join([b"%b: %b\r\n" % each for each in headers])
    if not _REQUEST_LINE.fullmatch(line):
        raise httpx.LocalProtocolError("Illegal method or target of a request")
    if not _LINES.fullmatch(lines):
        raise httpx.LocalProtocolError("Illegal header name or value of a request")
    return b"%b HTTP/1.1\r\n%b\r\n" % (line, lines)


def asks_to_close(*headers: Headers) -> bool:
    """Whether the headers of a request or of its reply ask to close the connection."""
    for each in headers:
        for name, value in each:
            if len(name) == 10 and name.lower() == b"connection" and b"close" in value.lower():
                return True
    return False
