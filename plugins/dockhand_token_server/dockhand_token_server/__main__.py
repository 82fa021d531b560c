"""The command `python -m dockhand_token_server`, which serves the token endpoint."""

from __future__ import annotations

import argparse
import dataclasses
import sqlite3
import sys
from collections.abc import Sequence

from dockhand_core.server import (
    add_listening_options,
    add_strict_option,
    limits_of,
    load_plugins,
    program,
    refuse_plain_http,
    serve_options,
)
from dockhand_core.text import printable
from dockhand_token_server.refresh_tokens import RefreshTokens
from dockhand_token_server.settings import Settings, load_settings

_CONFIG = "authority.toml"
_MAX_HEAD = 32 << 10  # bytes; limit on a request's line and headers together


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dockhand_token_server",
        description="Serve the endpoint where docker, skopeo, crane and containerd get their "
        "tokens for a registry: GET and POST /token, and the keys at /.well-known/jwks.json.",
        epilog="The registry's realm is the URL of this endpoint with the path /token.",
    )
    parser.add_argument(
        "--config", default=_CONFIG, metavar="FILE", help=f"the settings file ({_CONFIG})"
    )
    listening = add_listening_options(parser, 5001)
    add_strict_option(listening)
    listening.add_argument(
        "--verbose", action="store_true", help="log every issued token on standard error"
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
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that an option names. Without such an option, serve until SIGINT or SIGTERM.

    Args:
        arguments: the command-line arguments. The default is the arguments of the process.
    """
    options = _argument_parser().parse_args(arguments)
    with program(sqlite3.Error, verbose=options.verbose):
        settings = load_settings(options.config)
        if options.list_refresh_tokens:
            _print_refresh_tokens(_refresh_tokens(settings))
        elif options.revoke_refresh_token is not None:
            revoked = _refresh_tokens(settings).revoke(id=options.revoke_refresh_token)
            if not revoked:
                sys.exit(
                    f"there is no refresh token {options.revoke_refresh_token!r}; "
                    "--list-refresh-tokens lists them"
                )
            print(f"{revoked} revoked")
        elif options.revoke_user is not None:
            print(f"{_refresh_tokens(settings).revoke(user=options.revoke_user)} revoked")
        else:
            _check_or_serve(options, settings)


def _refresh_tokens(settings: Settings) -> RefreshTokens:
    if not settings.refresh_tokens:
        sys.exit("refresh tokens are disabled: the settings say refresh_tokens = false")
    return RefreshTokens(settings.refresh_tokens, settings.refresh_token_lifetime)


def _print_refresh_tokens(tokens: RefreshTokens) -> None:
    print("id                user                  service               issued      expires")
    for record in tokens.list_valid():
        line = (
            f"{record.id}  {record.identity.name:20}  {record.service:20}  "
            f"{record.issued_at:%Y-%m-%d}  {record.expires_at:%Y-%m-%d}  {record.client_id}"
        )
        print(printable(line.rstrip()))


def _check_or_serve(options: argparse.Namespace, settings: Settings) -> None:
    from dockhand_token_server.app import create_app

    if not options.check:
        refuse_plain_http(options, "passwords")
    app = create_app(settings, plugins=load_plugins(options))
    if options.check:
        print(f"{options.config}: the settings are valid")
        return
    serve_options(
        app,
        options,
        package="dockhand-token-server",
        lifespan="off",
        proxy_headers=False,  # the application reads X-Forwarded-For itself
        prefer_h11=True,  # httptools is not a dependency of this package
        limits=dataclasses.replace(limits_of(options), max_head=_MAX_HEAD),
    )


if __name__ == "__main__":
    main()
