"""Patterns of rules, and the scopes that rules grant."""

from __future__ import annotations

import itertools

import pytest
from dockhand_token_server import Rule
from dockhand_token_server.patterns import Pattern
from dockhand_token_server.rules import Rules, intersection
from hypothesis import given, settings
from hypothesis import strategies as st

from dockhand_core import Identity, Scope

ALICE, ANONYMOUS = Identity("alice"), Identity("")


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("alice/app", "alice/app", True),
        ("alice/app", "alice/apps", False),
        ("alice/*", "alice/app", True),
        ("alice/*", "alice", False),
        ("alice/*", "alice/a/b", False),
        ("alice/*", "malice/app", False),
        ("*", "app", True),
        ("*", "a/b", False),
        ("*", "", False),
        ("**", "a", True),
        ("**", "a/b/c", True),
        ("**", "", False),
        ("alice/**", "alice/a/b", True),
        ("alice/**", "alice", True),
        ("alice/**", "alice2/a", False),
        ("**/app", "app", True),
        ("**/app", "a/b/app", True),
        ("**/app", "a/app/b", False),
        ("a/**/b/*/c", "a/b/b/x/c", True),
        ("a/**/b/*/c", "a/b/x/b/c", False),
        ("**/a/**/a", "a/a", True),
        ("**/a/**/a", "a", False),
        ("", "", True),
        ("", "a", False),
        ("a.b", "axb", False),
    ],
)
def test_pattern_matches(pattern: str, name: str, matches: bool) -> None:
    assert Pattern.parse(pattern).matches(name, "alice") is matches


@pytest.mark.parametrize(
    ("user", "name", "matches"),
    [
        ("alice", "alice/app", True),
        ("alice", "bob/app", False),
        ("a.b", "a.b/app", True),
        ("a.b", "axb/app", False),
        ("*", "bob/app", False),
        ("**", "bob/app", False),
        ("", "/app", False),
        ("a/b", "a/b/app", False),
        ("{user}", "{user}/app", False),
        ("Alice", "Alice/app", False),
        ("..", "../app", False),
        ("alice@example.com", "alice@example.com/app", False),
    ],
)
def test_a_user_name_is_taken_literally(user: str, name: str, matches: bool) -> None:
    assert Pattern.parse("{user}/*").matches(name, user) is matches


def test_a_user_name_within_a_component() -> None:
    pattern = Pattern.parse("home-{user}/**")
    assert pattern.matches("home-alice/a/b", "alice")
    assert not pattern.matches("home-alice/a/b", "bob")
    assert not pattern.matches("home-a/b", "a/b")


COMPONENTS = st.sampled_from(["a", "b", "*", "**"])


def matches_by_definition(pattern: list[str], name: list[str]) -> bool:
    """Match a name by the definition of patterns, written as a simple recursion."""
    if not pattern:
        return not name
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return any(matches_by_definition(rest, name[count:]) for count in range(len(name) + 1))
    return bool(name) and first in {"*", name[0]} and matches_by_definition(rest, name[1:])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(COMPONENTS, min_size=1, max_size=6),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=6),
)
def test_patterns_match_by_definition(pattern: list[str], name: list[str]) -> None:
    found = Pattern.parse("/".join(pattern)).matches("/".join(name), "")
    assert found is matches_by_definition(pattern, name)


def test_a_pattern_of_many_stars_is_fast() -> None:
    pattern = Pattern.parse("/".join(["**/a"] * 60))
    assert not pattern.matches("/".join(["a"] * 59 + ["b"] * 60), "")


def rule(**values: object) -> Rule:
    return Rule.model_validate(values)


def granted(rules: list[Rule], identity: Identity, *scopes: str, **groups: list[str]) -> list[str]:
    known = Rules(rules, groups)
    asked = Scope.merged(Scope.parse(scope) for scope in scopes)
    return [str(scope) for scope in known.grant(known.with_groups(identity), asked)]


PULL = rule(user="alice", repository="a/*", actions=["pull"])
PUSH = rule(user="*", repository="a/b", actions=["pull", "push"])
ALL = rule(user="alice", repository="all", actions=["*"])
PUBLIC = rule(user="", repository="public/*", actions=["pull"])
CATALOG = rule(user="alice", type="registry", name="catalog", actions=["*"])


def test_every_rule_that_matches_adds_its_actions() -> None:
    rules = [PULL, PUSH]
    asked = "repository:a/b:pull,push,delete"
    assert granted(rules, ALICE, asked) == ["repository:a/b:pull,push"]
    assert granted(rules, ALICE, "repository:a/c:pull,push") == ["repository:a/c:pull"]
    assert granted(rules, Identity("bob"), "repository:a/c:pull,push") == []
    assert granted(rules, ANONYMOUS, asked) == []
    assert granted([], ALICE, asked) == []


def test_actions_never_exceed_the_request() -> None:
    assert granted([ALL], ALICE, "repository:all:pull") == ["repository:all:pull"]
    assert granted([ALL], ALICE, "repository:all:*") == ["repository:all:*"]
    assert granted([PUSH], ALICE, "repository:a/b:*") == ["repository:a/b:pull,push"]
    assert granted([PUSH], ALICE, "repository:a/b:delete") == []
    assert granted([ALL], ALICE, "repository:all:") == []


def test_each_resource_is_granted_once() -> None:
    asked = ["repository:all:pull", "repository:b:pull", "repository:all:push"]
    assert granted([ALL], ALICE, *asked) == ["repository:all:pull,push"]


def test_rules_for_anonymous_clients_apply_to_them_alone() -> None:
    asked = "repository:public/x:pull,push"
    assert granted([PUBLIC], ANONYMOUS, asked) == ["repository:public/x:pull"]
    assert granted([PUBLIC], ALICE, asked) == []
    star = rule(user="*", repository="**", actions=["pull"])
    assert granted([star], ANONYMOUS, asked) == []


def test_groups() -> None:
    rules = [rule(group="staff", repository="s/**", actions=["pull"])]
    asked = "repository:s/x/y:pull"
    assert granted(rules, ALICE, asked) == []
    assert granted(rules, ALICE, asked, staff=["alice"]) == [asked]
    assert granted(rules, ALICE, asked, staff=["bob"], other=["alice"]) == []
    # groups from a plugin count in addition to those of the settings
    assert granted(rules, Identity("eve", frozenset({"staff"})), asked, other=["eve"]) == [asked]
    # an anonymous client is in no group
    assert granted(rules, Identity("", frozenset({"staff"})), asked, staff=[""]) == []


def test_resources_other_than_repositories() -> None:
    rules = [CATALOG, rule(user="*", repository="**", actions=["*"])]
    assert granted(rules, ALICE, "registry:catalog:*") == ["registry:catalog:*"]
    assert granted(rules, Identity("bob"), "registry:catalog:*") == []
    assert granted(rules, ALICE, "registry:other:*") == []
    assert granted(rules, ALICE, "repository:catalog:pull") == ["repository:catalog:pull"]
    assert granted(rules, ALICE, "repository(plugin):catalog:pull") == []


@pytest.mark.parametrize("name", ["", "A/b", "a//b", "../a", "a/../b", "a:5000/b", "/a", "a/"])
def test_invalid_repository_names_get_nothing(name: str) -> None:
    rules = [rule(user="*", repository="**", actions=["*"])]
    assert granted(rules, ALICE, f"repository:{name}:pull") == []


def test_an_empty_name_needs_a_rule_of_its_own() -> None:
    """zot demands a scope with an empty name to list repositories."""
    rules = [rule(user="*", type="repository", name="", actions=["pull"])]
    assert granted(rules, ALICE, "repository::pull") == ["repository::pull"]
    assert granted(rules, ALICE, "repository:a:pull") == []


SCOPES = st.builds(
    Scope,
    st.just("repository"),
    st.sampled_from(["a", "b"]),
    st.frozensets(st.sampled_from(["pull", "push", "delete", "*"])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(SCOPES), st.lists(SCOPES))
def test_an_intersection_is_as_wide_as_both_allow(asked: list[Scope], answer: list[Scope]) -> None:
    before = Scope.merged(asked)
    after = intersection(before, answer)
    for scope in after:
        assert any(wide.covers(scope) for wide in before)
        assert scope.actions
    for wide, action in itertools.product(before, ["pull", "push", "delete"]):
        one = Scope(wide.type, wide.name, frozenset({action}))
        both = wide.covers(one) and any(scope.covers(one) for scope in Scope.merged(answer))
        assert both is any(scope.covers(one) for scope in after)
