"""A TCP proxy on loopback that cuts connections: a fault that a real server cannot be asked for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Cutter:
    """What passes, and where it is cut.

    Attributes:
        url: where to connect.
        up, down: bytes that pass on one connection before it is cut; each number is used once.
    """

    url: str = ""
    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)
    cuts: int = 0

    def allowance(self, direction: str, seen: int) -> int | None:
        """Bytes that may still pass, or None without a limit."""
        waiting: list[int] = getattr(self, direction)
        return max(0, waiting[0] - seen) if waiting else None


@contextmanager
def cutting(target: str) -> Iterator[Cutter]:
    """A proxy in front of a server."""
    parts = urlsplit(target)
    assert parts.hostname is not None
    address = (parts.hostname, parts.port or 80)
    cutter = Cutter()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cutter.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=_accept, args=(listener, address, cutter), daemon=True).start()
        yield cutter


def _accept(listener: socket.socket, address: tuple[str, int], cutter: Cutter) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(address)
            threading.Thread(target=_join, args=(client, server, cutter), daemon=True).start()


def _join(client: socket.socket, server: socket.socket, cutter: Cutter) -> None:
    with client, server:
        up = threading.Thread(target=_pump, args=("up", client, server, cutter))
        up.start()
        _pump("down", server, client, cutter)
        up.join()


def _pump(direction: str, source: socket.socket, sink: socket.socket, cutter: Cutter) -> None:
    seen = 0
    with suppress(OSError):
        while data := source.recv(65536):
            allowed = cutter.allowance(direction, seen)
            if allowed is not None and len(data) >= allowed:
                sink.sendall(data[:allowed])
                getattr(cutter, direction).pop(0)
                cutter.cuts += 1
                break
            seen += len(data)
            sink.sendall(data)
    # Only shut: the other thread still reads from one of them, and closes them when both ended.
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
