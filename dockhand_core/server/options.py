"""Command-line options of the servers."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

from dockhand_core.server.http_limits import HttpLimits
from dockhand_core.server.programs import fail

if TYPE_CHECKING:
    from dockhand_core.manager import Dockhand
    from dockhand_core.plugins import Plugins

__all__ = [
    "add_listening_options",
    "add_strict_option",
    "is_loopback",
    "limits_of",
    "load_manager",
    "load_plugins",
    "positive_int",
    "positive_seconds",
    "refuse_plain_http",
]

_log = logging.getLogger("dockhand.server")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reachable only from this machine."""
    import ipaddress

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


def positive_seconds(text: str) -> float:
    """Parse the value of an option that is a number of seconds above 0.

    Raises:
        ValueError: the text is not a number.
        argparse.ArgumentTypeError: the number is 0, negative or infinite.
    """
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0 seconds")
    return number


def add_listening_options(parser: argparse.ArgumentParser, port: int) -> argparse._ArgumentGroup:
    """Add options for the host, the port, TLS and the limits of connections.

    `refuse_plain_http`, `limits_of` and `serve_options` read these options.

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
    group.add_argument(
        "--plain-http",
        action="store_true",
        help="allow a --host that is not loopback without TLS, behind a proxy that terminates TLS",
    )
    limits = parser.add_argument_group("limits of connections")
    usual = HttpLimits()
    limits.add_argument(
        "--head-timeout",
        type=positive_seconds,
        default=usual.head_timeout,
        metavar="SECONDS",
        help="close a connection if the TLS handshake, or the line and headers of a request, take "
        f"longer ({usual.head_timeout:g})",
    )
    limits.add_argument(
        "--stall-timeout",
        type=positive_seconds,
        default=usual.stall_timeout,
        metavar="SECONDS",
        help="close a connection if no byte of a request's body arrives, or no byte of a reply is "
        f"read, for this long ({usual.stall_timeout:g})",
    )
    limits.add_argument(
        "--max-connections",
        type=positive_int,
        default=usual.max_connections,
        metavar="N",
        help="connections that may be open at once; a further one replaces one that waits for a "
        f"request or stalls, or is refused with 503 ({usual.max_connections})",
    )
    limits.add_argument(
        "--backlog",
        type=positive_int,
        default=usual.backlog,
        metavar="N",
        help="connections that the operating system queues before the server accepts them "
        f"({usual.backlog})",
    )
    return group


def limits_of(options: argparse.Namespace) -> HttpLimits:
    """The limits in a parsed command line with the options of `add_listening_options`."""
    return HttpLimits(
        head_timeout=options.head_timeout,
        stall_timeout=options.stall_timeout,
        max_connections=options.max_connections,
        backlog=options.backlog,
    )


def refuse_plain_http(options: argparse.Namespace, secrets: str) -> None:
    """Exit with a message and status 2 if clients would send secrets over the network unencrypted.

    Args:
        options: parsed command line, with the options that `add_listening_options` adds.
        secrets: kind of the secrets, for the message, such as `passwords`.
    """
    if not (is_loopback(options.host) or options.tls_certificate or options.plain_http):
        fail(
            f"--host {options.host} is open to other machines, and their {secrets} would be sent "
            "unencrypted: give --tls-certificate and --tls-key, or --plain-http if a proxy "
            "terminates TLS",
            status=2,
        )


def add_strict_option(parser: argparse._ActionsContainer, *, default: Any = False) -> None:
    """Add the option `--strict`, which `load_plugins` and `load_manager` read.

    Args:
        parser: parser, or group of its options.
        default: value without the option; `argparse.SUPPRESS` for a command of a program that has
            the option, too.
    """
    parser.add_argument(
        "--strict",
        action="store_true",
        default=default,
        help="do not start if an installed plugin cannot be loaded; without it, such a plugin is "
        "left out with a warning; DOCKHAND_STRICT_PLUGINS=1 does the same",
    )


def load_plugins(options: argparse.Namespace) -> Plugins:
    """Load the installed plugins, with a warning for each one that cannot be loaded.

    The plugins are not configured; `load_manager` does so for programs that call their hooks.

    Args:
        options: parsed command line, with the option that `add_strict_option` adds.

    Raises:
        PluginError: a plugin cannot be loaded, and the command line has `--strict`, or the
            environment variable `DOCKHAND_STRICT_PLUGINS` is set. All drivers are imported then.
    """
    from dockhand_core.plugins import Plugins

    plugins = Plugins()
    _refuse_broken(plugins, options)
    return plugins


def load_manager(options: argparse.Namespace | None = None) -> Dockhand:
    """Make the manager of a program that calls the hooks of plugins, such as event handlers.

    It is made as by `Dockhand()`, from `dockhand.toml` and the environment, so that plugins get
    their settings. The program may be one that uses no connection itself. Therefore a connection
    whose settings are wrong is left out with a warning. The settings of plugins must be right.

    Args:
        options: parsed command line, with the option that `add_strict_option` adds; or None.

    Raises:
        ConfigError: the file cannot be read, or the settings of a plugin are wrong, or are of a
            plugin that is neither installed nor disabled.
        PluginError: the hook `dockhand_configure` of a plugin with settings failed; or a plugin is
            broken, as for `load_plugins`.
    """
    from dockhand_core.config import load_tables
    from dockhand_core.manager import Dockhand

    config, errors, _ = load_tables()
    for name, error in errors.items():
        _log.warning("plugins cannot use the connection %r: %s", name, error)
    dockhand = Dockhand(config)
    dockhand.plugins.check()
    if options is not None:
        _refuse_broken(dockhand.plugins, options)
    return dockhand


def _refuse_broken(plugins: Plugins, options: argparse.Namespace) -> None:
    plugins.check_strict()
    if options.strict:
        plugins.require_all("--strict")
