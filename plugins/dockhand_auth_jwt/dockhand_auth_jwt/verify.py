"""Checking tokens with keys that were decided on beforehand.

Follows: RFC 7519 7.2, RFC 8725 (best current practices: algorithms are allowed by key, and no key
is taken from a token).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.exceptions import InvalidJTIError, InvalidSubjectError
from jwt.types import Options

from dockhand_auth_jwt.errors import KeyInvalid, TokenInvalid
from dockhand_auth_jwt.keys import PublicKey, algorithms, libtrust, public_keys, thumbprint
from dockhand_core import Scope, ScopeInvalid

__all__ = ["Claims", "TrustedKey", "Verifier"]

_LONGEST = 64 << 10  # characters of a token; no server takes a header of that size
_TIMES = ("exp", "nbf", "iat")
_REASONS: list[tuple[type[jwt.PyJWTError], str, str]] = [
    (jwt.ExpiredSignatureError, "expired", "the token has expired"),
    (jwt.ImmatureSignatureError, "not-yet-valid", "the token is not valid yet"),
    (jwt.InvalidIssuerError, "issuer", "the token is from another issuer"),
    (jwt.InvalidAudienceError, "audience", "the token is for another service"),
    (jwt.InvalidSignatureError, "signature", "the signature is not of a key that is trusted"),
]
# times are checked here, since a registry takes integers alone, and `iat` says nothing of validity
_OPTIONS: Options = {
    "require": ["exp", "iss", "aud"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


class Claims(dict[str, Any]):
    """A verified token's claims."""

    @property
    def subject(self) -> str:
        """Who the token is for; empty where it does not say."""
        return str(self.get("sub", ""))

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """What it allows. An entry that cannot be a scope allows nothing."""
        entries = self.get("access")
        found = (_scope(entry) for entry in entries) if isinstance(entries, list) else ()
        return tuple(scope for scope in found if scope)

    def allows(self, scope: Scope) -> bool:
        """Whether it allows all that a scope names."""
        held = [s for s in self.scopes if (s.type, s.name) == (scope.type, scope.name)]
        joined = Scope(scope.type, scope.name, frozenset().union(*(s.actions for s in held)))
        return joined.covers(scope)


def _scope(entry: object) -> Scope | None:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("actions"), list):
        return None
    try:
        return Scope(entry["type"], entry["name"], frozenset(entry["actions"]))
    except (KeyError, TypeError, ScopeInvalid):
        return None


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, what it may be used with, and what it may be called in `kid`."""

    public: PublicKey
    algorithms: tuple[str, ...]
    names: frozenset[str]

    @classmethod
    def of(cls, public: PublicKey, *names: str) -> TrustedKey:
        """A key known by its fingerprints, and by other names.

        Raises:
            KeyInvalid: it is of a kind that is not used for tokens.
        """
        known = frozenset({libtrust(public), thumbprint(public), *names})
        return cls(public, algorithms(public), known)

    @classmethod
    def from_pem(cls, pem: bytes, where: str = "the certificate") -> list[TrustedKey]:
        """The keys of certificates (a `rootcertbundle`), or a public key.

        Raises:
            KeyInvalid: it is neither.
        """
        return [cls.of(key) for key in public_keys(pem, where)]

    @classmethod
    def from_jwks(cls, document: object, where: str = "the JWKS") -> list[TrustedKey]:
        """The keys of a JWK set that sign; there must be one.

        Raises:
            KeyInvalid: it is not a JWK set, or holds a key that is not used for tokens.
        """
        entries = document.get("keys") if isinstance(document, Mapping) else None
        if not isinstance(entries, list) or not entries:
            raise KeyInvalid(f"{where} is not a JWK set with keys")
        found = []
        for number, entry in enumerate(entries):
            if not isinstance(entry, Mapping) or entry.get("kty") not in {"EC", "RSA", "OKP"}:
                raise KeyInvalid(f"{where}: keys[{number}] is no public key of kty EC, RSA or OKP")
            if entry.get("use", "sig") != "sig":
                continue
            try:
                key: Any = jwt.PyJWK(dict(entry)).key
            except (jwt.PyJWTError, ValueError, TypeError):
                raise KeyInvalid(f"{where}: keys[{number}] cannot be read as a JWK") from None
            public = key.public_key() if hasattr(key, "private_bytes") else key
            kid = entry.get("kid")
            found.append(cls.of(public, *([kid] if isinstance(kid, str) else [])))
        if not found:
            raise KeyInvalid(f"{where} has no key that signs")
        return found


class Verifier:
    """Accepts tokens of one issuer for one audience, signed by keys that are trusted."""

    def __init__(
        self,
        keys: Sequence[TrustedKey],
        *,
        issuer: str,
        audience: str,
        leeway: float = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Check tokens.

        Args:
            keys: whose signatures count.
            issuer, audience: what `iss` and `aud` must be.
            leeway: seconds that clocks may differ.
            clock: the time, in seconds since 1970.
        """
        self._keys, self._issuer, self._audience = tuple(keys), issuer, audience
        self._leeway, self._clock = leeway, clock

    def verify(self, token: str, check: Callable[[Claims], object] | None = None) -> Claims:
        """The claims of a token that may be accepted; see `TokenService.validate`.

        Raises:
            TokenInvalid: it must not be accepted; `reason` says why.
        """
        claims = self._claims(token)
        self._check_times(claims)
        if check is not None:
            try:
                fine = check(claims)
            except TokenInvalid:
                raise
            except Exception as error:
                name = type(error).__name__
                raise TokenInvalid("check", f"the check of the claims failed: {name}") from error
            if not fine:
                raise TokenInvalid("check", "the claims were refused by the check that was given")
        return claims

    def _claims(self, token: str) -> Claims:
        if not isinstance(token, str) or len(token) > _LONGEST:
            raise TokenInvalid("malformed", "not a token")
        try:
            header = jwt.get_unverified_header(token)
        except Exception:  # whatever else a stranger's bytes may provoke
            raise TokenInvalid("malformed", "not a token") from None
        candidates = self._candidates(header)
        for number, key in enumerate(candidates, 1):
            try:
                return Claims(
                    jwt.decode(
                        token,
                        key.public,
                        list(key.algorithms),
                        audience=self._audience,
                        issuer=self._issuer,
                        options=_OPTIONS,
                    )
                )
            except jwt.InvalidSignatureError as error:
                if number == len(candidates):
                    raise _refused(error) from None
            except jwt.PyJWTError as error:
                raise _refused(error) from None
            except Exception:
                raise TokenInvalid("malformed", "not a token") from None
        raise AssertionError("a key or an error is found above")

    def _candidates(self, header: Mapping[str, Any]) -> list[TrustedKey]:
        """The keys that may have signed: those of that name, else those of that algorithm."""
        algorithm, kid = header.get("alg"), header.get("kid")
        fitting = [key for key in self._keys if algorithm in key.algorithms]
        if not fitting:
            raise TokenInvalid("algorithm", "the token's algorithm is not one of a trusted key")
        return [key for key in fitting if kid in key.names] or fitting

    def _check_times(self, claims: Claims) -> None:
        for name in _TIMES:
            if name in claims and type(claims[name]) is not int:
                raise TokenInvalid("claims", f"the claim {name!r} is not an integer")
        now = self._clock()
        if claims["exp"] <= now - self._leeway:
            raise _refused(jwt.ExpiredSignatureError())
        if claims.get("nbf", 0) > now + self._leeway:
            raise _refused(jwt.ImmatureSignatureError())


def _refused(error: jwt.PyJWTError) -> TokenInvalid:
    for kind, reason, message in _REASONS:
        if isinstance(error, kind):
            return TokenInvalid(reason, message)
    if isinstance(error, jwt.MissingRequiredClaimError):
        return TokenInvalid("claims", f"the token has no claim {error.claim!r}")
    if isinstance(error, InvalidSubjectError | InvalidJTIError):
        return TokenInvalid("claims", "a claim of the token is of a wrong type")
    return TokenInvalid("malformed", "not a token")
