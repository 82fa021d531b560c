"""The program that serves the token endpoint, and its options."""

from __future__ import annotations

import argparse

from dockhand_core.server import Program, add_listening_options, add_strict_option

__all__ = ["SERVE"]

_CONFIG = "authority.toml"


def _options(parser: argparse.ArgumentParser, _inherit: bool) -> None:
    parser.add_argument(
        "--config", default=_CONFIG, metavar="FILE", help=f"the settings file ({_CONFIG})"
    )
    listening = add_listening_options(parser, 5001)
    add_strict_option(listening)
    listening.add_argument(
        "-v", "--verbose", action="store_true", help="log every issued token on standard error"
    )
    instead = parser.add_argument_group(
        "instead of serving", "A running server with the same settings need not be stopped."
    )
    exclusive = instead.add_mutually_exclusive_group()
    exclusive.add_argument("--check", action="store_true", help="check the settings, and exit")
    exclusive.add_argument(
        "--list-refresh-tokens", action="store_true", help="list the valid refresh tokens"
    )
    exclusive.add_argument(
        "--revoke-refresh-token", metavar="ID", help="revoke the refresh token listed with this id"
    )
    exclusive.add_argument(
        "--revoke-user", metavar="NAME", help="revoke all refresh tokens of a user"
    )


SERVE = Program(
    help="serve the token endpoint of a registry",
    description="Serve the endpoint where docker, skopeo, crane and containerd get their tokens "
    "for a registry: GET and POST /token, and the keys at /.well-known/jwks.json.",
    epilog="The registry's realm is the URL of this endpoint with the path /token.",
    example="--config authority.toml --port 5001",
    add_options=_options,
    run="dockhand_token_server.cli:run",
)
