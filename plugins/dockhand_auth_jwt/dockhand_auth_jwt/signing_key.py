"""Signing keys: made, loaded and saved, and how tokens name them.

Follows: RFC 7517 (JWK sets), RFC 7515 4.1.6 (`x5c`).
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
    """A private key, and the way in which tokens name it.

    By default, tokens carry `x5c`, a chain of certificates: the only way that every
    version of Distribution understands. If no certificate is given, the chain is made from the
    key; it is valid for registries whose bundle was written by `self_signed_certificate`.

    Only `private_pem` gives the private key away; `repr` shows no more than its `kid`.
    """

    def __init__(
        self,
        private: PrivateKey,
        *,
        algorithm: str | None = None,
        key_id: KeyId = "x5c",
        certificate: bytes | None = None,
    ) -> None:
        """Use a key of the `cryptography` library; see also `generate` and `load`.

        Args:
            private: EC on P-256 or P-384, RSA of 2048 bits or more, or Ed25519.
            algorithm: for RSA, `RS256` (the default), `RS384` or `RS512`; every other kind of key
                has only one.
            key_id: how tokens name the key: by `x5c`, or in `kid` by the `libtrust` fingerprint
                (which Distribution 2 looks up) or by the `rfc7638` thumbprint (Distribution 3).
            certificate: for `x5c`, the certificate that the registry trusts: PEM, the key's own
                certificate first.

        Raises:
            KeyInvalid: the key is of another kind, or the certificate is not this key's.
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
        """Make a new key.

        Args:
            algorithm: `ES256`, `ES384`, `RS256`, `RS384`, `RS512` or `EdDSA` (Ed25519, which
                Distribution 2 cannot load).

        Raises:
            KeyInvalid: the algorithm is not one of these.
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
        """Load a key from PEM (PKCS #8, PKCS #1 or SEC 1).

        Args:
            source: a file's path, or the PEM itself.
            password: the password that the PEM is encrypted with.
            algorithm, key_id, certificate: as for the class.

        Raises:
            KeyInvalid: the file cannot be read, holds no private key of a usable kind, or the
                password is wrong.
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
                private,  # type: ignore[arg-type]  # the class checks the kind of key
                algorithm=algorithm,
                key_id=key_id,
                certificate=certificate,
            )
        except KeyInvalid as error:
            raise KeyInvalid(f"{where}: {error}") from None

    def identified_by(self, key_id: KeyId, certificate: bytes | None = None) -> SigningKey:
        """The same key, named in another way; the arguments are those of the class."""
        return SigningKey(
            self.private, algorithm=self.algorithm, key_id=key_id, certificate=certificate
        )

    @property
    def public(self) -> PublicKey:
        """The public key, of the `cryptography` library."""
        return self.private.public_key()

    @functools.cached_property
    def libtrust(self) -> str:
        """The libtrust fingerprint: 12 groups of 4 characters."""
        return libtrust_fingerprint(self.public)

    @functools.cached_property
    def thumbprint(self) -> str:
        """The JWK thumbprint (RFC 7638, SHA-256)."""
        return thumbprint(self.public)

    @property
    def kid(self) -> str:
        """The key's name in a token's `kid` and in `jwks()`; the thumbprint where `x5c` is used."""
        return self.libtrust if self.key_id == "libtrust" else self.thumbprint

    @functools.cached_property
    def header(self) -> dict[str, Any]:
        """The fields of a token's header that identify the key: `kid`, and `x5c` if used."""
        header: dict[str, Any] = {"kid": self.kid}
        if self.key_id == "x5c":
            ders = [c.public_bytes(serialization.Encoding.DER) for c in self._chain()]
            header["x5c"] = [base64.b64encode(der).decode() for der in ders]
        return header

    def private_pem(self, password: Password = None) -> bytes:
        """The private key as PKCS #8 PEM, encrypted if a password is given."""
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
        """The public key as SubjectPublicKeyInfo PEM."""
        return self.public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def jwks(self) -> dict[str, Any]:
        """A JWK set with the public key; its `kid` is the one that tokens carry."""
        key = {**jwk(self.public), "kid": self.kid, "use": "sig", "alg": self.algorithm}
        return {"keys": [key]}

    def self_signed_certificate(self, common_name: str, lifetime: timedelta = TEN_YEARS) -> bytes:
        """Make the file for a registry's `rootcertbundle`: PEM of two certificates of this key.

        The first has the common name, for people. The second has a name that follows from the
        key, so that a chain that ends in it can be made from the key alone.

        Args:
            common_name: such as the authority's name; 1 to 64 characters.
            lifetime: time until the certificates expire. Tokens with `x5c` are refused after that.

        Raises:
            KeyInvalid: the common name or the lifetime is not possible in a certificate.
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
        # The root itself is left out: only the registry has its bytes. The leaf is signed by the
        # same key as the root, so that the chain is complete all the same.
        return [
            issue_certificate(self.private, "token signer", self._root_name, TEN_YEARS, ca=False)
        ]

    def __repr__(self) -> str:
        return f"<SigningKey {self.algorithm} {self.kid}>"


def _without_leading_zeros(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    """Make a key whose coordinates have no leading zero bytes.

    Distribution 3 leaves such bytes out when it computes a thumbprint, and so gets a wrong one.
    """
    while True:
        private = ec.generate_private_key(curve)
        point = private.public_key().public_numbers()
        if min(point.x, point.y) >> (curve.key_size - 8):
            return private


def _password_bytes(password: Password) -> bytes | None:
    text = password.get_secret_value() if isinstance(password, SecretStr) else password
    return text.encode() if isinstance(text, str) else text
