"""Serving an ASGI application: what the servers of this project have in common."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn

__all__ = ["listen", "serve"]

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


def serve(
    app: Any,
    *,
    host: str,
    port: int,
    package: str,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    **options: Any,
) -> None:
    """Serve until SIGINT or SIGTERM; what is wrong before that ends the program with a message.

    Args:
        app: an ASGI application.
        host: a name or an address.
        port: 0 takes one that is free; the line that is printed names it.
        package: the package with the extra `server`, for the message where uvicorn is missing.
        certificate: speak HTTPS: a file with the chain of certificates, PEM.
        key: a file with its private key, PEM.
        options: more settings of `uvicorn.Config`.
    """
    try:
        import uvicorn
    except ImportError:
        sys.exit(f'uvicorn is not installed: pip install "{package}[server]"')
    if bool(certificate) != bool(key):
        sys.exit("--tls-certificate and --tls-key belong together")
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        ssl_certfile=certificate,
        ssl_keyfile=str(key) if key else None,
        **{"http": _http(), **options},
    )
    try:
        config.load()
    except OSError as error:  # also what ssl says of a file that is none
        sys.exit(f"--tls-certificate {certificate}, --tls-key: {error}")
    with _listener(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        scheme = "https" if certificate else "http"
        url = f"{scheme}://{shown}:{listener.getsockname()[1]}"
        asyncio.run(_serve(uvicorn.Server(config), listener, url))


def _http() -> Any:
    """The faster parser where it is there."""
    try:
        from dockhand_core.server.http_limits import LimitedProtocol
    except ImportError:
        return "h11"
    return LimitedProtocol


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens; said before anything is served, so that a mistake ends the program."""
    try:
        return listen(host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"cannot listen on {host}:{port}: {reason}; --port 0 takes one that is free")


async def _serve(server: uvicorn.Server, listener: socket.socket, url: str) -> None:
    """Serve; a signal lets what is under way come to its end, and is no failure."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, server)
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # it would raise them anew
    # Whoever reads this may send a signal at once.
    print(f"listening on {url}", flush=True)
    await server.serve(sockets=[listener])


def _stop(server: uvicorn.Server) -> None:
    server.force_exit = server.should_exit  # the second time, at once
    server.should_exit = True


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    yield
