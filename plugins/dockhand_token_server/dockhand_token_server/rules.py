"""What rules grant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dockhand_core import Identity, Scope
from dockhand_token_server.patterns import is_repository
from dockhand_token_server.settings import Rule

__all__ = ["Rules", "narrowed"]

_REPOSITORY = "repository"


class Rules:
    """The rules of a configuration.

    Args:
        rules: every rule that matches adds its actions; where none does, nothing is granted.
        groups: the members of each group, beside those whom a plugin says to be in it.
    """

    def __init__(self, rules: Iterable[Rule], groups: Mapping[str, Iterable[str]]) -> None:
        self._rules = [
            (rule, rule.type or _REPOSITORY, rule.pattern, rule.actions) for rule in rules
        ]
        self._groups = {name: frozenset(members) for name, members in groups.items()}

    def member(self, identity: Identity) -> Identity:
        """The identity, with the groups that the configuration puts it in."""
        if identity.anonymous:
            return identity
        added = {name for name, members in self._groups.items() if identity.name in members}
        return Identity(identity.name, identity.groups | added) if added else identity

    def grant(self, identity: Identity, scopes: Iterable[Scope]) -> tuple[Scope, ...]:
        """What of these scopes the rules allow; none has more actions than were asked for."""
        granted = (scope & self._allowed(identity, scope) for scope in scopes)
        return tuple(scope for scope in granted if scope)

    def _allowed(self, identity: Identity, scope: Scope) -> Scope:
        actions: set[str] = set()
        if scope.type != _REPOSITORY or not scope.name or is_repository(scope.name):
            for rule, kind, pattern, allowed in self._rules:
                if (
                    kind == scope.type
                    and _is_meant(rule, identity)
                    and pattern.matches(scope.name, identity.name)
                ):
                    actions |= allowed
        return Scope(scope.type, scope.name, frozenset(actions))


def _is_meant(rule: Rule, identity: Identity) -> bool:
    if rule.group is not None:
        return not identity.anonymous and rule.group in identity.groups
    if rule.user == "*":
        return not identity.anonymous
    return rule.user == identity.name


def narrowed(granted: Sequence[Scope], answer: Iterable[Scope]) -> tuple[Scope, ...]:
    """What is both granted and in an answer."""
    there = {(scope.type, scope.name): scope for scope in Scope.merged(answer)}
    cut = (
        scope & there[scope.type, scope.name]
        for scope in granted
        if (scope.type, scope.name) in there
    )
    return tuple(scope for scope in cut if scope)
