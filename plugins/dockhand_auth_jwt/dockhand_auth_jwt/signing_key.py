"""Private keys that sign tokens: generating, loading and exporting them.

Follows: RFC 7517, section 5 (JWK sets); RFC 7515, section 4.1.6 (`x5c`).
"""

from __future__ import annotations

import base64
import functools
import os
from datetime import timedelta
from typing import Any, TypeAlias, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import SecretStr

from dockhand_auth_jwt.certificates import (
    TEN_YEARS,
    certificate_chain,
    check_certificate,
    issue_certificate,
)
from dockhand_auth_jwt.errors import KeyInvalid
from dockhand_auth_jwt.keys import (
    CURVES,
    RSA_ALGORITHMS,
    KeyId,
    PrivateKey,
    PublicKey,
    jwk,
    libtrust_fingerprint,
    thumbprint,
    usable_algorithms,
)
from dockhand_auth_jwt.pem import read_pem

__all__ = ["SigningKey"]

Password: TypeAlias = str | bytes | SecretStr | None


class SigningKey:
    """A private key that signs tokens, and the way in which tokens identify this key.

    By default, each token carries a chain of certificates (`x5c`), because this is the only way
    that every version of Distribution understands. If no certificate is given, the chain is made
    from the key. Such a chain is accepted by registries whose `rootcertbundle` contains the
    certificates that `self_signed_certificate` returns.

    `private_pem` exports the private key. `repr` shows only the algorithm and the `kid`.
    """

    def __init__(
        self,
        private: PrivateKey,
        *,
        algorithm: str | None = None,
        key_id: KeyId = "x5c",
        certificate: bytes | None = None,
    ) -> None:
        """Create a signing key from a private key of the `cryptography` library.

        Use `generate` to make a new private key, or `load` to read one from PEM.

        Args:
            private: an EC key on P-256 or P-384, an RSA key of at least 2048 bits, or an Ed25519
                key.
            algorithm: for an RSA key, `RS256` (the default), `RS384` or `RS512`. Each other kind
                of key has only one algorithm.
            key_id: how tokens identify the key. `x5c`: by a chain of certificates. `libtrust`: by
                the libtrust fingerprint in `kid`, for Distribution 2. `rfc7638`: by the JWK
                thumbprint in `kid`, for Distribution 3.
            certificate: only with `x5c`: PEM data with the key's certificate, followed by the
                other certificates of the chain. The registry must trust the last one.

        Raises:
            KeyInvalid: an argument is unsupported, or the certificate has expired or belongs to
                another key.
        """
        usable = usable_algorithms(private.public_key())
        self.algorithm = algorithm or usable[0]
        if self.algorithm not in usable:
            raise KeyInvalid(f"a key for {' or '.join(usable)} cannot sign {self.algorithm!r:.40}")
        if key_id not in get_args(KeyId):
            raise KeyInvalid(f"unknown key_id; use one of {', '.join(get_args(KeyId))}")
        if certificate is not None and key_id != "x5c":
            raise KeyInvalid(f"a certificate can be used with key_id x5c only, not with {key_id}")
        self.private = private
        self.key_id: KeyId = key_id
        self._certificate = certificate
        if certificate is not None:
            check_certificate(certificate, self.public)

    @classmethod
    def generate(cls, algorithm: str = "ES256") -> SigningKey:
        """Generate a new private key.

        Args:
            algorithm: `ES256`, `ES384`, `RS256`, `RS384`, `RS512` or `EdDSA` (Ed25519, which
                Distribution 2 cannot load).

        Raises:
            KeyInvalid: the algorithm is unknown.
        """
        if algorithm in RSA_ALGORITHMS:
            return cls(rsa.generate_private_key(65537, 3072), algorithm=algorithm)
        if algorithm == "EdDSA":
            return cls(ed25519.Ed25519PrivateKey.generate())
        for name, curve in CURVES.values():
            if name == algorithm:
                return cls(_without_leading_zeros(curve))
        known = ", ".join([*(name for name, _ in CURVES.values()), *RSA_ALGORITHMS, "EdDSA"])
        raise KeyInvalid(f"unknown algorithm {algorithm!r:.40}; use one of {known}")

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | bytes | SecretStr,
        *,
        password: Password = None,
        algorithm: str | None = None,
        key_id: KeyId = "x5c",
        certificate: bytes | None = None,
    ) -> SigningKey:
        """Load a private key from PEM (PKCS #8, PKCS #1 or SEC 1).

        Args:
            source: the path of a PEM file, or the PEM data itself.
            password: the password of an encrypted private key.
            algorithm, key_id, certificate: as for `SigningKey`.

        Raises:
            KeyInvalid: the file cannot be read, the data is not a private key of a supported kind,
                the password is wrong, or another argument is invalid.
        """
        pem, where = read_pem(source, "private key")
        try:
            private = serialization.load_pem_private_key(pem, _password_bytes(password))
        except TypeError:
            problem = (
                "is encrypted: a password is needed"
                if password is None
                else "is not encrypted, but a password was given"
            )
            raise KeyInvalid(f"{where} {problem}") from None
        except (ValueError, UnsupportedAlgorithm):
            hint = "" if password is None else ", or the password is wrong"
            raise KeyInvalid(f"{where} is not a private key in PEM{hint}") from None
        try:
            return cls(
                private,  # type: ignore[arg-type]  # the constructor checks the kind of key
                algorithm=algorithm,
                key_id=key_id,
                certificate=certificate,
            )
        except KeyInvalid as error:
            raise KeyInvalid(f"{where}: {error}") from None

    def identified_by(self, key_id: KeyId, certificate: bytes | None = None) -> SigningKey:
        """Return a signing key with the same private key, which tokens identify in another way.

        Args:
            key_id, certificate: as for `SigningKey`.
        """
        return SigningKey(
            self.private, algorithm=self.algorithm, key_id=key_id, certificate=certificate
        )

    @property
    def public(self) -> PublicKey:
        """The public key, an object of the `cryptography` library."""
        return self.private.public_key()

    @functools.cached_property
    def libtrust(self) -> str:
        """The libtrust fingerprint of the key: 12 groups of 4 characters."""
        return libtrust_fingerprint(self.public)

    @functools.cached_property
    def thumbprint(self) -> str:
        """The JWK thumbprint of the key (RFC 7638, SHA-256)."""
        return thumbprint(self.public)

    @property
    def kid(self) -> str:
        """The value of `kid` in tokens and in `jwks()`.

        This is the libtrust fingerprint if `key_id` is `libtrust`, otherwise the thumbprint.
        """
        return self.libtrust if self.key_id == "libtrust" else self.thumbprint

    @functools.cached_property
    def header(self) -> dict[str, Any]:
        """The header fields that identify the key: `kid`, and `x5c` if `key_id` is `x5c`."""
        header: dict[str, Any] = {"kid": self.kid}
        if self.key_id == "x5c":
            ders = [c.public_bytes(serialization.Encoding.DER) for c in self._chain()]
            header["x5c"] = [base64.b64encode(der).decode() for der in ders]
        return header

    def private_pem(self, password: Password = None) -> bytes:
        """Encode the private key as PEM (PKCS #8), encrypted if a password is given."""
        password_bytes = _password_bytes(password)
        encryption: serialization.KeySerializationEncryption = (
            serialization.NoEncryption()
            if password_bytes is None
            else serialization.BestAvailableEncryption(password_bytes)
        )
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    def public_pem(self) -> bytes:
        """Encode the public key as PEM (SubjectPublicKeyInfo)."""
        return self.public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def jwks(self) -> dict[str, Any]:
        """Make a JWK set of the public key, with the same `kid` as in tokens."""
        key = {**jwk(self.public), "kid": self.kid, "use": "sig", "alg": self.algorithm}
        return {"keys": [key]}

    def self_signed_certificate(self, common_name: str, lifetime: timedelta = TEN_YEARS) -> bytes:
        """Make the content of a registry's `rootcertbundle`: two certificates of this key, in PEM.

        The first certificate has the given common name, by which people recognize the certificate.
        The common name of the second certificate is computed from the key. A token's leaf
        certificate names this second certificate as its issuer, so the leaf certificate can be made
        from the key alone, without reading the `rootcertbundle`.

        Args:
            common_name: the common name of the first certificate, such as the authority's name; 1
                to 64 characters.
            lifetime: the time until the two certificates expire. After that, registries refuse
                tokens with `x5c`.

        Raises:
            KeyInvalid: a certificate cannot have this common name or lifetime.
        """
        certificates = [
            issue_certificate(self.private, name, name, lifetime, ca=True)
            for name in (common_name, self._root_name)
        ]
        return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)

    @property
    def _root_name(self) -> str:
        return f"dockhand {self.thumbprint}"

    def _chain(self) -> list[x509.Certificate]:
        if self._certificate is not None:
            return certificate_chain(self._certificate)
        # The chain is a single leaf certificate. Its issuer, the root certificate, is stored only
        # in the registry's bundle. Leaf and root have the same key, so a root that was made at
        # another time verifies the leaf, too.
        return [
            issue_certificate(self.private, "token signer", self._root_name, TEN_YEARS, ca=False)
        ]

    def __repr__(self) -> str:
        return f"<SigningKey {self.algorithm} {self.kid}>"


def _without_leading_zeros(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    """Generate a private key whose public coordinates have no leading zero bytes.

    For a coordinate with leading zero bytes, Distribution 3 computes a wrong thumbprint, because
    it leaves these bytes out.
    """
    while True:
        private = ec.generate_private_key(curve)
        point = private.public_key().public_numbers()
        if min(point.x, point.y) >> (curve.key_size - 8):
            return private


def _password_bytes(password: Password) -> bytes | None:
    text = password.get_secret_value() if isinstance(password, SecretStr) else password
    return text.encode() if isinstance(text, str) else text
