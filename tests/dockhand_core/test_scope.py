"""Scopes: parsing, construction and comparison."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockhand_core import Scope, ScopeInvalid

TYPES = st.from_regex(r"\A[a-z0-9]{1,6}(\([a-z0-9]{1,4}\))?\Z")
NAMES = st.from_regex(r"\A[A-Za-z0-9._/-]{0,12}(:[0-9]{1,4}/[a-z]{1,3})?\Z")
ACTIONS = st.frozensets(
    st.sampled_from(["pull", "push", "delete", "*", "other"]) | st.from_regex(r"\A[a-z]{1,5}\Z"),
    max_size=4,
)
SCOPES = st.builds(Scope, TYPES, NAMES, ACTIONS)
# few resources, so that two scopes often name the same one
SIMILAR_SCOPES = st.builds(
    Scope,
    st.sampled_from(["repository", "registry"]),
    st.sampled_from(["a", "b"]),
    st.frozensets(st.sampled_from(["pull", "push", "delete", "*"])),
)


class TestParse:
    def test_parts_of_a_scope(self) -> None:
        scope = Scope.parse("repository:library/nginx:pull,push")
        assert (scope.type, scope.name) == ("repository", "library/nginx")
        assert scope.actions == {"pull", "push"}
        assert (scope.has_pull, scope.has_push, scope.has_delete) == (True, True, False)
        assert str(scope) == "repository:library/nginx:pull,push"
        assert scope == Scope.repository("library/nginx").allow_pull().allow_push()

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("registry:catalog:*", ("registry", "catalog", {"*"})),
            ("repository(plugin):a/b:pull", ("repository(plugin)", "a/b", {"pull"})),
            ("repository:host:5000/app:pull", ("repository", "host:5000/app", {"pull"})),
            ("repository::pull", ("repository", "", {"pull"})),
            ("repository:a:", ("repository", "a", set())),
            ("repository:a:pull,,pull,", ("repository", "a", {"pull"})),
        ],
    )
    def test_valid_texts(self, text: str, parts: tuple[str, str, set[str]]) -> None:
        scope = Scope.parse(text)
        assert (scope.type, scope.name, set(scope.actions)) == parts

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "a",
            "a:b",
            ":a:pull",
            "Repository:a:pull",
            "repository:a b:pull",
            "repository:a:Pull",
            "repository:a:pull push",
            "repository:a\n:pull",
            "repository:a:pull\n",
            'repository:a":pull',
            "repository:é:pull",
            "repository:a:**",
            "repository():a:pull",
        ],
    )
    def test_malformed_texts_are_refused(self, text: str) -> None:
        with pytest.raises(ScopeInvalid) as caught:
            Scope.parse(text)
        assert isinstance(caught.value, ValueError)
        assert str(caught.value)

    def test_space_separated_scopes(self) -> None:
        assert Scope.parse_many("a:b:pull  c:d:push\n") == (
            Scope("a", "b", frozenset({"pull"})),
            Scope("c", "d", frozenset({"push"})),
        )
        assert Scope.parse_many("") == Scope.parse_many("  ") == ()
        with pytest.raises(ScopeInvalid):
            Scope.parse_many("a:b:pull c")

    @given(SCOPES)
    def test_text_round_trip(self, scope: Scope) -> None:
        assert Scope.parse(str(scope)) == scope
        assert str(Scope.parse(str(scope))) == str(scope)
        assert Scope.parse_many(f"{scope} {scope}") == (scope, scope)
        assert pickle.loads(pickle.dumps(scope)) == scope

    @given(st.text(max_size=30) | st.text(alphabet="ab:,* ()", max_size=12))
    def test_any_text_is_a_scope_or_refused(self, text: str) -> None:
        try:
            scope = Scope.parse(text)
        except ScopeInvalid:
            return
        assert Scope.parse(str(scope)) == scope


class TestBuild:
    def test_each_step_adds_actions(self) -> None:
        scope = Scope.repository("a")
        assert (str(scope), bool(scope)) == ("repository:a:", False)
        assert (
            str(scope.allow_delete().allow_push().allow_pull()) == "repository:a:pull,push,delete"
        )
        assert str(scope.allow(["scan"]).allow_pull()) == "repository:a:pull,scan"
        assert str(scope) == "repository:a:"  # unchanged: each step returns a new scope

    def test_shorthands(self) -> None:
        assert str(Scope.read("library/nginx")) == "repository:library/nginx:pull"
        assert str(Scope.write("library/nginx")) == "repository:library/nginx:pull,push"
        assert str(Scope.catalog()) == "registry:catalog:*"
        assert str(Scope.repository("a", "push", "pull")) == "repository:a:pull,push"

    def test_a_wildcard_has_every_action(self) -> None:
        scope = Scope.repository("a").allow_all()
        assert (scope.has_pull, scope.has_push, scope.has_delete) == (True, True, True)

    @pytest.mark.parametrize("name", ["a b", 'a"', "a,b", "ü", "a\n"])
    def test_disallowed_characters_are_refused(self, name: str) -> None:
        with pytest.raises(ScopeInvalid):
            Scope.read(name)

    def test_scopes_are_frozen_and_hashable(self) -> None:
        scope = Scope.read("a")
        assert len({scope, Scope.parse(str(scope))}) == 1
        with pytest.raises(dataclasses.FrozenInstanceError):
            scope.name = "b"  # type: ignore[misc]

    def test_the_order_of_actions_does_not_matter(self) -> None:
        assert Scope.parse("a:b:push,pull") == Scope.parse("a:b:pull,push")
        assert str(Scope.parse("a:b:*,zip,delete,push,pull")) == "a:b:pull,push,delete,zip,*"


class TestCompare:
    @pytest.mark.parametrize(
        ("one", "other", "covers"),
        [
            ("a:b:pull,push", "a:b:pull", True),
            ("a:b:pull", "a:b:pull,push", False),
            ("a:b:*", "a:b:pull,push,delete,scan", True),
            ("a:b:pull,push,delete", "a:b:*", False),
            ("a:b:pull", "a:c:pull", False),
            ("a:b:pull", "c:b:pull", False),
            ("a:b:pull", "a:b:", True),
            ("a:b:", "a:b:pull", False),
        ],
    )
    def test_covers(self, one: str, other: str, covers: bool) -> None:
        assert Scope.parse(one).covers(Scope.parse(other)) is covers

    @pytest.mark.parametrize(
        ("one", "other", "both"),
        [
            ("a:b:pull,push", "a:b:push,delete", "a:b:push"),
            ("a:b:*", "a:b:push,delete", "a:b:push,delete"),
            ("a:b:pull", "a:b:*", "a:b:pull"),
            ("a:b:pull", "a:b:push", "a:b:"),
            ("a:b:pull", "a:c:pull", "a:b:"),
        ],
    )
    def test_intersection(self, one: str, other: str, both: str) -> None:
        assert str(Scope.parse(one) & Scope.parse(other)) == both

    @given(SIMILAR_SCOPES, SIMILAR_SCOPES, SIMILAR_SCOPES)
    def test_covers_is_transitive(self, a: Scope, b: Scope, c: Scope) -> None:
        assert a.covers(a)
        if a.covers(b) and b.covers(c):
            assert a.covers(c)
        if a.covers(b) and b.covers(a):
            assert {a.has_pull, a.has_push, a.has_delete} == {b.has_pull, b.has_push, b.has_delete}

    @given(SIMILAR_SCOPES, SIMILAR_SCOPES, SIMILAR_SCOPES)
    def test_intersection_is_the_largest_scope_that_both_cover(
        self, a: Scope, b: Scope, c: Scope
    ) -> None:
        both = a & b
        same = (a.type, a.name) == (b.type, b.name)
        assert a.covers(both)
        assert b.covers(both) or not same
        assert bool(both) <= same
        if same:
            assert both == b & a
            if a.covers(c) and b.covers(c):
                assert both.covers(c)
        if a.covers(b):
            assert both.covers(b)
        assert a & a == a

    @given(SIMILAR_SCOPES)
    def test_intersection_of_different_resources_is_empty(self, a: Scope) -> None:
        assert not (a & Scope("other", "x", frozenset("*")))
