"""Certificates of signing keys, and the certificate chains that tokens carry as `x5c`.

Follows: RFC 5280 (X.509); RFC 7515, section 4.1.6 (`x5c`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from dockhand_auth_jwt.errors import KeyInvalid
from dockhand_auth_jwt.keys import PrivateKey, PublicKey, public_key_der
from dockhand_auth_jwt.pem import load_certificates

__all__ = ["TEN_YEARS", "certificate_chain", "check_certificate", "issue_certificate"]

TEN_YEARS = timedelta(days=3650)


def issue_certificate(
    private: PrivateKey, subject: str, issuer: str, lifetime: timedelta, *, ca: bool
) -> x509.Certificate:
    """Make a certificate for a key, signed by the same key.

    Args:
        private: the key that the certificate is for, and that signs the certificate.
        subject, issuer: common names of 1 to 64 characters.
        lifetime: the time from now until the certificate expires.
        ca: whether the certificate may sign other certificates.

    Raises:
        KeyInvalid: a certificate cannot have these names or this lifetime.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    public = private.public_key()
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
            .subject_name(_x509_name(subject))
            .issuer_name(_x509_name(issuer))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))  # for registries with a slow clock
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=ca, **usage), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
    except (ValueError, OverflowError) as error:
        raise KeyInvalid(f"a certificate cannot be made: {error}") from None
    return builder.sign(private, _signature_hash(public))


def check_certificate(pem: bytes, public: PublicKey) -> None:
    """Check that the first certificate in PEM data belongs to a key and has not expired.

    Raises:
        KeyInvalid: the certificate belongs to another key, has expired, or cannot be read.
    """
    chain = load_certificates(pem)
    if not chain or public_key_der(chain[0].public_key()) != public_key_der(public):
        raise KeyInvalid("the certificate is not of this private key")
    if chain[0].not_valid_after_utc < datetime.now(UTC):
        raise KeyInvalid(
            f"the certificate expired on {chain[0].not_valid_after_utc:%Y-%m-%d}, and registries "
            "refuse it; make a new one, and give it to the registry too"
        )


def certificate_chain(pem: bytes) -> list[x509.Certificate]:
    """Extract the chain that begins with the first certificate in PEM data.

    In the chain, each certificate is followed by the certificate of its issuer. Certificates that
    do not belong to the chain are left out.
    """
    first, *others = load_certificates(pem)
    chain = [first]
    for other in others:
        if other.subject == chain[-1].issuer != chain[-1].subject:
            chain.append(other)
    return chain


def _x509_name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _signature_hash(public: PublicKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(public, ed25519.Ed25519PublicKey):
        return None
    long = isinstance(public, ec.EllipticCurvePublicKey) and public.curve.key_size > 256
    return hashes.SHA384() if long else hashes.SHA256()
