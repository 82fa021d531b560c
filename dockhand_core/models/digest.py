"""Digests, and the names that end up in URLs.

Follows: OCI Image Specification 1.1, "Digests"; OCI Distribution Specification 1.1,
"Pulling manifests" (name and tag syntax).
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Protocol, TypeAlias

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dockhand_core.errors import DigestInvalid, DigestMismatch, NameInvalid, TagInvalid

__all__ = [
    "Digest",
    "Hasher",
    "check_digest",
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
    """What `hashlib` gives."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class Digest(str):
    """A digest, `algorithm:encoded`; a `str` that is known to be well-formed.

    Raises:
        DigestInvalid: the text is not a digest, or has the wrong length for its algorithm.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Digest:
        """Check a text, unless it is a digest already."""
        if isinstance(value, Digest):
            return value
        if not isinstance(value, str) or len(value) > 1024 or not _DIGEST.fullmatch(value):
            raise DigestInvalid(f"{_shown(value)} is not a digest: sha256:<64 hex digits> is")
        algorithm, _, encoded = value.partition(":")
        known = _HEX.get(algorithm)
        if known and not known.fullmatch(encoded):
            raise DigestInvalid(
                f"{_shown(value)} is not a {algorithm} digest: "
                f"{known.pattern[-4:-1].strip('{}')} lower-case hex digits are expected"
            )
        return super().__new__(cls, value)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of some bytes.

        Args:
            data: what to hash.
            algorithm: `sha256` or `sha512`.
        """
        hasher = new_hasher(algorithm)
        hasher.update(data)
        return cls(f"{algorithm}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> str:
        """What stands before the colon: `sha256`."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """What stands behind the colon: lower-case hex for sha256 and sha512."""
        return self.partition(":")[2]

    def hasher(self) -> Hasher:
        """A fresh hash object of this digest's algorithm.

        Raises:
            DigestInvalid: the algorithm is neither sha256 nor sha512.
        """
        return new_hasher(self.algorithm)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


def new_hasher(algorithm: str) -> Hasher:
    """A hash object, or DigestInvalid where the algorithm is not one of the specification's."""
    if algorithm not in _HEX:
        raise DigestInvalid(f"digest algorithm {algorithm!r} is not supported: sha256, sha512")
    return hashlib.new(algorithm)


def check_repository(name: str) -> str:
    """The name, if a registry can have a repository of that name.

    Raises:
        NameInvalid: it is not lower-case components joined by `/`, or is over 255 characters.
    """
    if not isinstance(name, str) or len(name) > 255 or not _REPOSITORY.fullmatch(name):
        raise NameInvalid(
            f"{_shown(name)} is not a repository name: lower-case letters and digits, joined by "
            "'.', '_', '__' or '-', in components separated by '/', 255 characters at most"
        )
    return name


def check_tag(tag: str) -> str:
    """The tag, if it is one.

    Raises:
        TagInvalid: it is not 1 to 128 of `[A-Za-z0-9_.-]`, or starts with `.` or `-`.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise TagInvalid(
            f"{_shown(tag)} is not a tag: 1 to 128 letters, digits, '_', '.' or '-', "
            "not starting with '.' or '-'"
        )
    return tag


Reference: TypeAlias = str


def check_reference(reference: str) -> Reference:
    """A tag, or a `Digest`, whichever the text is.

    Raises:
        TagInvalid: it is not a tag.
        DigestInvalid: it has a colon and is not a digest.
    """
    if isinstance(reference, str) and ":" in reference:
        return Digest(reference)
    return check_tag(reference)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}…"


def check_digest(expected: Digest, actual: Digest, subject: str) -> None:
    """Compare two digests.

    Args:
        expected: the digest that was asked for or announced.
        actual: the digest of the bytes.
        subject: the start of the error's message, such as `repository a/b: the manifest`.

    Raises:
        DigestMismatch: they differ.
    """
    if actual != expected:
        raise DigestMismatch(
            f"{subject} has the digest {actual}, not {expected}", expected=expected, actual=actual
        )
