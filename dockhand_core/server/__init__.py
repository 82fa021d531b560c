"""Common parts of Dockhand's servers: command-line options, listening, serving and passwords.

The module `htpasswd` is imported separately, because it needs bcrypt.
"""

from dockhand_core.server.basic_auth import basic_credentials
from dockhand_core.server.client_address import client_address, network_of
from dockhand_core.server.failure_limiter import FailureLimiter
from dockhand_core.server.options import (
    add_listening_options,
    add_plain_http_option,
    is_loopback,
    positive_int,
    refuse_plain_http,
)
from dockhand_core.server.run import listen, program, serve, serve_options

__all__ = [
    "FailureLimiter",
    "add_listening_options",
    "add_plain_http_option",
    "basic_credentials",
    "client_address",
    "is_loopback",
    "listen",
    "network_of",
    "positive_int",
    "program",
    "refuse_plain_http",
    "serve",
    "serve_options",
]
