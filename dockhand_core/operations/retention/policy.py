"""The policy of a retention plan: the tags in question, and the rules that keep tags."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from dockhand_core.errors import DigestInvalid, RetentionPolicyInvalid
from dockhand_core.models import Digest
from dockhand_core.operations.tag_patterns import TagPatterns

__all__ = ["Duration", "RetentionPolicy", "parse_duration"]

Duration: TypeAlias = float | str | timedelta

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([a-z]*)")
_SECONDS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST = 365 * 100 * 86400  # seconds


def parse_duration(value: Duration, argument: str) -> timedelta:
    """Convert a duration.

    Args:
        value: a number of seconds, a text such as `"36h"`, `"30d"` or `"8w"` (units: s, min, h, d,
            w), or a `timedelta`.
        argument: name of the argument, for errors.

    Raises:
        RetentionPolicyInvalid: the value has another form, or is not between 0 and 100 years.
    """
    seconds = math.nan
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        found = _DURATION.fullmatch(value.strip())
        if found and found[2] in ("m", "mo", "y"):
            raise RetentionPolicyInvalid(
                f"{argument}: the unit of {value!r} is ambiguous; use min, h, d or w, such as '30d'"
            )
        if found and found[2] in _SECONDS:
            seconds = float(found[1]) * _SECONDS[found[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) <= _LONGEST else math.nan
    if not 0 < seconds <= _LONGEST:
        raise RetentionPolicyInvalid(
            f"{argument}: {value!r:.100} is not a duration; a number of seconds is expected, or a "
            "text such as '36h', '30d' or '8w', between 0 and 100 years"
        )
    return timedelta(seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """The rules that decide which tags of a repository are deleted.

    The candidates are the tags that match `tags`; all others are kept. A candidate is kept if one
    of the rules below keeps it, or if it has no usable age. Patterns are globs such as `v1.*`, or
    `re:` and a regular expression for the whole tag. Tags of signatures and referrers
    (`sha256-<64 hex digits>`, with or without a suffix) are never candidates: they share the fate
    of their subject.

    Args:
        tags: patterns of the candidates. It may be empty if `untagged_older_than` is given.
        keep: patterns of candidates to keep.
        keep_last: number of digests to keep: the newest of the candidates that `keep` does not
            match. Of equal ages, the digest whose last tag in ASCII order is greater is newer.
        keep_newer_than: keep candidates that are newer than this: a number of seconds, a text such
            as `"36h"`, `"30d"` or `"8w"`, or a `timedelta`.
        protect: digests to keep, with all their tags.
        untagged_older_than: also delete manifests that are older than this, and that no tag
            reaches, no index lists and that refer to no manifest that stays. The driver must be
            able to list manifests; that of the embedded registry is.
        max_delete: if the plan has more deletions than this (see `RetentionPlan.delete`), it is
            refused.

    Raises:
        RetentionPolicyInvalid: a value is wrong, or the policy keeps no candidate at all.
        TagPatternInvalid: a pattern is wrong.
    """

    tags: Iterable[str]
    keep: Iterable[str] = ()
    keep_last: int | None = None
    keep_newer_than: Duration | None = None
    protect: Iterable[str] = ()
    untagged_older_than: Duration | None = None
    max_delete: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        candidates, kept = TagPatterns(self.tags, "tags"), TagPatterns(self.keep, "keep")
        protected = self._digests()
        set_field = object.__setattr__  # the class is frozen
        set_field(self, "tags", candidates.patterns)
        set_field(self, "keep", kept.patterns)
        set_field(self, "protect", tuple(protected))
        set_field(self, "_protected", frozenset(protected))
        set_field(self, "_candidates", candidates)
        set_field(self, "_kept", kept)
        for name in ("keep_last", "max_delete"):
            value = getattr(self, name)
            if value is not None and (
                not isinstance(value, int) or isinstance(value, bool) or value < 0
            ):
                raise RetentionPolicyInvalid(f"{name}: {value!r:.100} is not a number from 0 on")
        for name in ("keep_newer_than", "untagged_older_than"):
            value = getattr(self, name)
            set_field(self, f"_{name}", value and parse_duration(value, name))
            if value is not None and not value:
                parse_duration(value, name)  # raises
        if not candidates and self.untagged_older_than is None:
            raise RetentionPolicyInvalid(
                "tags is empty, so there is nothing to decide; name the tags in question, such as "
                "['*']"
            )
        keeps = kept or self.keep_last or self.keep_newer_than is not None or protected
        if candidates and not keeps:
            raise RetentionPolicyInvalid(
                "the policy keeps nothing at all; give keep, keep_last, keep_newer_than or protect"
            )

    def _digests(self) -> list[Digest]:
        if isinstance(self.protect, str | bytes) or not isinstance(self.protect, Iterable):
            raise RetentionPolicyInvalid(
                f"protect has to be a list of digests, not {self.protect!r:.100}"
            )
        try:
            return [Digest(digest) for digest in self.protect]
        except DigestInvalid as error:
            raise RetentionPolicyInvalid(f"protect: {error}") from None

    @property
    def candidates(self) -> TagPatterns:
        """The patterns of `tags`, compiled."""
        found: TagPatterns = self.__dict__["_candidates"]
        return found

    @property
    def kept(self) -> TagPatterns:
        """The patterns of `keep`, compiled."""
        found: TagPatterns = self.__dict__["_kept"]
        return found

    @property
    def protected(self) -> frozenset[Digest]:
        """The digests of `protect`, for look-ups."""
        found: frozenset[Digest] = self.__dict__["_protected"]
        return found

    @property
    def newest(self) -> timedelta | None:
        """`keep_newer_than` as a duration."""
        found: timedelta | None = self.__dict__["_keep_newer_than"]
        return found

    @property
    def untagged(self) -> timedelta | None:
        """`untagged_older_than` as a duration."""
        found: timedelta | None = self.__dict__["_untagged_older_than"]
        return found
