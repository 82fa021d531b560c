"""Functions for programs that serve an ASGI application: they listen, serve and set up logging."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dockhand_core.errors import ConfigError, DockhandError, PluginError
from dockhand_core.server.http_limits import HttpLimits, RequestHeadCheck
from dockhand_core.server.options import limits_of, refuse_plain_http
from dockhand_core.server.programs import ProgramFailed, fail
from dockhand_core.text import printable, printable_lines

if TYPE_CHECKING:
    import argparse

    import uvicorn

__all__ = ["listen", "log_to_stderr", "program", "serve", "serve_options"]


def listen(host: str, port: int, backlog: int = 128) -> socket.socket:
    """Open a TCP socket that listens; connections queue until the server accepts them.

    Args:
        host: host name or address, IPv4 or IPv6.
        port: port number; 0 for any free port.
        backlog: connections that the operating system queues.

    Raises:
        OSError: the address is not an address of this machine, or it is in use.
    """
    addresses = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = addresses[0]
    # asyncio turns off Nagle's algorithm only for sockets with an explicit protocol, and sockets of
    # `socket.create_server` have none. With Nagle's algorithm, each reply waits 40 ms for an ACK.
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # on Windows this option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
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
    limits: HttpLimits | None = None,
    prefer_h11: bool = False,
    **settings: Any,
) -> None:
    """Serve an ASGI application until SIGINT or SIGTERM.

    Prints `listening on <URL>` when clients can connect. Exits with a message (see `fail`) if it
    cannot listen on the address or cannot use the certificate.

    Args:
        app: ASGI application.
        host: host name or address to listen on.
        port: port number; 0 for any free port, which the printed URL contains.
        package: name of the package whose extra `server` contains uvicorn, for the message if
            uvicorn is missing.
        certificate: PEM file of the certificate chain, to serve HTTPS.
        key: PEM file of the certificate's private key.
        limits: limits of connections and request heads; the defaults of `HttpLimits` unless given.
        prefer_h11: parse HTTP with h11, even if the faster httptools is installed.
        settings: more arguments of `uvicorn.Config`.
    """
    try:
        import uvicorn

        from dockhand_core.server.connections import LimitedServer
        from dockhand_core.server.http_protocols import limited_protocol
    except ImportError:
        fail(f'uvicorn is not installed: pip install "{package}[server]"', status=2)
    limits = limits or HttpLimits()
    if bool(certificate) != bool(key):
        fail("--tls-certificate and --tls-key belong together", status=2)
    # uvicorn logs a warning for each malformed request, which any client could repeat endlessly.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        RequestHeadCheck(app, limits.max_head),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        ssl_certfile=certificate,
        ssl_keyfile=str(key) if key else None,
        http=limited_protocol(limits, prefer_h11=prefer_h11),
        h11_max_incomplete_event_size=limits.max_head,
        **settings,
    )
    try:
        config.load()
    except OSError as error:  # includes ssl.SSLError, for a file that is not PEM
        fail(f"--tls-certificate {certificate}, --tls-key: {error}", status=2)
    with _listen_or_exit(host, port, limits.backlog) as listener:
        authority = f"[{host}]" if ":" in host else host
        scheme = "https" if certificate else "http"
        url = f"{scheme}://{authority}:{listener.getsockname()[1]}"
        asyncio.run(_serve_until_signal(LimitedServer(config, limits), listener, url))


def serve_options(app: Any, options: argparse.Namespace, *, package: str, **settings: Any) -> None:
    """Serve an ASGI application with the options of `add_listening_options`; see `serve`.

    Exits with a message if the options would expose the application without TLS. A program that
    creates something before it serves calls `refuse_plain_http` first.

    Args:
        app: ASGI application.
        options: parsed command line.
        package: name of the package whose extra `server` contains uvicorn, for the message if
            uvicorn is missing.
        settings: more arguments of `serve`, and of `uvicorn.Config`.
    """
    refuse_plain_http(options, "requests")
    serve(
        app,
        host=options.host,
        port=options.port,
        package=package,
        certificate=options.tls_certificate,
        key=options.tls_key,
        **{"limits": limits_of(options), **settings},
    )


@contextlib.contextmanager
def program(*errors: type[Exception], verbose: bool = False) -> Iterator[None]:
    """Run the body of a command-line program, with logging to standard error.

    If the body raises a `DockhandError`, the program exits with the error's message, without a
    traceback: with status 2 if the configuration or a plugin is wrong, else with status 1. It exits
    quietly if the reader of its output is gone, as in `| head`, and with status 130 after Ctrl-C.

    Args:
        errors: more exception classes that are reported without a traceback, with status 1.
        verbose: also log messages of level INFO from the logger `dockhand`. If false, only warnings
            and errors are logged.
    """
    log_to_stderr(verbose=verbose)
    with_message: tuple[type[Exception], ...] = (DockhandError, *errors)
    try:
        yield
        sys.stdout.flush()
    except ProgramFailed as error:
        _exit(error.message, error.status)
    except (ConfigError, PluginError) as error:
        _exit(str(error), 2)
    except with_message as error:
        _exit(str(error), 1)
    except BrokenPipeError:
        # Without this, Python would report an error when it flushes the output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as a shell reports SIGPIPE
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def log_to_stderr(*, verbose: bool = False) -> None:
    """Let loggers write to standard error, unless logging is configured already.

    Args:
        verbose: as in `program`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_LineFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    if verbose:
        logging.getLogger("dockhand").setLevel(logging.INFO)


def _exit(message: str, status: int) -> NoReturn:
    print(printable_lines(message), file=sys.stderr)
    raise SystemExit(status)


class _LineFormatter(logging.Formatter):
    """A formatter that lets no text of a client look like a line of the log or control a terminal.

    A record is one line; lines of a traceback are indented.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


def _listen_or_exit(host: str, port: int, backlog: int) -> socket.socket:
    """Open a listening socket, or exit with a message if the address cannot be used."""
    try:
        return listen(host, port, backlog)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        fail(f"cannot listen on {host}:{port}: {reason}; --port 0 takes one that is free")


async def _serve_until_signal(server: uvicorn.Server, listener: socket.socket, url: str) -> None:
    """Serve until a signal arrives, then finish the open requests and return."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, server)
    # Replaced, because uvicorn's own method would raise the signals again after the server stopped.
    server.capture_signals = _capture_no_signals  # type: ignore[method-assign]
    # Printed after the signal handlers are installed: the program that reads this line may send a
    # signal at once.
    print(f"listening on {url}", flush=True)
    await server.serve(sockets=[listener])


def _stop(server: uvicorn.Server) -> None:
    """Stop the server after its open requests; a second call stops it at once."""
    server.force_exit = server.should_exit
    server.should_exit = True


@contextlib.contextmanager
def _capture_no_signals() -> Iterator[None]:
    yield
