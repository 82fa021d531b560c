"""A builder of tokens, and a token authority that signs and validates tokens.

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

_NOT_BEFORE_MARGIN = 30  # seconds; `nbf` is set this far back, for registries with a slow clock
_BUILDER_CLAIMS = frozenset({"iss", "aud", "sub", "exp", "nbf", "iat", "jti", "access"})


@dataclass(frozen=True, slots=True)
class Token:
    """A builder of tokens.

    Each method except `sign` returns a new builder, so a builder can be shared and reused::

        builder = Token.issued_by("my_auth").permitted_for("my_registry").expires_in(minutes=5)
        jwt = builder.related_to("alice").with_scope(Scope.read("library/nginx")).sign(key)

    Attributes:
        issuer: the name of the authority; must equal the registry's setting `issuer`.
        audience: the name of the registry; must equal the registry's setting `service`.
        subject: the name of the user, for the registry's log and notifications; may be empty.
        lifetime: seconds between signing and expiry.
        scopes: the scopes that the token grants.
        claims: additional claims, which the builder does not set itself.
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
        """Create a builder, and set the issuer (`iss`), the name of the authority."""
        return cls(issuer)

    def permitted_for(self, audience: str) -> Token:
        """Set the audience (`aud`), the name of one registry. Distribution 2 refuses a list."""
        return replace(self, audience=audience)

    def related_to(self, subject: str) -> Token:
        """Set the subject (`sub`), the name of the user."""
        return replace(self, subject=subject)

    def expires_in(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> Token:
        """Set the lifetime, rounded up to whole seconds.

        Without this call, tokens expire after the lifetime that the `TokenService` sets for the
        builders it creates, or else after five minutes. A negative lifetime makes a token that has
        already expired, for tests.
        """
        lifetime = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return replace(self, lifetime=math.ceil(lifetime.total_seconds()))

    def with_scope(self, *scopes: Scope | str) -> Token:
        """Add scopes to grant. Scopes of the same resource are merged when the token is signed.

        Raises:
            ScopeInvalid: a string is not a scope.
        """
        new = [s if isinstance(s, Scope) else Scope.parse(s) for s in scopes]
        return replace(self, scopes=(*self.scopes, *new))

    def with_claim(self, name: str, value: Any) -> Token:
        """Add a claim that the builder does not set itself.

        Raises:
            TokenInvalid: the builder itself sets the claim with this name.
        """
        if name in _BUILDER_CLAIMS:
            raise TokenInvalid(
                "claims", f"the claim {name!r} is set by the builder itself, not by with_claim"
            )
        return replace(self, claims={**self.claims, name: value})

    def sign(self, key: SigningKey) -> str:
        """Sign the token with a key, and return it as a JWT.

        Raises:
            TokenInvalid: the issuer or the audience is missing, or a claim cannot be written as
                JSON.
        """
        if not self.issuer or not self.audience:
            raise TokenInvalid(
                "claims", "a token needs an issuer (issued_by) and an audience (permitted_for)"
            )
        now = int(self.clock())  # registries accept only whole seconds
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
    """The claim `access`, with one entry for each resource that has at least one action."""
    return [
        {
            "type": scope.type,
            "name": scope.name,
            "actions": str(scope).rpartition(":")[2].split(","),
        }
        for scope in Scope.merged(scopes)
    ]


class TokenService:
    """A token authority, which signs and validates the tokens for one registry.

    An object of this class can be shared between threads.

    Attributes:
        key: the key that signs tokens.
        issuer: the name of the authority.
        audience: the name of the registry.
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
        """Create a token authority.

        Args:
            key: the key that signs tokens.
            issuer: the name of the authority; must equal the registry's setting `issuer`.
            audience: the name of the registry; must equal the registry's setting `service`.
            retired: former keys, which sign no new tokens. Tokens that were signed with a retired
                key stay valid until the tokens expire.
            lifetime: the lifetime that `builder` gives to tokens.
            leeway: seconds by which clocks may differ. `validate` accepts a token this long before
                its `nbf` and after its `exp`.
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
        """Create a builder with this authority's issuer, audience and lifetime."""
        lifetime = math.ceil(self._lifetime.total_seconds())
        return Token(self.issuer, self.audience, lifetime=lifetime, clock=self._clock)

    def sign(self, token: Token) -> str:
        """Sign a token with this authority's key, and return it as a JWT.

        Raises:
            TokenInvalid: see `Token.sign`.
        """
        return token.sign(self.key)

    def validate(self, token: str, check: Callable[[Claims], object] | None = None) -> Claims:
        """Validate a token that this authority issued for its registry; return the token's claims.

        Args:
            token: the JWT.
            check: a function for additional checks, called with the claims after all other checks
                passed. The token is refused if `check` returns a false value or raises.

        Raises:
            TokenInvalid: the token is refused; see `TokenInvalid.reason` for the cause.
        """
        return self._verifier.verify(token, check)
