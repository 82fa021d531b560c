"""HTTP by httptools for uvicorn, with a limit that it lacks.

It collects the line and the headers of a request in memory, however many come; h11 stops at some
size, but takes longer for everything.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["LimitedProtocol"]

LIMIT = 64 << 10  # bytes of a request's line and headers
_TOO_LARGE = b"\r\n".join(
    [
        b"HTTP/1.1 431 Request Header Fields Too Large",
        b"Content-Length: 0",
        b"Connection: close",
        b"",
        b"",
    ]
)


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose request has too large a head, with 431."""

    _in_head = False
    _head = 0

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._head = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is over; what follows is the application's to limit."""
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Something came; a piece is small beside the limit, so it is looked at afterwards."""
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > LIMIT and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()
