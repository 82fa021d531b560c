"""A size limit on request headers, for uvicorn's httptools protocol.

Without this limit, a client could make httptools collect a request line and headers of any size in
memory. h11, the other HTTP parser of uvicorn, has such a limit but is slower.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HeaderLimitProtocol"]

_LIMIT = 64 << 10  # bytes; the maximum size of a request's line and headers together
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
    """uvicorn's httptools protocol, with a limit on the size of a request's line and headers.

    If a request exceeds the limit, the server replies with status 431 and closes the connection.
    """

    _reading_headers = False
    _header_bytes = 0

    def on_message_begin(self) -> None:
        """Start counting bytes, because a request begins."""
        self._reading_headers, self._header_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting bytes, because the headers end; the application limits the body."""
        self._reading_headers = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parse the data, then check the limit.

        Headers that arrive complete in one read are not checked. Their size is bounded by the size
        of a read, at most 256 KiB in asyncio and uvloop.
        """
        super().data_received(data)
        if self._reading_headers:
            self._header_bytes += len(data)
            if self._header_bytes > _LIMIT and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()
