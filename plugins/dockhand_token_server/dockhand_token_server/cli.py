"""Functions that run the program: serve the token endpoint, or list and revoke tokens."""

from __future__ import annotations

import argparse
import dataclasses
import sqlite3

from dockhand_core.server import (
    fail,
    limits_of,
    load_manager,
    refuse_plain_http,
    serve_options,
)
from dockhand_core.text import printable
from dockhand_token_server.refresh_tokens import RefreshTokens
from dockhand_token_server.settings import Settings, load_settings

__all__ = ["run"]

_MAX_HEAD = 32 << 10  # bytes; limit on a request's line and headers together


def run(options: argparse.Namespace) -> None:
    """Do what an option names; without such an option, serve until SIGINT or SIGTERM."""
    try:
        _run(options, load_settings(options.config))
    except sqlite3.Error as error:
        fail(str(error))


def _run(options: argparse.Namespace, settings: Settings) -> None:
    if options.list_refresh_tokens:
        _print_refresh_tokens(_refresh_tokens(settings))
    elif options.revoke_refresh_token is not None:
        revoked = _refresh_tokens(settings).revoke(id=options.revoke_refresh_token)
        if not revoked:
            fail(
                f"there is no refresh token {options.revoke_refresh_token!r}; "
                "--list-refresh-tokens lists them",
                status=3,
            )
        print(f"{revoked} revoked")
    elif options.revoke_user is not None:
        print(f"{_refresh_tokens(settings).revoke(user=options.revoke_user)} revoked")
    else:
        _check_or_serve(options, settings)


def _refresh_tokens(settings: Settings) -> RefreshTokens:
    if not settings.refresh_tokens:
        fail("refresh tokens are disabled: the settings say refresh_tokens = false", status=2)
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
    app = create_app(settings, plugins=load_manager(options).plugins)
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
