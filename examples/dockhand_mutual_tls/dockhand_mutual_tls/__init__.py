"""A check of connections with a client certificate (mutual TLS)."""

from dockhand_mutual_tls.certificate import ClientCertificate, read_certificate
from dockhand_mutual_tls.check import check
from dockhand_mutual_tls.errors import (
    CertificateExpired,
    CertificateRefused,
    CertificateUnusable,
    KeyMismatch,
    MutualTLSError,
    NoCertificate,
    RegistryNotTrusted,
)

__all__ = [
    "CertificateExpired",
    "CertificateRefused",
    "CertificateUnusable",
    "ClientCertificate",
    "KeyMismatch",
    "MutualTLSError",
    "NoCertificate",
    "RegistryNotTrusted",
    "check",
    "read_certificate",
]
