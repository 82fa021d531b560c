"""Patterns that select tags, and the tags of signatures and referrers.

Follows: OCI Distribution Specification 1.1, "Referrers Tag Schema".
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from dockhand_core.errors import TagPatternInvalid
from dockhand_core.models import Digest

__all__ = ["TagPatterns", "is_signature_tag", "signature_prefix", "signed_by_tag"]

_MAX_LENGTH = 1000  # characters of a pattern
# The characters of tags, and those with a meaning in a glob.
_GLOB = re.compile(r"(?:[A-Za-z0-9_.\-*?]|\[[!^]?[A-Za-z0-9_.\-]+\])+")
_SIGNATURE = re.compile(r"(sha256|sha512)-([0-9a-f]{64})(?![0-9a-f]).*")


class TagPatterns:
    """Patterns of tags; a tag matches if one of them matches the whole tag.

    A pattern is a glob in which `*` stands for any characters, `?` for one and `[…]` for one of a
    set, such as `v1.*`; or `re:` and a regular expression, such as `re:v\\d+`. Upper and lower case
    differ.

    Args:
        patterns: the patterns.
        argument: name of the argument with the patterns, for errors.

    Raises:
        TagPatternInvalid: a pattern is neither; the message names it.
    """

    def __init__(self, patterns: Iterable[str], argument: str = "tags") -> None:
        if isinstance(patterns, str | bytes) or not isinstance(patterns, Iterable):
            raise TagPatternInvalid(
                f"{argument} has to be a list of patterns, such as ['v*'], not {patterns!r:.100}"
            )
        self.patterns: tuple[str, ...] = tuple(patterns)
        # Patterns without a wildcard are looked up, since there may be thousands.
        self._places: dict[str, int] = {}
        self._wildcards: list[tuple[int, re.Pattern[str]]] = []
        for place, pattern in enumerate(self.patterns):
            compiled = _compiled(pattern, argument)
            if pattern.startswith("re:") or any(character in "*?[" for character in pattern):
                self._wildcards.append((place, compiled))
            else:
                self._places.setdefault(pattern, place)

    def match(self, tag: str) -> str | None:
        """The first pattern that matches a tag, or None."""
        found = self._places.get(tag, len(self.patterns))
        for place, compiled in self._wildcards:
            if place > found:
                break
            if compiled.fullmatch(tag):
                return self.patterns[place]
        return tag if tag in self._places else None

    def __bool__(self) -> bool:
        return bool(self.patterns)


def _compiled(pattern: object, argument: str) -> re.Pattern[str]:
    if not isinstance(pattern, str) or not pattern or len(pattern) > _MAX_LENGTH:
        raise TagPatternInvalid(
            f"{argument}: {pattern!r:.100} is not a pattern of tags; a glob such as 'v*' is "
            "expected, or 're:' and a regular expression"
        )
    if pattern.startswith("re:"):
        try:
            return re.compile(pattern[3:])
        except (re.error, OverflowError, RecursionError) as error:
            raise TagPatternInvalid(
                f"{argument}: {pattern!r:.100} is not a regular expression: {error}"
            ) from None
    if not _GLOB.fullmatch(pattern):
        raise TagPatternInvalid(
            f"{argument}: the glob {pattern!r:.100} matches no tag; it may have letters, digits, "
            "'_', '.', '-', '*', '?' and sets such as [0-9]; a regular expression begins with 're:'"
        )
    try:
        return re.compile(fnmatch.translate(pattern.replace("[^", "[!")))
    except re.error as error:
        raise TagPatternInvalid(
            f"{argument}: the glob {pattern!r:.100} has a wrong set: {error}"
        ) from None


def is_signature_tag(tag: str) -> bool:
    """Whether a tag has the form `sha256-<64 hex digits>`, with or without a suffix.

    Such tags are the referrers tag of a manifest, and cosign's tags of signatures, attestations and
    SBOMs, such as `sha256-….sig`. Tags for a sha512 digest have 64 digits of it.
    """
    return _SIGNATURE.fullmatch(tag) is not None


def signed_by_tag(tag: str) -> str | None:
    """The part of a signature tag that names its subject, as `signature_prefix` returns it.

    Returns:
        the part; None if the tag is not a signature tag.
    """
    found = _SIGNATURE.fullmatch(tag)
    return f"{found[1]}-{found[2]}" if found else None


def signature_prefix(digest: Digest) -> str:
    """The beginning of all signature tags of a manifest, which is also its referrers tag."""
    return f"{digest.algorithm[:32]}-{digest.encoded[:64]}"
