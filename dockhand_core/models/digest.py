"""Digests, and the syntax of repository names, tags and references.

Follows: OCI Image Specification 1.1, "Digests"; OCI Distribution Specification 1.1,
"Pulling manifests", for the syntax of names and tags.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Protocol

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dockhand_core.errors import DigestInvalid, DigestMismatch, NameInvalid, TagInvalid

__all__ = [
    "Digest",
    "Hasher",
    "check_digest",
    "check_hash",
    "check_reference",
    "check_repository",
    "check_tag",
    "new_hasher",
]

_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_HEX = {"sha256": re.compile(r"[a-f0-9]{64}"), "sha512": re.compile(r"[a-f0-9]{128}")}
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


class Hasher(Protocol):
    """A hash object of `hashlib`, with the methods that Dockhand uses."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Hash more data."""

    def hexdigest(self) -> str:
        """Return the hash of all data so far, in lower-case hex digits."""
        ...


class Digest(str):
    """A digest of the form `algorithm:encoded`, as a `str` whose syntax has been checked.

    Raises:
        DigestInvalid: the text is not of this form, or the part after `sha256:` or `sha512:` is
            not 64 or 128 lower-case hex digits.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Digest:
        """Check the syntax of a text; a `Digest` is returned unchanged."""
        if isinstance(value, Digest):
            return value
        if not isinstance(value, str) or len(value) > 1024 or not _DIGEST.fullmatch(value):
            raise DigestInvalid(
                f"{_quoted(value)} is not a digest; expected sha256:<64 hex digits>"
            )
        algorithm, _, encoded = value.partition(":")
        known = _HEX.get(algorithm)
        if known and not known.fullmatch(encoded):
            raise DigestInvalid(
                f"{_quoted(value)} is not a {algorithm} digest; "
                f"expected {known.pattern[-4:-1].strip('{}')} lower-case hex digits"
            )
        return super().__new__(cls, value)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Compute the digest of some bytes.

        Args:
            data: the bytes to hash.
            algorithm: `sha256` or `sha512`.

        Raises:
            DigestInvalid: the algorithm is neither sha256 nor sha512.
        """
        hasher = new_hasher(algorithm)
        hasher.update(data)
        return cls.of_hash(algorithm, hasher)

    @classmethod
    def of_hash(cls, algorithm: str, hasher: Hasher) -> Digest:
        """The digest of the bytes that a hash object has hashed.

        Args:
            algorithm: the algorithm of the hash object, `sha256` or `sha512`.
            hasher: the hash object.
        """
        return cls(f"{algorithm}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> str:
        """The part before the colon, such as `sha256`."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The part after the colon: lower-case hex digits for sha256 and sha512."""
        return self.partition(":")[2]

    def hasher(self) -> Hasher:
        """Make a hash object for this digest's algorithm.

        Raises:
            DigestInvalid: the algorithm is neither sha256 nor sha512.
        """
        return new_hasher(self.algorithm)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


def new_hasher(algorithm: str) -> Hasher:
    """Make a hash object for a digest algorithm.

    Args:
        algorithm: `sha256` or `sha512`.

    Raises:
        DigestInvalid: the algorithm is neither sha256 nor sha512.
    """
    if algorithm not in _HEX:
        raise DigestInvalid(
            f"digest algorithm {algorithm!r} is not supported; use sha256 or sha512"
        )
    return hashlib.new(algorithm)


def check_repository(name: str) -> str:
    """Check the syntax of a repository name, and return the name.

    Raises:
        NameInvalid: the name is not made of lower-case components joined by `/`, or it exceeds
            255 characters.
    """
    if not isinstance(name, str) or len(name) > 255 or not _REPOSITORY.fullmatch(name):
        raise NameInvalid(
            f"{_quoted(name)} is not a repository name: lower-case letters and digits, joined by "
            "'.', '_', '__' or '-', in components separated by '/', 255 characters at most"
        )
    return name


def check_tag(tag: str) -> str:
    """Check the syntax of a tag, and return the tag.

    Raises:
        TagInvalid: the tag is not 1 to 128 characters of `[A-Za-z0-9_.-]`, or it starts with `.`
            or `-`.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise TagInvalid(
            f"{_quoted(tag)} is not a tag: 1 to 128 letters, digits, '_', '.' or '-', "
            "not starting with '.' or '-'"
        )
    return tag


def check_reference(reference: str) -> str:
    """Check the syntax of a reference: a digest if it has a colon, otherwise a tag.

    Returns:
        The digest as a `Digest`, or the tag.

    Raises:
        TagInvalid: the reference has no colon, and is not a tag.
        DigestInvalid: the reference has a colon, and is not a digest.
    """
    if isinstance(reference, str) and ":" in reference:
        return Digest(reference)
    return check_tag(reference)


def _quoted(value: object) -> str:
    """The repr of a value, shortened for an error message."""
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}…"


def check_digest(expected: Digest, actual: Digest, subject: str) -> None:
    """Raise an error if two digests differ.

    Args:
        expected: the digest that was requested or announced.
        actual: the digest that was computed from the bytes.
        subject: the start of the error's message, such as `repository a/b: the manifest`.

    Raises:
        DigestMismatch: the digests differ.
    """
    if actual != expected:
        raise DigestMismatch(
            f"{subject} has the digest {actual}, not {expected}", expected=expected, actual=actual
        )


def check_hash(expected: Digest, hasher: Hasher, subject: str) -> None:
    """Raise an error if hashed bytes do not have a digest; see `check_digest`.

    Args:
        expected: the digest that was requested.
        hasher: a hash object of its algorithm, which has hashed the bytes.
        subject: the start of the error's message.

    Raises:
        DigestMismatch: the bytes have another digest.
    """
    check_digest(expected, Digest.of_hash(expected.algorithm, hasher), subject)
