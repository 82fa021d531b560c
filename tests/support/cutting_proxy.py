"""A TCP proxy on loopback that cuts connections after a given number of bytes.

The proxy causes faults that a real server cannot be made to cause.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

# seconds; a connection ends if the server sends no byte for so long
SECONDS = 60.0


@dataclass
class CuttingProxy:
    """A proxy, and the cuts that it still has to make.

    Attributes:
        url: the URL of the proxy, which clients use instead of the server's.
        upload_cuts, download_cuts: the number of bytes that pass in that direction on one
            connection before the connection is cut. Each number is used once, in order.
        cut_count: the number of connections that have been cut.
    """

    url: str = ""
    upload_cuts: list[int] = field(default_factory=list)
    download_cuts: list[int] = field(default_factory=list)
    cut_count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take_cut(self, cuts: list[int], passed: int, size: int) -> int | None:
        """Take the next cut if it is due in a block, so that no other connection makes it, too.

        Args:
            cuts: the cuts of the direction.
            passed: number of bytes that passed on the connection before.
            size: size of the block in bytes.

        Returns:
            the number of bytes of the block that still pass; None if no cut is due.
        """
        with self._lock:
            if not cuts or passed + size < cuts[0]:
                return None
            self.cut_count += 1
            return max(0, cuts.pop(0) - passed)


@contextmanager
def cutting_proxy(target: str) -> Iterator[CuttingProxy]:
    """Run a proxy in front of the server at the URL `target`."""
    parts = urlsplit(target)
    assert parts.hostname is not None
    address = (parts.hostname, parts.port or 80)
    proxy = CuttingProxy()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=_accept, args=(listener, address, proxy), daemon=True).start()
        yield proxy


def _accept(listener: socket.socket, address: tuple[str, int], proxy: CuttingProxy) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(address, timeout=SECONDS)
            connection = _Connection(client, server, proxy)
            threading.Thread(target=connection.relay, daemon=True).start()


class _Connection:
    """A client's connection, and the connection to the server that the proxy opened for it."""

    def __init__(self, client: socket.socket, server: socket.socket, proxy: CuttingProxy) -> None:
        self._client, self._server, self._proxy = client, server, proxy
        self._upload_was_cut = False

    def relay(self) -> None:
        """Pass bytes in both directions until one side closes the connection or a cut is due."""
        with self._client, self._server:
            upload = threading.Thread(target=self._relay_upload)
            upload.start()
            self._relay_download()
            upload.join()

    def _relay_upload(self) -> None:
        with suppress(OSError):
            self._pump(self._client, self._server, self._proxy.upload_cuts)
        if not self._upload_was_cut:
            self._shut_both()
            return
        # Let the server read all bytes that passed before the client sees the cut. Otherwise the
        # client's next request would race with the server's processing of these bytes.
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_WR)

    def _relay_download(self) -> None:
        with suppress(OSError):
            self._pump(self._server, self._client, self._proxy.download_cuts)
        self._shut_both()

    def _pump(self, source: socket.socket, sink: socket.socket, cuts: list[int]) -> None:
        is_upload = source is self._client
        passed = 0
        while data := source.recv(65536):
            if self._upload_was_cut:
                continue  # the server's reply to a cut upload never arrives
            allowed = self._proxy.take_cut(cuts, passed, len(data))
            if allowed is not None:
                sink.sendall(data[:allowed])
                self._upload_was_cut = is_upload
                return
            passed += len(data)
            sink.sendall(data)

    def _shut_both(self) -> None:
        # `close` would be unsafe here: the other thread still reads from one of the sockets.
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
