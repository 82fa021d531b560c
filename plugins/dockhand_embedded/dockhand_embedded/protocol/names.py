"""Which names, tags and digests a registry lets in.

Written again here, though the client has such checks too: a registry that shared the client's
idea of a name could not show that idea wrong. What passes here holds no `..`, no NUL, no upper
case and no path separator beside `/`, so it can stand in a path of the file system.

Follows: OCI Distribution Specification 1.1, "Pulling manifests"; OCI Image Specification 1.1,
"Digests".
"""

from __future__ import annotations

import re

from dockhand_embedded.protocol.messages import Refused

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
ALGORITHMS = ("sha256", "sha512")
NAME_LIMIT = 255


def is_name(text: str) -> bool:
    """Whether a repository can have this name."""
    return len(text) <= NAME_LIMIT and _NAME.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether this is a legal tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether this is a complete sha256 or sha512 digest."""
    return _DIGEST.fullmatch(text) is not None


def check_name(text: str) -> str:
    """The name itself, or the refusal NAME_INVALID."""
    if not is_name(text):
        raise Refused(400, "NAME_INVALID", "invalid repository name", {"name": text[:300]})
    return text


def check_digest(text: str) -> str:
    """The digest itself, or the refusal DIGEST_INVALID."""
    if not is_digest(text):
        raise Refused(
            400,
            "DIGEST_INVALID",
            "not a sha256 or sha512 digest in lower-case hex",
            {"digest": text[:300]},
        )
    return text


def check_tag(text: str) -> str:
    """The tag itself, or the refusal TAG_INVALID."""
    if not is_tag(text):
        raise Refused(400, "TAG_INVALID", "invalid tag", {"tag": text[:300]})
    return text


def check_reference(text: str) -> str:
    """A tag or a digest; whatever has a colon is meant as a digest."""
    return check_digest(text) if ":" in text else check_tag(text)
