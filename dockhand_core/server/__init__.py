"""Parts that the servers of this project share: options, listening, serving, passwords.

`htpasswd` is imported by itself, since it needs bcrypt.
"""

from dockhand_core.server.basic_auth import basic_credentials
from dockhand_core.server.options import (
    add_listening_options,
    add_plain_http_option,
    is_loopback,
    positive_int,
    refuse_plain_http,
)
from dockhand_core.server.run import listen, serve

__all__ = [
    "add_listening_options",
    "add_plain_http_option",
    "basic_credentials",
    "is_loopback",
    "listen",
    "positive_int",
    "refuse_plain_http",
    "serve",
]
