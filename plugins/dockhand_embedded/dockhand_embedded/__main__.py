"""`python -m dockhand_embedded`: serve a folder of OCI Image Layouts as a registry."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dockhand_core import ConfigError
from dockhand_embedded.listening import listen

if TYPE_CHECKING:
    import uvicorn


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dockhand_embedded",
        description="Serve a folder of OCI Image Layouts, one for each repository, as a registry.",
        epilog="It asks nobody for a password, and so listens on loopback unless told otherwise.",
    )
    parser.add_argument(
        "--root",
        default="./registry",
        help="the folder, made if it is not there; ':memory:' keeps nothing (default: ./registry)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument(
        "--port", type=int, default=5000, help="port to listen on, 0 for any that is free (5000)"
    )
    parser.add_argument(
        "--anonymous",
        action="store_true",
        help="allow a --host that is not loopback: whoever reaches it can read, write and delete",
    )
    parser.add_argument("--read-only", action="store_true", help="refuse what writes")
    parser.add_argument(
        "--max-manifest",
        type=int,
        default=4 << 20,
        metavar="BYTES",
        help="refuse larger manifests with 413 (4194304)",
    )
    return parser


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens; said before anything is served, so that a mistake ends the program."""
    try:
        return listen(host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"cannot listen on {host}:{port}: {reason}; --port 0 takes one that is free")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM."""
    options = _arguments().parse_args(arguments)
    if not _loopback(options.host) and not options.anonymous:
        sys.exit(
            f"--host {options.host} lets others in, and nobody is asked for a password: say "
            "--anonymous if that is meant, or listen on loopback behind a proxy that asks"
        )
    try:
        import uvicorn
    except ImportError:
        sys.exit('uvicorn is not installed: pip install "dockhand-embedded[server]"')
    from dockhand_embedded.app import create_app
    from dockhand_embedded.protocol import Limits

    try:
        app = create_app(
            options.root, read_only=options.read_only, limits=Limits(manifest=options.max_manifest)
        )
    except ConfigError as error:
        sys.exit(str(error))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="off", ws="none"
    )
    with _listener(options.host, options.port) as listener:
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"listening on http://{host}:{listener.getsockname()[1]}", flush=True)
        asyncio.run(_serve(uvicorn.Server(config), listener))


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve; a signal lets what is under way come to its end, and is no failure."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, server)
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # it would raise them anew
    await server.serve(sockets=[listener])


def _stop(server: uvicorn.Server) -> None:
    server.force_exit = server.should_exit  # the second time, at once
    server.should_exit = True


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    yield


if __name__ == "__main__":
    main()
