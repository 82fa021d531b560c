"""The exceptions of the check. Each message says what is wrong, and what to do."""

from dockhand_core import DockhandError

__all__ = [
    "CertificateExpired",
    "CertificateRefused",
    "CertificateUnusable",
    "KeyMismatch",
    "MutualTLSError",
    "NoCertificate",
    "RegistryNotTrusted",
]


class MutualTLSError(DockhandError):
    """The base of these exceptions."""


class NoCertificate(MutualTLSError):
    """The connection has no client certificate."""


class CertificateUnusable(MutualTLSError):
    """A file cannot be read, is not PEM, or has a certificate that is not for clients."""


class CertificateExpired(MutualTLSError):
    """The client certificate is no longer valid, or not yet."""


class KeyMismatch(MutualTLSError):
    """The private key does not belong to the client certificate."""


class CertificateRefused(MutualTLSError):
    """The registry refuses the client certificate: it trusts another CA, for example."""


class RegistryNotTrusted(MutualTLSError):
    """The registry's own certificate is not issued by the CA of `verify`, or for another host."""
