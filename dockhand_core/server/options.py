"""Options of the command line that servers share."""

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
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def positive_int(text: str) -> int:
    """A number of at least 1 from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def add_listening_options(parser: argparse.ArgumentParser, port: int) -> argparse._ArgumentGroup:
    """Add the options that say where a server listens; `serve` takes them.

    Args:
        parser: the server's.
        port: the usual one.
    """
    group = parser.add_argument_group("listening")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    group.add_argument(
        "--port", type=int, default=port, help=f"port to listen on, 0 for any that is free ({port})"
    )
    group.add_argument(
        "--tls-certificate", metavar="FILE", help="speak HTTPS: the chain of certificates, PEM"
    )
    group.add_argument("--tls-key", metavar="FILE", help="the certificate's private key, PEM")
    return group


def add_plain_http_option(group: argparse._ArgumentGroup) -> None:
    """Add the option for servers that are shown secrets; `refuse_plain_http` heeds it."""
    group.add_argument(
        "--plain-http",
        action="store_true",
        help="allow a --host that is not loopback without TLS, behind a proxy that speaks it",
    )


def refuse_plain_http(options: argparse.Namespace, secrets: str) -> None:
    """End the program where secrets would travel unencrypted, unless it was told that they do not.

    Args:
        options: what `add_listening_options` and `add_plain_http_option` added.
        secrets: what these are, such as `passwords`.
    """
    if not (is_loopback(options.host) or options.tls_certificate or options.plain_http):
        sys.exit(
            f"--host {options.host} lets others in, and their {secrets} would travel unencrypted: "
            "give --tls-certificate and --tls-key, or say --plain-http where a proxy speaks TLS"
        )
