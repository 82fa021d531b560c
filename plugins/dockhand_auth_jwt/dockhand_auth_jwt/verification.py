"""Verification of tokens with a fixed set of trusted keys.

Each key allows only its own algorithms, and a key inside a token is never used.

Follows: RFC 7519, section 7.2 (validation of a JWT); RFC 8725 (best current practices).
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
from dockhand_auth_jwt.keys import PublicKey, libtrust_fingerprint, thumbprint, usable_algorithms
from dockhand_auth_jwt.pem import load_public_keys
from dockhand_core import Scope, ScopeInvalid

__all__ = ["Claims", "TrustedKey", "Verifier"]

_MAX_TOKEN_LENGTH = 64 << 10  # characters; servers do not accept headers of this size
_TIME_CLAIMS = ("exp", "nbf", "iat")
_REFUSALS: list[tuple[type[jwt.PyJWTError], str, str]] = [
    (jwt.ExpiredSignatureError, "expired", "the token has expired"),
    (jwt.ImmatureSignatureError, "not-yet-valid", "the token is not valid yet"),
    (jwt.InvalidIssuerError, "issuer", "the token was issued by another authority"),
    (jwt.InvalidAudienceError, "audience", "the token is for another service"),
    (jwt.InvalidSignatureError, "signature", "the signature was not made by a trusted key"),
]
# `_check_times` replaces PyJWT's checks of times. Unlike PyJWT, registries accept only integers,
# and accept an `iat` in the future.
_OPTIONS: Options = {
    "require": ["exp", "iss", "aud"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


class Claims(dict[str, Any]):
    """The claims of a verified token, by name."""

    @property
    def subject(self) -> str:
        """The name of the user (`sub`); empty if the token has no subject."""
        return str(self.get("sub", ""))

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes in the claim `access`, without the entries that are not valid scopes."""
        entries = self.get("access")
        found = map(_parse_access_entry, entries) if isinstance(entries, list) else ()
        return tuple(scope for scope in found if scope)

    def allows(self, scope: Scope) -> bool:
        """Whether the token grants every action of a scope."""
        granted = [s for s in self.scopes if (s.type, s.name) == (scope.type, scope.name)]
        merged = Scope(scope.type, scope.name, frozenset().union(*(s.actions for s in granted)))
        return merged.covers(scope)


def _parse_access_entry(entry: object) -> Scope | None:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("actions"), list):
        return None
    try:
        return Scope(entry["type"], entry["name"], frozenset(entry["actions"]))
    except (KeyError, TypeError, ScopeInvalid):
        return None


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key that verifies the signatures of tokens.

    Attributes:
        public: the public key, an object of the `cryptography` library.
        algorithms: the signature algorithms (`alg`) that are allowed with this key.
        names: the values of `kid` in a token's header that refer to this key.
    """

    public: PublicKey
    algorithms: tuple[str, ...]
    names: frozenset[str]

    @classmethod
    def of(cls, public: PublicKey, *names: str) -> TrustedKey:
        """Create a trusted key from a public key.

        Args:
            public: the public key, an object of the `cryptography` library.
            names: values of `kid` that refer to this key, besides the key's libtrust fingerprint
                and its RFC 7638 thumbprint.

        Raises:
            KeyInvalid: keys of this kind or size are not supported.
        """
        all_names = frozenset({libtrust_fingerprint(public), thumbprint(public), *names})
        return cls(public, usable_algorithms(public), all_names)

    @classmethod
    def from_pem(cls, pem: bytes, where: str = "the certificate") -> list[TrustedKey]:
        """Create trusted keys from PEM data.

        Args:
            pem: certificates, such as a registry's `rootcertbundle`, or a single public key.
            where: a name for the data in error messages.

        Raises:
            KeyInvalid: the data contains neither a certificate nor a public key, or a key of an
                unsupported kind or size.
        """
        return [cls.of(key) for key in load_public_keys(pem, where)]

    @classmethod
    def from_jwks(cls, document: object, where: str = "the JWKS") -> list[TrustedKey]:
        """Create trusted keys from the signing keys in a JWK set.

        Args:
            document: the JWK set, parsed from JSON.
            where: a name for the set in error messages.

        Raises:
            KeyInvalid: the document is not a JWK set, contains no signing key (`use` is `sig` or
                absent), or contains an unsupported key.
        """
        entries = document.get("keys") if isinstance(document, Mapping) else None
        if not isinstance(entries, list) or not entries:
            raise KeyInvalid(f"{where} is not a JWK set with keys")
        found = []
        for number, entry in enumerate(entries):
            if not isinstance(entry, Mapping) or entry.get("kty") not in {"EC", "RSA", "OKP"}:
                raise KeyInvalid(
                    f"{where}: keys[{number}] is not a public key of kty EC, RSA or OKP"
                )
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
            raise KeyInvalid(
                f"{where} has no key that signs: every key has another 'use' than 'sig'"
            )
        return found


class Verifier:
    """Verifies that tokens have the right issuer and audience, and are signed by a trusted key."""

    def __init__(
        self,
        keys: Sequence[TrustedKey],
        *,
        issuer: str,
        audience: str,
        leeway: float = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create a verifier.

        Args:
            keys: the trusted keys.
            issuer: the required value of `iss`.
            audience: the required value of `aud`.
            leeway: seconds by which clocks may differ. A token is accepted this long before its
                `nbf` and after its `exp`.
            clock: returns the time, in seconds since 1970.
        """
        self._keys, self._issuer, self._audience = tuple(keys), issuer, audience
        self._leeway, self._clock = leeway, clock

    def verify(self, token: str, check: Callable[[Claims], object] | None = None) -> Claims:
        """Verify a token, and return the token's claims.

        Args:
            token: the JWT.
            check: a function for additional checks; see `TokenService.validate`.

        Raises:
            TokenInvalid: the token is refused; see `TokenInvalid.reason` for the cause.
        """
        claims = self._decode(token)
        self._check_times(claims)
        if check is not None:
            try:
                accepted = check(claims)
            except TokenInvalid:
                raise
            except Exception as error:
                name = type(error).__name__
                raise TokenInvalid("check", f"the check of the claims failed: {name}") from error
            if not accepted:
                raise TokenInvalid("check", "the claims were refused by the caller's check")
        return claims

    def _decode(self, token: str) -> Claims:
        """Check a token's signature, issuer and audience, but not its times; return its claims."""
        if not isinstance(token, str) or len(token) > _MAX_TOKEN_LENGTH:
            raise _malformed()
        try:
            header = jwt.get_unverified_header(token)
        except Exception:  # PyJWT raises errors other than its own for some tokens
            raise _malformed() from None
        candidates = self._candidate_keys(header)
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
                    raise _token_invalid(error) from None
            except jwt.PyJWTError as error:
                raise _token_invalid(error) from None
            except Exception:
                raise _malformed() from None
        raise AssertionError("the loop returns or raises")

    def _candidate_keys(self, header: Mapping[str, Any]) -> list[TrustedKey]:
        """The trusted keys that may have signed a token with this header.

        All of these keys allow the token's algorithm (`alg`). If its `kid` names any such keys,
        only those are returned.
        """
        algorithm, kid = header.get("alg"), header.get("kid")
        fitting = [key for key in self._keys if algorithm in key.algorithms]
        if not fitting:
            raise TokenInvalid("algorithm", "no trusted key allows the token's algorithm")
        return [key for key in fitting if kid in key.names] or fitting

    def _check_times(self, claims: Claims) -> None:
        for name in _TIME_CLAIMS:
            if name in claims and type(claims[name]) is not int:
                raise TokenInvalid("claims", f"the claim {name!r} is not an integer")
        now = self._clock()
        if claims["exp"] <= now - self._leeway:
            raise _token_invalid(jwt.ExpiredSignatureError())
        if claims.get("nbf", 0) > now + self._leeway:
            raise _token_invalid(jwt.ImmatureSignatureError())


def _malformed() -> TokenInvalid:
    return TokenInvalid("malformed", "the token is not a valid JWT")


def _token_invalid(error: jwt.PyJWTError) -> TokenInvalid:
    """Convert an error of PyJWT to a `TokenInvalid`."""
    for kind, reason, message in _REFUSALS:
        if isinstance(error, kind):
            return TokenInvalid(reason, message)
    if isinstance(error, jwt.MissingRequiredClaimError):
        return TokenInvalid("claims", f"the token has no claim {error.claim!r}")
    if isinstance(error, InvalidSubjectError | InvalidJTIError):
        return TokenInvalid("claims", "the claim 'sub' or 'jti' is not a string")
    return _malformed()
