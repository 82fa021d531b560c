"""A size limit on request headers, for uvicorn's httptools protocol.

Without it, httptools collects a request's line and headers in memory without bound. h11 has such
a limit, but is slower.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HeaderLimitProtocol"]

_LIMIT = 64 << 10  # bytes of a request's line and headers
_TOO_LARGE = b"\r\n".join(
    [
        b"HTTP/1.1 431 Request Header Fields Too Large",
        b"Content-Length: 0",
        b"Connection: close",
        b"",
        b"",
    ]
)


class HeaderLimitProtocol(HttpToolsProtocol):
    """The httptools protocol, answering 431 and closing if line and headers exceed the limit."""

    _reading_headers = False
    _header_bytes = 0

    def on_message_begin(self) -> None:
        """Start to count: a request begins."""
        self._reading_headers, self._header_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting: the headers are complete, and the application limits the body."""
        self._reading_headers = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parse the data, then check the limit; one read is small compared to the limit."""
        super().data_received(data)
        if self._reading_headers:
            self._header_bytes += len(data)
            if self._header_bytes > _LIMIT and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()
