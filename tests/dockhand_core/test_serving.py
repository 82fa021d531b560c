"""Code that the servers share: the limit on request headers, options, and programs."""

from __future__ import annotations

import argparse
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registries import embedded

from dockhand_core import ConfigError, DockhandError, PluginError
from dockhand_core.server import HttpLimits, add_listening_options, program, run, serve_options

HEADER_LIMIT = 64 << 10


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[socket.socket]:
    """Start an embedded registry in a process of its own, and open a TCP connection to it."""
    with embedded(tmp_path) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            yield connection


@pytest.mark.parametrize(
    "endless", ["many headers", "one header", "request line", "pipelined request"]
)
def test_endless_headers_are_refused(connection: socket.socket, endless: str) -> None:
    start = b"GET /v2/ HTTP/1.1\r\nHost: a\r\n"
    piece = b"x: " + b"a" * 1000 + b"\r\n"
    if endless == "one header":
        start, piece = start + b"x: ", b"a" * 1000
    elif endless == "request line":
        start, piece = b"GET /v2/", b"a" * 1000
    elif endless == "pipelined request":  # after a complete request on the same connection
        connection.sendall(start + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    connection.sendall(start)
    sent = 0
    try:
        while sent < 4 << 20:
            connection.sendall(piece)
            sent += len(piece)
    except OSError:  # the server closed the connection, and its reply may be lost
        pass
    else:
        pytest.fail("the server accepted 4 MiB of headers")


def test_large_headers_and_a_larger_body_are_accepted(connection: socket.socket) -> None:
    headers = b"".join(b"x%d: %s\r\n" % (number, b"a" * 1000) for number in range(50))
    body = b"b" * (3 * HEADER_LIMIT)
    for _ in range(2):
        connection.sendall(
            b"POST /v2/team/app/blobs/uploads/ HTTP/1.1\r\nHost: a\r\n" + headers
            + b"Content-Type: application/octet-stream\r\n"
            + b"Content-Length: %d\r\n\r\n" % len(body) + body
        )  # fmt: skip
        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")


def test_serve_options_passes_options_and_settings_on(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(run, "serve", lambda app, **settings: served.append((app, settings)))
    parser = argparse.ArgumentParser()
    add_listening_options(parser, 5000)
    arguments = ["--host", "::1", "--tls-certificate", "chain.pem", "--tls-key", "key.pem"]
    arguments += ["--head-timeout", "5", "--stall-timeout", "6", "--max-connections", "7"]
    arguments += ["--backlog", "8"]
    serve_options("app", parser.parse_args(arguments), package="dockhand-x", lifespan="off")
    assert served == [
        (
            "app",
            {
                "host": "::1",
                "port": 5000,
                "package": "dockhand-x",
                "certificate": "chain.pem",
                "key": "key.pem",
                "limits": HttpLimits(5, 6, max_connections=7, backlog=8),
                "lifespan": "off",
            },
        )
    ]


@pytest.fixture
def unconfigured_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Record calls of `logging.basicConfig` without effect; restore the logger's level later."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **settings: calls.append(settings))
    logger = logging.getLogger("dockhand")
    level = logger.level
    yield calls
    logger.setLevel(level)


@pytest.mark.parametrize(("verbose", "level"), [(False, logging.NOTSET), (True, logging.INFO)])
def test_program_configures_logging(
    unconfigured_logging: list[dict[str, Any]], verbose: bool, level: int
) -> None:
    with program(verbose=verbose):
        assert [call["level"] for call in unconfigured_logging] == [logging.WARNING]
        assert logging.getLogger("dockhand").level == level


@pytest.mark.usefixtures("unconfigured_logging")
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("port: is required"), 2),
        (PluginError("vault: is broken"), 2),
        (DockhandError("the disk is full"), 1),
        (KeyError("a key"), 1),
    ],
)
def test_program_exits_with_the_message_of_an_error(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_, program(KeyError):
        raise error
    assert exit_.value.code == status
    assert capsys.readouterr().err == f"{error}\n"


@pytest.mark.usefixtures("unconfigured_logging")
def test_an_interrupted_program_has_status_130() -> None:
    with pytest.raises(SystemExit) as exit_, program():
        raise KeyboardInterrupt
    assert exit_.value.code == 130


@pytest.mark.usefixtures("unconfigured_logging")
def test_program_does_not_hide_other_errors() -> None:
    with pytest.raises(KeyError), program():
        raise KeyError("a bug")
