"""Validation of repository names, tags and digests.

The registry does not share these checks with Dockhand's client: tests of the client against this
registry would not find a mistake in shared code. A valid repository name has no `..`, no NUL, no
upper case and no path separator except `/`, so it is safe in a path of the file system.

Follows: OCI Distribution Specification 1.1, "Pulling manifests"; OCI Image Specification 1.1,
"Digests".
"""

from __future__ import annotations

import re

from dockhand_embedded.protocol.messages import RequestRejectedError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
ALGORITHMS = ("sha256", "sha512")
NAME_LIMIT = 255  # characters


def is_name(text: str) -> bool:
    """Whether the text is a valid repository name."""
    return len(text) <= NAME_LIMIT and _NAME.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether the text is a valid tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether the text is a complete sha256 or sha512 digest."""
    return _DIGEST.fullmatch(text) is not None


def check_name(text: str) -> str:
    """Return a valid repository name, or reject the request with NAME_INVALID."""
    if not is_name(text):
        raise RequestRejectedError(
            400, "NAME_INVALID", "invalid repository name", {"name": text[:300]}
        )
    return text


def check_digest(text: str) -> str:
    """Return a valid digest, or reject the request with DIGEST_INVALID."""
    if not is_digest(text):
        raise RequestRejectedError(
            400,
            "DIGEST_INVALID",
            "not a sha256 or sha512 digest in lower-case hex",
            {"digest": text[:300]},
        )
    return text


def check_tag(text: str) -> str:
    """Return a valid tag, or reject the request with TAG_INVALID."""
    if not is_tag(text):
        raise RequestRejectedError(400, "TAG_INVALID", "invalid tag", {"tag": text[:300]})
    return text


def check_reference(text: str) -> str:
    """Return a valid tag or digest, or reject the request; text with a colon must be a digest."""
    return check_digest(text) if ":" in text else check_tag(text)
