"""A client certificate and its key, read from their files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from dockhand_core.text import printable
from dockhand_mutual_tls.errors import CertificateExpired, CertificateUnusable, KeyMismatch

__all__ = ["ClientCertificate", "read_certificate"]


@dataclass(frozen=True)
class ClientCertificate:
    """A client certificate that is valid now, and whose key is there.

    Attributes:
        subject: its holder: the distinguished name, or else its first alternative name.
        issuer: distinguished name of the CA that issued it.
        not_before: the time from which it is valid.
        not_after: the time until which it is valid.
    """

    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime

    @property
    def due(self) -> bool:
        """Whether less than a third of its lifetime is left, so that it should be renewed."""
        return self.not_after - datetime.now(UTC) < (self.not_after - self.not_before) / 3


def read_certificate(cert: Path, key: Path) -> ClientCertificate:
    """Read a client certificate, and check it and its key.

    Args:
        cert: PEM file with the certificate, and after it those of intermediate CAs.
        key: PEM file with the private key, which must not be encrypted.

    Raises:
        CertificateUnusable: a file cannot be read, or the certificate is not for clients.
        CertificateExpired: the certificate is no longer valid, or not yet.
        KeyMismatch: the key does not belong to the certificate.
    """
    try:
        found = x509.load_pem_x509_certificates(cert.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise _unusable(cert, "certificate", error) from None
    try:
        private = load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise _unusable(key, "private key", error) from None
    if private.public_key() != found.public_key():
        raise KeyMismatch(
            f"{key}: this key does not belong to the certificate {cert}; the program that renews "
            "them may have written only one of the two"
        )
    now, start, end = datetime.now(UTC), found.not_valid_before_utc, found.not_valid_after_utc
    if now > end:
        raise CertificateExpired(
            f"{cert}: expired at {end:%Y-%m-%d %H:%M} UTC; is the program that renews it running?"
        )
    if now < start:
        raise CertificateExpired(
            f"{cert}: valid from {start:%Y-%m-%d %H:%M} UTC on; is the clock of this machine right?"
        )
    try:
        usages = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        pass  # it is for every purpose
    else:
        if ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
            raise CertificateUnusable(
                f"{cert}: not a certificate for clients: its extended key usage lacks clientAuth"
            )
    return ClientCertificate(_subject(found), _shown(found.issuer), start, end)


def _unusable(path: Path, noun: str, error: Exception) -> CertificateUnusable:
    if isinstance(error, OSError):
        return CertificateUnusable(f"{path}: {error.strerror}")
    if isinstance(error, TypeError):
        return CertificateUnusable(f"{path}: the private key is encrypted, which is not supported")
    return CertificateUnusable(f"{path}: no {noun} in PEM")


def _subject(certificate: x509.Certificate) -> str:
    if certificate.subject.rdns:
        return _shown(certificate.subject)
    try:  # as SPIFFE's, whose name is a URI
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "(no name)"
    return printable(str(next(iter(names)).value))


def _shown(name: x509.Name) -> str:
    return printable(name.rfc4514_string())
