"""Retention policies: their values, and the errors that name a wrong one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dockhand_core import (
    DockhandError,
    RetentionPolicy,
    RetentionPolicyInvalid,
    TagPatternInvalid,
)
from dockhand_core.operations.retention.policy import parse_duration

DIGEST = f"sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (90, 90),
        (1.5, 1.5),
        ("90", 90),
        ("45s", 45),
        ("20min", 1200),
        ("36h", 36 * 3600),
        ("30d", 30 * 86400),
        ("1.5d", 1.5 * 86400),
        ("8w", 56 * 86400),
        (" 2 d ", 2 * 86400),
        (timedelta(days=3), 3 * 86400),
    ],
)
def test_durations(value: Any, seconds: float) -> None:
    assert parse_duration(value, "x") == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        *("", "d", "30 days", "3m", "1y", "2mo", "-3d", "0d", "1e3", "9" * 13, "٣d"),
        *(0, -1, True, float("nan"), float("inf"), 1e300, 10**400, None, [], b"3d"),
        *(timedelta(0), timedelta(days=-1), timedelta.max),
    ],
)
def test_wrong_durations_are_refused_by_name(value: Any) -> None:
    with pytest.raises(RetentionPolicyInvalid, match="keep_newer_than"):
        parse_duration(value, "keep_newer_than")


def test_minutes_and_months_are_not_confused() -> None:
    with pytest.raises(RetentionPolicyInvalid, match="ambiguous"):
        RetentionPolicy(tags=["*"], keep_newer_than="3m")


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"keep": []},
        {"keep_last": 0},
        {"keep_last": None, "keep": (), "protect": []},
        {"untagged_older_than": "1d"},
    ],
)
def test_a_policy_that_keeps_nothing_is_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(RetentionPolicyInvalid, match="keeps nothing"):
        RetentionPolicy(tags=["*"], **rules)


@pytest.mark.parametrize(
    "rules",
    [{"keep": ["v*"]}, {"keep_last": 1}, {"keep_newer_than": "1d"}, {"protect": [DIGEST]}],
)
def test_one_rule_is_enough(rules: dict[str, Any]) -> None:
    policy = RetentionPolicy(tags=["*"], **rules)
    assert policy.tags == ("*",)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"tags": ["*"], "keep_last": -1}, "keep_last"),
        ({"tags": ["*"], "keep_last": True}, "keep_last"),
        ({"tags": ["*"], "keep_last": "10"}, "keep_last"),
        ({"tags": ["*"], "keep_last": 1.5}, "keep_last"),
        ({"tags": ["*"], "keep_last": 1, "max_delete": -1}, "max_delete"),
        ({"tags": ["*"], "keep_newer_than": 0}, "keep_newer_than"),
        ({"tags": ["*"], "keep_last": 1, "keep_newer_than": ""}, "keep_newer_than"),
        ({"tags": [], "untagged_older_than": "x"}, "untagged_older_than"),
        ({"tags": ["*"], "protect": DIGEST}, "protect"),
        ({"tags": ["*"], "protect": ["latest"]}, "protect"),
        ({"tags": ["*"], "protect": None}, "protect"),
        ({"tags": []}, "tags"),
    ],
)
def test_a_wrong_value_is_refused_by_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(RetentionPolicyInvalid, match=f"^{name}"):
        RetentionPolicy(**fields)


def test_a_wrong_pattern_is_refused_by_name() -> None:
    with pytest.raises(TagPatternInvalid, match="^keep: 're:\\('"):
        RetentionPolicy(tags=["*"], keep=["re:("])
    with pytest.raises(TagPatternInvalid, match="^tags"):
        RetentionPolicy(tags="*", keep_last=1)
    assert issubclass(RetentionPolicyInvalid, DockhandError)


def test_a_policy_cannot_be_changed_after_its_checks() -> None:
    policy = RetentionPolicy(tags=["*"], keep_last=1)
    with pytest.raises(AttributeError):
        policy.keep_last = 0  # type: ignore[misc]


def test_untagged_manifests_alone_need_no_tags() -> None:
    assert RetentionPolicy(tags=[], untagged_older_than="1d").untagged == timedelta(days=1)
