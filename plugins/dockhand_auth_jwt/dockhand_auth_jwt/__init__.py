"""Dockhand as the token authority: keys, tokens, and the auth driver `jwt`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_auth_jwt.driver import JwtAuth
    from dockhand_auth_jwt.errors import KeyInvalid, TokenInvalid
    from dockhand_auth_jwt.keys import SigningKey
    from dockhand_auth_jwt.tokens import Token, TokenService
    from dockhand_auth_jwt.verify import Claims, TrustedKey, Verifier

__all__ = [
    "Claims",
    "JwtAuth",
    "KeyInvalid",
    "SigningKey",
    "Token",
    "TokenInvalid",
    "TokenService",
    "TrustedKey",
    "Verifier",
]

_HOMES = {
    "Claims": "verify",
    "JwtAuth": "driver",
    "KeyInvalid": "errors",
    "SigningKey": "keys",
    "Token": "tokens",
    "TokenInvalid": "errors",
    "TokenService": "tokens",
    "TrustedKey": "verify",
    "Verifier": "verify",
}

__getattr__ = lazy_exports(__name__, _HOMES)
