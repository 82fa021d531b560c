"""Verification of bearer tokens from a token authority, as Distribution does (`auth: token`).

Follows: Distribution's "Token Authentication Specification"; RFC 6750, sections 2.1 and 3.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from dockhand_auth_jwt import Claims, KeyInvalid, TokenInvalid, TrustedKey, Verifier

from dockhand_core import ConfigError, Scope
from dockhand_embedded.access.policy import AccessRejection, AuthenticatedUser, AuthResult
from dockhand_embedded.protocol.messages import Headers

_LEEWAY = 60.0  # seconds; tolerated difference between clocks, as in Distribution
_CACHE_SIZE = 1024
_QUOTABLE = re.compile(r"[ !#-\[\]-~]+")


class Bearer:
    """An `Authenticate` that verifies bearer tokens and allows what their claims allow.

    The claims of a valid token are cached under the token's hash until the token expires, so that
    its signature is verified only once.
    """

    wants_mount_source: ClassVar = True

    def __init__(
        self,
        *,
        realm: str,
        service: str,
        issuer: str,
        certificate: Path | bytes | None = None,
        jwks: Path | bytes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Load the trusted keys.

        Args:
            realm: the URL where clients get tokens.
            service: this registry's name, which the `aud` of a token must contain.
            issuer: the authority's name, which the `iss` of a token must be.
            certificate: a PEM file, or its bytes: certificates with trusted keys, or a public key.
            jwks: a file, or its bytes: a JWK set of trusted keys. It may be combined with
                `certificate`.
            clock: returns the current time, in seconds since 1970.

        Raises:
            ConfigError: a name is invalid, no trusted key is given, or keys cannot be read.
        """
        for name, value in (("realm", realm), ("service", service), ("issuer", issuer)):
            if not _QUOTABLE.fullmatch(value):
                raise ConfigError(f'token_{name}: must be printable ASCII without " and \\')
        keys = [*_read_keys(certificate, "token_certificate"), *_read_keys(jwks, "token_jwks")]
        if not keys:
            raise ConfigError("token_certificate or token_jwks is needed, to name the trusted keys")
        self._verifier = Verifier(
            keys, issuer=issuer, audience=service, leeway=_LEEWAY, clock=clock
        )
        self._challenge_start = f'Bearer realm="{realm}",service="{service}"'
        self._clock = clock
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, headers: Headers, scopes: Sequence[Scope]) -> AuthResult:
        """Verify the token in the header `Authorization`; return its user, or a rejection."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return self._reject(scopes)
        try:
            claims = self._claims(token)
        except TokenInvalid as error:
            return self._reject(scopes, "invalid_token", str(error))
        if not all(claims.allows(scope) for scope in scopes):
            return self._reject(scopes, "insufficient_scope", "the token does not allow this")
        return AuthenticatedUser(claims.subject, claims.allows)

    def _claims(self, token: str) -> Claims:
        key = hashlib.sha256(token.encode(errors="replace")).digest()
        with self._lock:
            known = self._verified.get(key)
            if known is not None and self._clock() < known["exp"]:
                self._verified.move_to_end(key)
                return known
        claims = self._verifier.verify(token)
        with self._lock:
            self._verified[key] = claims
            while len(self._verified) > _CACHE_SIZE:
                self._verified.popitem(last=False)
        return claims

    def _reject(
        self, scopes: Sequence[Scope], error: str | None = None, reason: str | None = None
    ) -> AccessRejection:
        header = self._challenge_start
        if scopes:
            header += f',scope="{" ".join(map(str, scopes))}"'
        if error:
            header += f',error="{error}"'
        detail = [
            {"Type": scope.type, "Class": "", "Name": scope.name, "Action": action}
            for scope in scopes
            for action in sorted(scope.actions)
        ]
        message = "authentication required" + (f": {reason}" if reason else "")
        return AccessRejection(header, message, detail or None)


def _read_keys(source: Path | bytes | None, name: str) -> list[TrustedKey]:
    if source is None:
        return []
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
        where = name if isinstance(source, bytes) else f"{name}: {source}"
        if name == "token_certificate":
            return TrustedKey.from_pem(data, where)
        return TrustedKey.from_jwks(json.loads(data), where)
    except KeyInvalid as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"{name}: {source!s}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{where} is not JSON") from None
