"""Dockhand as the token authority: keys, tokens, and the auth driver `jwt`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

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


def __getattr__(name: str) -> object:
    """Load on use: `hooks` is imported at every start, cryptography only where it is wanted."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
