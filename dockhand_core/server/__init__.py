"""Common parts of Dockhand's servers: command-line options, listening, serving and passwords.

The module `htpasswd` is imported separately, because it needs bcrypt. The names are imported when
they are first used: a program's help needs neither asyncio nor sockets.
"""

from typing import TYPE_CHECKING

from dockhand_core.lazy import lazy_exports

if TYPE_CHECKING:
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
        load_manager,
        load_plugins,
        positive_int,
        positive_seconds,
        refuse_plain_http,
    )
    from dockhand_core.server.programs import Program, ProgramFailed, fail
    from dockhand_core.server.run import listen, log_to_stderr, program, serve, serve_options
    from dockhand_core.server.throttled_log import ThrottledLog

_HOMES = {
    "FailureLimiter": "failure_limiter",
    "FileState": "file_state",
    "HttpLimits": "http_limits",
    "LoginLimiter": "login_limiter",
    "Program": "programs",
    "ProgramFailed": "programs",
    "ThrottledLog": "throttled_log",
    "add_listening_options": "options",
    "add_strict_option": "options",
    "basic_credentials": "basic_auth",
    "client_address": "client_networks",
    "fail": "programs",
    "is_loopback": "options",
    "limits_of": "options",
    "listen": "run",
    "log_to_stderr": "run",
    "load_manager": "options",
    "load_plugins": "options",
    "network_of": "client_networks",
    "positive_int": "options",
    "positive_seconds": "options",
    "program": "run",
    "refuse_plain_http": "options",
    "serve": "run",
    "serve_options": "run",
}

__all__ = [
    "FailureLimiter",
    "FileState",
    "HttpLimits",
    "LoginLimiter",
    "Program",
    "ProgramFailed",
    "ThrottledLog",
    "add_listening_options",
    "add_strict_option",
    "basic_credentials",
    "client_address",
    "fail",
    "is_loopback",
    "limits_of",
    "listen",
    "load_manager",
    "load_plugins",
    "log_to_stderr",
    "network_of",
    "positive_int",
    "positive_seconds",
    "program",
    "refuse_plain_http",
    "serve",
    "serve_options",
]

__getattr__ = lazy_exports(__name__, _HOMES)
