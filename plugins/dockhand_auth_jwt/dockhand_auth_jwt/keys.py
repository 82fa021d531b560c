"""The supported kinds of keys, with their algorithms, JWKs and fingerprints.

All keys are objects of the `cryptography` library. Distribution 2 looks up a key by its libtrust
fingerprint, and Distribution 3 by its thumbprint.

Follows: RFC 7517 (JWK), RFC 7518 (algorithms), RFC 7638 (thumbprint).
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Literal, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from dockhand_auth_jwt.errors import KeyInvalid

__all__ = [
    "CURVES",
    "RSA_ALGORITHMS",
    "KeyId",
    "PrivateKey",
    "PublicKey",
    "jwk",
    "libtrust_fingerprint",
    "public_key_der",
    "thumbprint",
    "usable_algorithms",
]

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
KeyId: TypeAlias = Literal["libtrust", "rfc7638", "x5c"]

RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
CURVES: dict[str, tuple[str, ec.EllipticCurve]] = {
    "secp256r1": ("ES256", ec.SECP256R1()),
    "secp384r1": ("ES384", ec.SECP384R1()),
}
_MIN_RSA_BITS = 2048  # required by RFC 7518, section 3.3


def usable_algorithms(public: object) -> tuple[str, ...]:
    """The signature algorithms that a public key supports, the default one first.

    Raises:
        KeyInvalid: keys of this kind or size are not supported.
    """
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in CURVES:
        return (CURVES[public.curve.name][0],)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return ("EdDSA",)
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < _MIN_RSA_BITS:
            raise KeyInvalid(
                f"an RSA key of {public.key_size} bits is too short: at least {_MIN_RSA_BITS} bits "
                "are needed"
            )
        return RSA_ALGORITHMS
    raise KeyInvalid("the key is none of EC P-256, EC P-384, RSA and Ed25519")


def jwk(public: PublicKey) -> dict[str, Any]:
    """The JWK of a public key, without `kid` (RFC 7517)."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        document = ECAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, rsa.RSAPublicKey):
        document = RSAAlgorithm.to_jwk(public, as_dict=True)
    else:
        document = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {key: document[key] for key in ("kty", "crv", "x", "y", "n", "e") if key in document}


def thumbprint(public: PublicKey) -> str:
    """The JWK thumbprint of a public key (RFC 7638, SHA-256)."""
    text = json.dumps(jwk(public), sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def libtrust_fingerprint(public: PublicKey) -> str:
    """The libtrust fingerprint of a public key, by which Distribution 2 looks up the key."""
    text = base64.b32encode(hashlib.sha256(public_key_der(public)).digest()[:30]).decode()
    return ":".join(text[start : start + 4] for start in range(0, len(text), 4))


def public_key_der(public: Any) -> bytes:
    """The DER encoding of a public key (SubjectPublicKeyInfo); equal for equal keys."""
    der: bytes = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return der
