"""`python -m dockhand_token_server`: serve the token endpoint, and see to its refresh tokens."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Sequence

from dockhand_core.server import (
    add_listening_options,
    add_plain_http_option,
    program,
    refuse_plain_http,
    serve_options,
)
from dockhand_token_server.refresh import RefreshTokens
from dockhand_token_server.settings import Settings, load_settings

_CONFIG = "authority.toml"
_HEADERS = 32 << 10  # bytes of a request's line and headers


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dockhand_token_server",
        description="Serve the endpoint where docker, skopeo, crane and containerd get their "
        "tokens for a registry: GET and POST /token, and the keys at /.well-known/jwks.json.",
        epilog="The registry's realm is this endpoint's URL with /token.",
    )
    parser.add_argument(
        "--config", default=_CONFIG, metavar="FILE", help=f"the authority's settings ({_CONFIG})"
    )
    listening = add_listening_options(parser, 5001)
    add_plain_http_option(listening)
    listening.add_argument(
        "--verbose", action="store_true", help="a line on standard error for every token"
    )
    instead = parser.add_argument_group(
        "instead of serving", "Servers may go on with the same file meanwhile."
    )
    chosen = instead.add_mutually_exclusive_group()
    chosen.add_argument(
        "--check", action="store_true", help="say whether the settings are right, and end"
    )
    chosen.add_argument(
        "--list-refresh-tokens", action="store_true", help="the refresh tokens that hold"
    )
    chosen.add_argument(
        "--revoke-refresh-token", metavar="ID", help="make the one void that is listed so"
    )
    chosen.add_argument(
        "--revoke-user", metavar="NAME", help="make all refresh tokens of a user void"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, or do what is asked instead."""
    options = _arguments().parse_args(arguments)
    with program(sqlite3.Error, verbose=options.verbose):
        settings = load_settings(options.config)
        if options.list_refresh_tokens:
            _list(_store(settings))
        elif options.revoke_refresh_token is not None:
            revoked = _store(settings).revoke(id=options.revoke_refresh_token)
            if not revoked:
                sys.exit(f"no refresh token {options.revoke_refresh_token!r} is held")
            print(f"{revoked} revoked")
        elif options.revoke_user is not None:
            print(f"{_store(settings).revoke(user=options.revoke_user)} revoked")
        else:
            _run(options, settings)


def _store(settings: Settings) -> RefreshTokens:
    if not settings.refresh_tokens:
        sys.exit("refresh_tokens is false: there are none")
    return RefreshTokens(settings.refresh_tokens, settings.refresh_token_lifetime)


def _list(tokens: RefreshTokens) -> None:
    print("id                user                  service               issued      expires")
    for held in tokens.held():
        print(
            f"{held.id}  {held.identity.name:20}  {held.service:20}  "
            f"{held.issued:%Y-%m-%d}  {held.expires:%Y-%m-%d}  {held.client}".rstrip()
        )


def _run(options: argparse.Namespace, settings: Settings) -> None:
    from dockhand_token_server.app import create_app

    app = create_app(settings)
    if options.check:
        print(f"{options.config}: fine")
        return
    refuse_plain_http(options, "passwords")
    serve_options(
        app,
        options,
        package="dockhand-token-server",
        lifespan="off",
        proxy_headers=False,  # the settings say whose are believed
        http="h11",  # whose limit can be set
        h11_max_incomplete_event_size=_HEADERS,
    )


if __name__ == "__main__":
    main()
