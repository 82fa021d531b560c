"""Command-line options of the servers."""

from __future__ import annotations

import argparse
import ipaddress
import sys

__all__ = [
    "add_listening_options",
    "add_plain_http_option",
    "is_loopback",
    "positive_int",
    "refuse_plain_http",
]


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reachable only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def positive_int(text: str) -> int:
    """Parse the value of an option that is an integer of at least 1.

    Raises:
        ValueError: the text is not an integer.
        argparse.ArgumentTypeError: the number is less than 1.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def add_listening_options(parser: argparse.ArgumentParser, port: int) -> argparse._ArgumentGroup:
    """Add options for the host, the port and TLS, which `serve_options` reads.

    Args:
        parser: parser of the server's command line.
        port: default port.

    Returns:
        The argument group of these options; a server can add options of its own to the group.
    """
    group = parser.add_argument_group("listening")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    group.add_argument(
        "--port", type=int, default=port, help=f"port to listen on; 0 takes a free one ({port})"
    )
    group.add_argument(
        "--tls-certificate", metavar="FILE", help="serve HTTPS with this certificate chain, PEM"
    )
    group.add_argument("--tls-key", metavar="FILE", help="private key of the certificate, PEM")
    return group


def add_plain_http_option(group: argparse._ArgumentGroup) -> None:
    """Add the option `--plain-http`, for servers that receive secrets; see `refuse_plain_http`."""
    group.add_argument(
        "--plain-http",
        action="store_true",
        help="allow a --host that is not loopback without TLS, behind a proxy that terminates TLS",
    )


def refuse_plain_http(options: argparse.Namespace, secrets: str) -> None:
    """Exit with a message if clients would send secrets over the network unencrypted.

    Args:
        options: parsed command line, with the options that `add_listening_options` and
            `add_plain_http_option` add.
        secrets: kind of the secrets, for the message, such as `passwords`.
    """
    if not (is_loopback(options.host) or options.tls_certificate or options.plain_http):
        sys.exit(
            f"--host {options.host} is open to other machines, and their {secrets} would be sent "
            "unencrypted: give --tls-certificate and --tls-key, or --plain-http if a proxy "
            "terminates TLS"
        )
