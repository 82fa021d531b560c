"""The socket that a server listens on."""

from __future__ import annotations

import os
import socket

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A TCP socket that listens already: whoever connects from now on waits for the server.

    Args:
        host: a name or an address, IPv4 or IPv6.
        port: 0 takes one that is free.

    Raises:
        OSError: the address is not this machine's, or in use.
    """
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = found[0]
    # The protocol is said (`socket.create_server` leaves it open), as asyncio turns Nagle's
    # algorithm off only for sockets that have it: otherwise each reply waits 40 ms for an ACK.
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere this would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
