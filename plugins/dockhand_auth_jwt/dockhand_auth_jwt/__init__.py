"""The auth driver `jwt`, and the keys and tokens of a program that is a token authority."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_auth_jwt.driver import JwtAuth
    from dockhand_auth_jwt.errors import KeyInvalid, TokenInvalid
    from dockhand_auth_jwt.signing_key import SigningKey
    from dockhand_auth_jwt.tokens import Token, TokenService
    from dockhand_auth_jwt.verification import Claims, TrustedKey, Verifier

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
    "Claims": "verification",
    "JwtAuth": "driver",
    "KeyInvalid": "errors",
    "SigningKey": "signing_key",
    "Token": "tokens",
    "TokenInvalid": "errors",
    "TokenService": "tokens",
    "TrustedKey": "verification",
    "Verifier": "verification",
}

__getattr__ = lazy_exports(__name__, _HOMES)
