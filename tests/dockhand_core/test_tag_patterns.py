"""Patterns of tags, and the tags of signatures."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dockhand_core import Digest, DockhandError, TagPatternInvalid
from dockhand_core.operations.tag_patterns import (
    TagPatterns,
    is_signature_tag,
    signature_prefix,
    signed_by_tag,
)

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*", ["latest", "v1"], []),
        ("v1.*", ["v1.0", "v1."], ["v10", "av1.0", "V1.0"]),
        ("v?", ["v1"], ["v", "v10"]),
        ("v[0-9]", ["v1"], ["va", "v"]),
        ("v[!0-9]", ["va"], ["v1"]),
        ("v[^0-9]", ["va"], ["v1"]),
        ("latest", ["latest"], ["latest-1"]),
        (r"re:v\d+", ["v1", "v123"], ["v1-rc", "av1"]),
        (r"re:^pr-\d+$", ["pr-7"], ["pr-x"]),
        ("re:main|dev", ["main", "dev"], ["main-2", "xdev"]),
    ],
)
def test_a_pattern_matches_the_whole_tag(
    pattern: str, matching: list[str], others: list[str]
) -> None:
    patterns = TagPatterns([pattern])
    assert [patterns.match(tag) for tag in matching] == [pattern] * len(matching)
    assert [patterns.match(tag) for tag in others] == [None] * len(others)


def test_the_first_pattern_that_matches_is_returned() -> None:
    patterns = TagPatterns(["a*", "*b"])
    assert (patterns.match("ab"), patterns.match("xb"), patterns.match("x")) == ("a*", "*b", None)


@pytest.mark.parametrize(
    "patterns",
    [
        *("*", b"*", None, 7),
        *([""], [None], [7], ["a b"], ["v1,v2"], ["{a,b}"], ["a/b"], ["a:b"], ["x" * 1001]),
        *(["v[0-9"], ["v[]"], ["re:("], ["re:[z-a]"]),
    ],
)
def test_a_wrong_pattern_is_refused_by_name(patterns: Any) -> None:
    with pytest.raises(TagPatternInvalid, match="keep"):
        TagPatterns(patterns, "keep")
    assert issubclass(TagPatternInvalid, DockhandError)


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom", "-x", "_x", ".sig.backup"])
def test_signature_tags_name_their_subject(suffix: str) -> None:
    tag = f"sha256-{HEX}{suffix}"
    assert is_signature_tag(tag)
    assert signed_by_tag(tag) == f"sha256-{HEX}" == signature_prefix(Digest(f"sha256:{HEX}"))


def test_a_referrers_tag_of_sha512_has_64_digits() -> None:
    digest = Digest(f"sha512:{HEX}{HEX}")
    assert is_signature_tag(signature_prefix(digest))


@pytest.mark.parametrize(
    "tag", ["latest", "sha256", f"sha256-{HEX[:63]}", f"sha256-{HEX}0", f"xsha256-{HEX}",
            f"sha256-{HEX[:63]}G", f"sha1-{HEX}"]
)  # fmt: skip
def test_other_tags_are_no_signature_tags(tag: str) -> None:
    assert not is_signature_tag(tag)
    assert signed_by_tag(tag) is None


def test_the_first_pattern_that_matches_is_named() -> None:
    patterns = TagPatterns(["w*", "v1", "v*", "v2", "re:.*9", "x9"])
    found = {tag: patterns.match(tag) for tag in ("v1", "v2", "w", "x9", "y9", "y")}
    assert found == {"v1": "v1", "v2": "v*", "w": "w*", "x9": "re:.*9", "y9": "re:.*9", "y": None}


def test_thousands_of_tags_as_patterns_take_little_time() -> None:
    patterns = TagPatterns([f"v{n}" for n in range(10_000)])
    start = time.process_time()
    assert not any(patterns.match(f"w{n}") for n in range(10_000))
    assert time.process_time() - start < 3
