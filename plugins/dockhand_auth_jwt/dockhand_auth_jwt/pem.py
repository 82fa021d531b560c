"""Functions that read PEM, the text format of keys and certificates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr

from dockhand_auth_jwt.errors import KeyInvalid
from dockhand_auth_jwt.keys import PublicKey, public_key_der, usable_algorithms
from dockhand_core.config import is_pem

__all__ = ["load_certificates", "load_public_keys", "read_pem"]


def read_pem(source: str | os.PathLike[str] | bytes | SecretStr, what: str) -> tuple[bytes, str]:
    """Return the PEM data of a source, which is the data itself or the path of a file.

    Args:
        source: the PEM data, or the path of a PEM file. A text that does not start with a PEM
            header line is a path.
        what: the noun for the data in error messages, such as `private key`.

    Returns:
        the PEM data, and a name for the data in error messages.

    Raises:
        KeyInvalid: the file cannot be read.
    """
    text = source.get_secret_value() if isinstance(source, SecretStr) else source
    if isinstance(text, bytes):
        return text, f"the {what}"
    if isinstance(text, str) and is_pem(text):
        # Environment files often contain a backslash and an n instead of each line break.
        return text.replace("\\n", "\n").encode(), f"the {what}"
    try:
        return Path(text).read_bytes(), str(text)
    except (OSError, ValueError) as error:
        # The text may be a damaged key instead of a path: show it only if it looks like a path.
        reason = getattr(error, "strerror", None) or "not a path"
        shown = str(text) if len(str(text)) < 200 and "\n" not in str(text) else f"the {what}"
        raise KeyInvalid(f"{shown}: {reason}") from None


def load_certificates(pem: bytes) -> list[x509.Certificate]:
    """Load all certificates from PEM data.

    Raises:
        KeyInvalid: the data contains no certificate, or a certificate that cannot be read.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise KeyInvalid("the certificate cannot be read: PEM certificates are expected") from None


def load_public_keys(pem: bytes, where: str = "the certificate") -> list[PublicKey]:
    """Load the public keys from PEM data, each key once.

    Args:
        pem: certificates, whose public keys are loaded, or a single public key.
        where: a name for the data in error messages.

    Raises:
        KeyInvalid: the data contains no certificate and no public key, or it contains a key of an
            unsupported kind or size.
    """
    if b"-----BEGIN CERTIFICATE" in pem:
        found: list[Any] = [certificate.public_key() for certificate in load_certificates(pem)]
    else:
        try:
            found = [serialization.load_pem_public_key(pem)]
        except (ValueError, UnsupportedAlgorithm):
            raise KeyInvalid(f"{where} is neither a certificate nor a public key in PEM") from None
    for key in found:
        usable_algorithms(key)
    return list({public_key_der(key): key for key in found}.values())
