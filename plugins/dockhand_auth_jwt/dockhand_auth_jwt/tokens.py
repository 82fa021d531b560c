"""Making tokens that registries accept, and checking them.

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
from dockhand_auth_jwt.keys import SigningKey
from dockhand_auth_jwt.verify import Claims, TrustedKey, Verifier
from dockhand_core import Scope

__all__ = ["Token", "TokenService"]

_BACK = 30  # seconds that `nbf` lies before now: clocks differ
_OURS = frozenset({"iss", "aud", "sub", "exp", "nbf", "iat", "jti", "access"})


@dataclass(frozen=True, slots=True)
class Token:
    """A token in the making. Each method gives a new one, so that half-made ones can be shared::

        Token.issued_by("my_auth").permitted_for("my_registry").related_to("alice")
            .expires_in(minutes=5).with_scope(Scope.read("library/nginx")).sign(key)

    Attributes:
        issuer: the authority, as the registry's `issuer` has it.
        audience: the registry, as its `service` has it.
        subject: who it is for; shown in the registry's log and notifications.
        lifetime: seconds from when it is signed.
        scopes: what it allows.
        claims: others to add.
        clock: the time, in seconds since 1970.
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
        """Begin a token, by the name of the authority."""
        return cls(issuer)

    def permitted_for(self, audience: str) -> Token:
        """Name the registry: one, since Distribution 2 refuses a list."""
        return replace(self, audience=audience)

    def related_to(self, subject: str) -> Token:
        """Name whoever it is for."""
        return replace(self, subject=subject)

    def expires_in(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> Token:
        """Say how long it is good for; whole seconds, rounded up. Five minutes unless said.

        With less than nothing it has expired already, which tests need.
        """
        time_ = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return replace(self, lifetime=math.ceil(time_.total_seconds()))

    def with_scope(self, *scopes: Scope | str) -> Token:
        """Allow more; what concerns the same resource is joined.

        Raises:
            ScopeInvalid: a text is not a scope.
        """
        new = [s if isinstance(s, Scope) else Scope.parse(s) for s in scopes]
        return replace(self, scopes=(*self.scopes, *new))

    def with_claim(self, name: str, value: Any) -> Token:
        """Add a claim of your own.

        Raises:
            TokenInvalid: it is one of those that the other methods set.
        """
        if name in _OURS:
            raise TokenInvalid("claims", f"the claim {name!r} is set by a method of its own")
        return replace(self, claims={**self.claims, name: value})

    def sign(self, key: SigningKey) -> str:
        """The token, signed.

        Raises:
            TokenInvalid: issuer or audience is missing, or a claim is not JSON.
        """
        if not self.issuer or not self.audience:
            raise TokenInvalid("claims", "a token names its issuer and its audience (the service)")
        now = int(self.clock())  # registries refuse times that are not integers
        claims = {
            **self.claims,
            "iss": self.issuer,
            "aud": self.audience,
            "exp": now + self.lifetime,
            "nbf": now - _BACK,
            "iat": now,
            "jti": secrets.token_urlsafe(16),
            "access": access(self.scopes),
        }
        if self.subject:
            claims["sub"] = self.subject
        try:
            return jwt.encode(claims, key.private, key.algorithm, headers=key.header)
        except (TypeError, ValueError) as error:
            raise TokenInvalid("claims", f"a claim cannot be written as JSON: {error}") from None


def access(scopes: Iterable[Scope]) -> list[dict[str, Any]]:
    """The claim `access`: an entry for each resource that there is any action on."""
    return [
        {
            "type": scope.type,
            "name": scope.name,
            "actions": str(scope).rpartition(":")[2].split(","),
        }
        for scope in Scope.merged(scopes)
    ]


class TokenService:
    """An authority: a key, and the names that its tokens carry. Safe to share between threads.

    Attributes:
        key: what signs.
        issuer, audience: the authority's name, and the registry's.
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
        """Sign and check tokens.

        Args:
            key: what signs, and verifies.
            issuer: the authority's name.
            audience: the registry's name, its `service`.
            retired: keys that no longer sign, whose tokens are good until they expire.
            lifetime: how long tokens are good for unless the builder says otherwise.
            leeway: seconds that clocks may differ when a token is checked.
            clock: the time, in seconds since 1970.
        """
        self.key, self.issuer, self.audience = key, issuer, audience
        self._lifetime, self._clock = lifetime, clock
        known = [k if isinstance(k, TrustedKey) else TrustedKey.of(k.public) for k in retired]
        self._verifier = Verifier(
            [TrustedKey.of(key.public), *known],
            issuer=issuer,
            audience=audience,
            leeway=leeway,
            clock=clock,
        )

    def builder(self) -> Token:
        """A token in the making, with issuer, audience and lifetime."""
        lifetime = math.ceil(self._lifetime.total_seconds())
        return Token(self.issuer, self.audience, lifetime=lifetime, clock=self._clock)

    def sign(self, token: Token) -> str:
        """A token, signed with this authority's key.

        Raises:
            TokenInvalid: see `Token.sign`.
        """
        return token.sign(self.key)

    def validate(self, token: str, check: Callable[[Claims], object] | None = None) -> Claims:
        """The claims of a token of this authority for this registry that is good now.

        Args:
            token: the JWT.
            check: asked last; the token is refused if it says no (anything false) or raises.

        Raises:
            TokenInvalid: it must not be accepted; `reason` says why.
        """
        return self._verifier.verify(token, check)
