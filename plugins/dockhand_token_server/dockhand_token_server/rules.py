"""Evaluation of rules, which grant scopes to users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dockhand_core import Identity, Scope
from dockhand_token_server.patterns import is_repository_name
from dockhand_token_server.settings import Rule

__all__ = ["Rules", "intersection"]

_REPOSITORY = "repository"


class Rules:
    """The rules and groups in the settings, which decide the scopes that a user gets.

    Args:
        rules: the rules. Each matching rule adds its actions; if no rule matches, nothing is
            granted.
        groups: the members of each group. Plugins can add a user to more groups.
    """

    def __init__(self, rules: Iterable[Rule], groups: Mapping[str, Iterable[str]]) -> None:
        self._rules = [
            (rule, rule.type or _REPOSITORY, rule.pattern, rule.actions) for rule in rules
        ]
        self._groups = {name: frozenset(members) for name, members in groups.items()}

    def with_groups(self, identity: Identity) -> Identity:
        """Return the identity of a user, with the user's groups from the settings added."""
        if identity.anonymous:
            return identity
        added = {name for name, members in self._groups.items() if identity.name in members}
        return Identity(identity.name, identity.groups | added) if added else identity

    def grant(self, identity: Identity, scopes: Iterable[Scope]) -> tuple[Scope, ...]:
        """Narrow scopes to the allowed actions; leave out scopes without an allowed action."""
        granted = (scope & self._allowed(identity, scope) for scope in scopes)
        return tuple(scope for scope in granted if scope)

    def _allowed(self, identity: Identity, scope: Scope) -> Scope:
        """Return a scope of all actions that the rules allow on the resource of `scope`."""
        actions: set[str] = set()
        if scope.type != _REPOSITORY or not scope.name or is_repository_name(scope.name):
            for rule, resource_type, pattern, allowed in self._rules:
                if (
                    resource_type == scope.type
                    and _applies_to(rule, identity)
                    and pattern.matches(scope.name, identity.name)
                ):
                    actions |= allowed
        return Scope(scope.type, scope.name, frozenset(actions))


def _applies_to(rule: Rule, identity: Identity) -> bool:
    if rule.group is not None:
        return not identity.anonymous and rule.group in identity.groups
    if rule.user == "*":
        return not identity.anonymous
    return rule.user == identity.name


def intersection(granted: Sequence[Scope], answer: Iterable[Scope]) -> tuple[Scope, ...]:
    """Narrow the granted scopes to the actions that are also in a plugin's answer."""
    answered = {(scope.type, scope.name): scope for scope in Scope.merged(answer)}
    common = (
        scope & answered[scope.type, scope.name]
        for scope in granted
        if (scope.type, scope.name) in answered
    )
    return tuple(scope for scope in common if scope)
