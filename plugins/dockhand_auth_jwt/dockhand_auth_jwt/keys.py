"""Keys that sign tokens, the names that registries know them by, and their certificates.

Follows: RFC 7517 (JWK), RFC 7518 (algorithms), RFC 7638 (thumbprint), RFC 7515 4.1.6 (`x5c`);
the libtrust fingerprint is what Distribution 2 calls a key by.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from pydantic import SecretStr

from dockhand_auth_jwt.errors import KeyInvalid
from dockhand_core.config import is_pem

__all__ = ["KeyId", "PrivateKey", "PublicKey", "SigningKey", "public_keys"]

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
KeyId: TypeAlias = Literal["libtrust", "rfc7638", "x5c"]
Password: TypeAlias = str | bytes | SecretStr | None

_RSA = ("RS256", "RS384", "RS512")
_CURVES: dict[str, tuple[str, ec.EllipticCurve]] = {
    "secp256r1": ("ES256", ec.SECP256R1()),
    "secp384r1": ("ES384", ec.SECP384R1()),
}
_RSA_BITS = 2048  # the least, RFC 7518 3.3
YEARS = timedelta(days=3650)


class SigningKey:
    """A private key, and how tokens say that it signed them.

    Tokens carry `x5c`, a chain of certificates, unless told otherwise: it is the one way that
    every version of Distribution understands. Without a certificate of the registry's own, the
    chain is made from the key, for registries whose bundle `self_signed_certificate` wrote.

    The key never leaves the object except through `private_pem`; `repr` shows its id alone.
    """

    def __init__(
        self,
        private: PrivateKey,
        *,
        algorithm: str | None = None,
        key_id: KeyId = "x5c",
        certificate: bytes | None = None,
    ) -> None:
        """Use a key of the `cryptography` library; see `generate` and `load`.

        Args:
            private: EC on P-256 or P-384, RSA of 2048 bits or more, or Ed25519.
            algorithm: for RSA, `RS256` (unless given), `RS384` or `RS512`; the others have one.
            key_id: how tokens name the key: `x5c`, or in `kid` by its `libtrust` fingerprint
                (what Distribution 2 looks for) or `rfc7638` thumbprint (Distribution 3).
            certificate: for `x5c`, the registry's own: PEM, the key's certificate first.

        Raises:
            KeyInvalid: the key is of another kind, or the certificate is not this key's.
        """
        usable = algorithms(private.public_key())
        self.algorithm = algorithm or usable[0]
        if self.algorithm not in usable:
            raise KeyInvalid(f"a key for {' or '.join(usable)} cannot sign {self.algorithm!r:.40}")
        if key_id not in get_args(KeyId):
            raise KeyInvalid(f"key_id is one of {', '.join(get_args(KeyId))}")
        if certificate is not None and key_id != "x5c":
            raise KeyInvalid(f"a certificate goes with key_id x5c, not {key_id}")
        self.private = private
        self.key_id: KeyId = key_id
        self._certificate = certificate
        if certificate is not None:
            self._check(certificate)

    @classmethod
    def generate(cls, algorithm: str = "ES256") -> SigningKey:
        """A new key.

        Args:
            algorithm: `ES256`, `ES384`, `RS256`, `RS384`, `RS512` or `EdDSA` (Ed25519, which
                Distribution 2 cannot load).

        Raises:
            KeyInvalid: there is no such algorithm.
        """
        if algorithm in _RSA:
            return cls(rsa.generate_private_key(65537, 3072), algorithm=algorithm)
        if algorithm == "EdDSA":
            return cls(ed25519.Ed25519PrivateKey.generate())
        for name, curve in _CURVES.values():
            if name == algorithm:
                return cls(_without_leading_zeros(curve))
        known = ", ".join([*(name for name, _ in _CURVES.values()), *_RSA, "EdDSA"])
        raise KeyInvalid(f"no algorithm {algorithm!r:.40}; there are {known}")

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
        """A key from PEM (PKCS #8, PKCS #1 or SEC 1).

        Args:
            source: a file's path, or the PEM itself.
            password: what the PEM is encrypted with.
            algorithm, key_id, certificate: as for the class.

        Raises:
            KeyInvalid: it cannot be read, is not a private key, or the password is wrong.
        """
        pem, where = read_pem(source, "private key")
        try:
            private = serialization.load_pem_private_key(pem, _plain(password))
        except TypeError:
            how = "is encrypted: a password is needed" if password is None else "is not encrypted"
            raise KeyInvalid(f"{where} {how}") from None
        except (ValueError, UnsupportedAlgorithm):
            hint = "" if password is None else ", or the password is wrong"
            raise KeyInvalid(f"{where} is not a private key in PEM{hint}") from None
        try:
            return cls(
                private,  # type: ignore[arg-type]  # the kind is checked there
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
        return libtrust(self.public)

    @functools.cached_property
    def thumbprint(self) -> str:
        """The JWK thumbprint (RFC 7638, SHA-256)."""
        return thumbprint(self.public)

    @property
    def kid(self) -> str:
        """What the key is called in `kid` and in `jwks()`: beside an `x5c`, the thumbprint."""
        return self.libtrust if self.key_id == "libtrust" else self.thumbprint

    @functools.cached_property
    def header(self) -> dict[str, Any]:
        """What a token's header says of the key."""
        header: dict[str, Any] = {"kid": self.kid}
        if self.key_id == "x5c":
            ders = [c.public_bytes(serialization.Encoding.DER) for c in self._chain()]
            header["x5c"] = [base64.b64encode(der).decode() for der in ders]
        return header

    def private_pem(self, password: Password = None) -> bytes:
        """The private key as PKCS #8; encrypted where a password is given."""
        plain = _plain(password)
        encryption: serialization.KeySerializationEncryption = (
            serialization.NoEncryption()
            if plain is None
            else serialization.BestAvailableEncryption(plain)
        )
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    def public_pem(self) -> bytes:
        """The public key as SubjectPublicKeyInfo."""
        return self.public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def jwks(self) -> dict[str, Any]:
        """A JWK set with the public key, under the name that tokens have in `kid`."""
        key = {**jwk(self.public), "kid": self.kid, "use": "sig", "alg": self.algorithm}
        return {"keys": [key]}

    def self_signed_certificate(self, common_name: str, lifetime: timedelta = YEARS) -> bytes:
        """What a registry takes as its `rootcertbundle`: PEM of two certificates of this key.

        The first has the common name, for people. The second is named after the key, so that
        whoever has no more than the key can make a chain that ends in it.

        Args:
            common_name: such as the authority's name; 1 to 64 characters.
            lifetime: how long they are valid; from then on, tokens with `x5c` are refused.

        Raises:
            KeyInvalid: no certificate can have such a name.
        """
        ours = [self._issue(name, name, lifetime, ca=True) for name in (common_name, self._root)]
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in ours)

    @property
    def _root(self) -> str:
        return f"dockhand {self.thumbprint}"

    def _chain(self) -> list[x509.Certificate]:
        if self._certificate is not None:
            first, *others = _certificates(self._certificate)
            chain = [first]  # each is certified by the next one; a bundle may hold more than that
            for other in others:
                if other.subject == chain[-1].issuer != chain[-1].subject:
                    chain.append(other)
            return chain
        # Not the root itself, whose bytes only the registry has; the same key signs as both.
        return [self._issue("token signer", self._root, YEARS, ca=False)]

    def _issue(
        self, subject: str, issuer: str, lifetime: timedelta, *, ca: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC).replace(microsecond=0)
        public = self.public
        usage = dict.fromkeys(
            (
                "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                "crl_sign", "encipher_only", "decipher_only",
            ),
            False,
        )  # fmt: skip
        try:
            builder = (
                x509.CertificateBuilder()
                .subject_name(_name(subject))
                .issuer_name(_name(issuer))
                .public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - timedelta(hours=1))  # clocks differ
                .not_valid_after(now + lifetime)
                .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
                .add_extension(
                    x509.KeyUsage(digital_signature=True, key_cert_sign=ca, **usage), critical=True
                )
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            )
        except (ValueError, OverflowError) as error:
            raise KeyInvalid(f"a certificate cannot be made: {error}") from None
        return builder.sign(self.private, _hash(public))

    def _check(self, certificate: bytes) -> None:
        chain = _certificates(certificate)
        if not chain or _spki(chain[0].public_key()) != _spki(self.public):
            raise KeyInvalid("the certificate is not of this private key")
        if chain[0].not_valid_after_utc < datetime.now(UTC):
            raise KeyInvalid(
                f"the certificate expired on {chain[0].not_valid_after_utc:%Y-%m-%d}: registries "
                "refuse it; make a new one, for them too"
            )

    def __repr__(self) -> str:
        return f"<SigningKey {self.algorithm} {self.kid}>"


def algorithms(public: object) -> tuple[str, ...]:
    """The algorithms that a public key may be used with, its usual one first.

    Raises:
        KeyInvalid: the key is of a kind that is not used for tokens.
    """
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES:
        return (_CURVES[public.curve.name][0],)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return ("EdDSA",)
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < _RSA_BITS:
            raise KeyInvalid(f"an RSA key of {public.key_size} bits is too short: {_RSA_BITS}")
        return _RSA
    raise KeyInvalid("the key is none of EC P-256, EC P-384, RSA and Ed25519")


def jwk(public: PublicKey) -> dict[str, Any]:
    """A public key's JWK, without a name (RFC 7517)."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        document = ECAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, rsa.RSAPublicKey):
        document = RSAAlgorithm.to_jwk(public, as_dict=True)
    else:
        document = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {key: document[key] for key in ("kty", "crv", "x", "y", "n", "e") if key in document}


def thumbprint(public: PublicKey) -> str:
    """A public key's JWK thumbprint (RFC 7638, SHA-256)."""
    text = json.dumps(jwk(public), sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def libtrust(public: PublicKey) -> str:
    """A public key's libtrust fingerprint, as Distribution 2 has it in `kid`."""
    text = base64.b32encode(hashlib.sha256(_spki(public)).digest()[:30]).decode()
    return ":".join(text[start : start + 4] for start in range(0, len(text), 4))


def public_keys(pem: bytes, where: str = "the certificate") -> list[PublicKey]:
    """The keys of a PEM of certificates, or of one public key.

    Raises:
        KeyInvalid: it holds neither, or a key of another kind.
    """
    if b"-----BEGIN CERTIFICATE" in pem:
        found: list[Any] = [certificate.public_key() for certificate in _certificates(pem)]
    else:
        try:
            found = [serialization.load_pem_public_key(pem)]
        except (ValueError, UnsupportedAlgorithm):
            raise KeyInvalid(f"{where} is neither a certificate nor a public key, PEM") from None
    for key in found:
        algorithms(key)
    return list({_spki(key): key for key in found}.values())


def read_pem(source: str | os.PathLike[str] | bytes | SecretStr, what: str) -> tuple[bytes, str]:
    """A PEM and what to call it in a message; a text without its first line is a path.

    Raises:
        KeyInvalid: the file cannot be read.
    """
    text = source.get_secret_value() if isinstance(source, SecretStr) else source
    if isinstance(text, bytes):
        return text, f"the {what}"
    if isinstance(text, str) and is_pem(text):
        return text.replace("\\n", "\n").encode(), f"the {what}"  # as files of variables have it
    try:
        return Path(text).read_bytes(), str(text)
    except (OSError, ValueError) as error:
        # what was given may be the key itself, mangled: only a path is shown
        reason = getattr(error, "strerror", None) or "not a path"
        shown = str(text) if len(str(text)) < 200 and "\n" not in str(text) else f"the {what}"
        raise KeyInvalid(f"{shown}: {reason}") from None


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise KeyInvalid("the certificate is not PEM of one or more certificates") from None


def _without_leading_zeros(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    """A key whose thumbprint is the same for all.

    Distribution 3 leaves leading zero bytes of the coordinates out when it computes it.
    """
    while True:
        private = ec.generate_private_key(curve)
        point = private.public_key().public_numbers()
        if min(point.x, point.y) >> (curve.key_size - 8):
            return private


def _hash(public: PublicKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(public, ed25519.Ed25519PublicKey):
        return None
    long = isinstance(public, ec.EllipticCurvePublicKey) and public.curve.key_size > 256
    return hashes.SHA384() if long else hashes.SHA256()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _plain(password: Password) -> bytes | None:
    text = password.get_secret_value() if isinstance(password, SecretStr) else password
    return text.encode() if isinstance(text, str) else text


def _spki(public: Any) -> bytes:
    der: bytes = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return der
