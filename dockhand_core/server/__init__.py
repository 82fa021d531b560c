"""Common parts of Dockhand's servers: command-line options, listening, serving and passwords.

The module `htpasswd` is imported separately, because it needs bcrypt.
"""

from dockhand_core.server.basic_auth import basic_credentials
from dockhand_core.server.client_networks import client_address, network_of
from dockhand_core.server.failure_limiter import FailureLimiter
from dockhand_core.server.file_state import FileState
from dockhand_core.server.http_limits import HttpLimits
from dockhand_core.server.login_limiter import LoginLimiter
from dockhand_core.server.options import (
    add_listening_options,
    add_strict_option,
    is_loopback,
    limits_of,
    load_plugins,
    positive_int,
    positive_seconds,
    refuse_plain_http,
)
from dockhand_core.server.run import listen, program, serve, serve_options
from dockhand_core.server.throttled_log import ThrottledLog

__all__ = [
    "FailureLimiter",
    "FileState",
    "HttpLimits",
    "LoginLimiter",
    "ThrottledLog",
    "add_listening_options",
    "add_strict_option",
    "basic_credentials",
    "client_address",
    "is_loopback",
    "limits_of",
    "listen",
    "load_plugins",
    "network_of",
    "positive_int",
    "positive_seconds",
    "program",
    "refuse_plain_http",
    "serve",
    "serve_options",
]
