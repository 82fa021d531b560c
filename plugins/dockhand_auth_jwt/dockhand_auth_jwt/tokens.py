"""Tokens: the builder, and the service that signs and validates them.

Follows: Distribution's "Token Authentication Implementation" and "Token Scope Documentation";
RFC 7519 (JWT).
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import jwt

from dockhand_auth_jwt.errors import TokenInvalid
from dockhand_auth_jwt.signing_key import SigningKey
from dockhand_auth_jwt.verification import Claims, TrustedKey, Verifier
from dockhand_core import Scope

__all__ = ["Token", "TokenService"]

_NOT_BEFORE_MARGIN = 30  # seconds between `nbf` and now, since clocks differ
_BUILDER_CLAIMS = frozenset({"iss", "aud", "sub", "exp", "nbf", "iat", "jti", "access"})


@dataclass(frozen=True, slots=True)
class Token:
    """A builder of tokens. Each method returns a new builder, so that builders can be shared::

        Token.issued_by("my_auth").permitted_for("my_registry").related_to("alice")
            .expires_in(minutes=5).with_scope(Scope.read("library/nginx")).sign(key)

    Attributes:
        issuer: the name of the authority; the registry's setting `issuer`.
        audience: the name of the registry; its setting `service`.
        subject: the user; shown in the registry's log and notifications.
        lifetime: seconds between signing and expiry.
        scopes: the access that the token grants.
        claims: further claims.
        clock: returns the time, in seconds since 1970.
    """

    issuer: str
    audience: str = ""
    subject: str = ""
    lifetime: int = 300
    scopes: tuple[Scope, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict)
    clock: Callable[[], float] = time.time

    @classmethod
    def issued_by(cls, issuer: str) -> Token:
        """Start a builder with the name of the authority."""
        return cls(issuer)

    def permitted_for(self, audience: str) -> Token:
        """Set the audience, the name of one registry: Distribution 2 refuses a list."""
        return replace(self, audience=audience)

    def related_to(self, subject: str) -> Token:
        """Set the subject, the name of the user."""
        return replace(self, subject=subject)

    def expires_in(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> Token:
        """Set the lifetime, rounded up to whole seconds; the default is five minutes.

        A negative lifetime makes a token that has expired already, for tests.
        """
        lifetime = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return replace(self, lifetime=math.ceil(lifetime.total_seconds()))

    def with_scope(self, *scopes: Scope | str) -> Token:
        """Add scopes. Those of the same resource are merged when the token is signed.

        Raises:
            ScopeInvalid: a string is not a scope.
        """
        new = [s if isinstance(s, Scope) else Scope.parse(s) for s in scopes]
        return replace(self, scopes=(*self.scopes, *new))

    def with_claim(self, name: str, value: Any) -> Token:
        """Add a claim of your own.

        Raises:
            TokenInvalid: the builder itself sets that claim.
        """
        if name in _BUILDER_CLAIMS:
            raise TokenInvalid(
                "claims", f"the claim {name!r} is set by the builder itself, not by with_claim"
            )
        return replace(self, claims={**self.claims, name: value})

    def sign(self, key: SigningKey) -> str:
        """Sign the token with a key, and return it as a JWT.

        Raises:
            TokenInvalid: the issuer or the audience is missing, or a claim is not JSON.
        """
        if not self.issuer or not self.audience:
            raise TokenInvalid(
                "claims", "a token needs an issuer (issued_by) and an audience (permitted_for)"
            )
        now = int(self.clock())  # registries accept integer times only
        claims = {
            **self.claims,
            "iss": self.issuer,
            "aud": self.audience,
            "exp": now + self.lifetime,
            "nbf": now - _NOT_BEFORE_MARGIN,
            "iat": now,
            "jti": secrets.token_urlsafe(16),
            "access": _access_claim(self.scopes),
        }
        if self.subject:
            claims["sub"] = self.subject
        try:
            return jwt.encode(claims, key.private, key.algorithm, headers=key.header)
        except (TypeError, ValueError) as error:
            raise TokenInvalid("claims", f"a claim cannot be written as JSON: {error}") from None


def _access_claim(scopes: Iterable[Scope]) -> list[dict[str, Any]]:
    """The value of the claim `access`: one entry for each resource with at least one action."""
    return [
        {
            "type": scope.type,
            "name": scope.name,
            "actions": str(scope).rpartition(":")[2].split(","),
        }
        for scope in Scope.merged(scopes)
    ]


class TokenService:
    """A token authority: signs and validates tokens with one key, one issuer and one audience.

    Safe to share between threads.

    Attributes:
        key: the key that signs.
        issuer, audience: the name of the authority, and that of the registry.
    """

    def __init__(
        self,
        key: SigningKey,
        *,
        issuer: str,
        audience: str,
        retired: Sequence[SigningKey | TrustedKey] = (),
        lifetime: timedelta = timedelta(minutes=5),
        leeway: float = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create an authority.

        Args:
            key: the key that signs, and whose tokens are valid.
            issuer: the name of the authority.
            audience: the name of the registry; its setting `service`.
            retired: keys that no longer sign. Tokens that they signed stay valid until they
                expire.
            lifetime: the lifetime of tokens whose builder sets none.
            leeway: seconds that clocks may differ when a token is validated.
            clock: returns the time, in seconds since 1970.
        """
        self.key, self.issuer, self.audience = key, issuer, audience
        self._lifetime, self._clock = lifetime, clock
        trusted = [k if isinstance(k, TrustedKey) else TrustedKey.of(k.public) for k in retired]
        self._verifier = Verifier(
            [TrustedKey.of(key.public), *trusted],
            issuer=issuer,
            audience=audience,
            leeway=leeway,
            clock=clock,
        )

    def builder(self) -> Token:
        """A builder with this authority's issuer, audience and lifetime."""
        lifetime = math.ceil(self._lifetime.total_seconds())
        return Token(self.issuer, self.audience, lifetime=lifetime, clock=self._clock)

    def sign(self, token: Token) -> str:
        """Sign a token with this authority's key, and return it as a JWT.

        Raises:
            TokenInvalid: see `Token.sign`.
        """
        return token.sign(self.key)

    def validate(self, token: str, check: Callable[[Claims], object] | None = None) -> Claims:
        """Validate a token of this authority for this registry, and return its claims.

        Args:
            token: the JWT.
            check: called with the claims of a token that is valid otherwise. The token is refused
                if it returns a false value or raises.

        Raises:
            TokenInvalid: the token must not be accepted; `reason` tells why.
        """
        return self._verifier.verify(token, check)
