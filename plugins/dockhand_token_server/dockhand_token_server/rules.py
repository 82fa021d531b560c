"""Rules: the scopes that they grant to an identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dockhand_core import Identity, Scope
from dockhand_token_server.patterns import is_repository_name
from dockhand_token_server.settings import Rule

__all__ = ["Rules", "intersection"]

_REPOSITORY = "repository"


class Rules:
    """The rules and groups of the settings.

    Args:
        rules: each matching rule adds its actions; without a matching rule nothing is granted.
        groups: the members of each group, in addition to the groups that plugins name.
    """

    def __init__(self, rules: Iterable[Rule], groups: Mapping[str, Iterable[str]]) -> None:
        self._rules = [
            (rule, rule.type or _REPOSITORY, rule.pattern, rule.actions) for rule in rules
        ]
        self._groups = {name: frozenset(members) for name, members in groups.items()}

    def with_groups(self, identity: Identity) -> Identity:
        """Add the groups of the settings that list a user to the groups of the identity."""
        if identity.anonymous:
            return identity
        added = {name for name, members in self._groups.items() if identity.name in members}
        return Identity(identity.name, identity.groups | added) if added else identity

    def grant(self, identity: Identity, scopes: Iterable[Scope]) -> tuple[Scope, ...]:
        """Narrow scopes to the actions that the rules allow; scopes without any are left out."""
        granted = (scope & self._allowed(identity, scope) for scope in scopes)
        return tuple(scope for scope in granted if scope)

    def _allowed(self, identity: Identity, scope: Scope) -> Scope:
        """The scope of the same resource with all actions that the rules allow."""
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
    """The scopes with the actions that are both granted and in a plugin's answer."""
    answered = {(scope.type, scope.name): scope for scope in Scope.merged(answer)}
    common = (
        scope & answered[scope.type, scope.name]
        for scope in granted
        if (scope.type, scope.name) in answered
    )
    return tuple(scope for scope in common if scope)
