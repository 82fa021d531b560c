"""Scopes: a resource, and the actions on it that a request needs or a token grants.

Follows: Distribution's "Token Scope Documentation" (`type:name:action[,action…]`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dockhand_core.errors import ScopeInvalid

__all__ = ["Scope"]

_TYPE = re.compile(r"[a-z0-9]+(\([a-z0-9]+\))?")
# The name may be empty: zot's scope for lists and searches is a repository with an empty name.
_NAME = re.compile(r"[A-Za-z0-9._/:\-]*")
_ACTION = re.compile(r"[a-z]+|\*")
_ACTION_ORDER = {"pull": 0, "push": 1, "delete": 2, "*": 99}


@dataclass(frozen=True, slots=True)
class Scope:
    """A resource and the actions on it.

    Args:
        type: kind of resource, such as `repository` or `registry`.
        name: name of the resource, such as `library/nginx`.
        actions: `pull`, `push`, `delete`, `*` …; order and repetition do not matter.

    Raises:
        ScopeInvalid: a part has characters that are not allowed in a scope.
    """

    type: str
    name: str
    actions: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "actions", frozenset(self.actions))
        if not _TYPE.fullmatch(self.type):
            raise ScopeInvalid(f"scope type {self.type!r} is not a lower-case word")
        if not _NAME.fullmatch(self.name):
            raise ScopeInvalid(f"scope name {self.name!r} has characters that a scope cannot have")
        for action in self.actions:
            if not _ACTION.fullmatch(action):
                raise ScopeInvalid(f"scope action {action!r} is neither a lower-case word nor '*'")

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Parse `type:name:action[,action…]`.

        Raises:
            ScopeInvalid: the text is not of this form.
        """
        kind, _, rest = text.partition(":")
        name, colon, actions = rest.rpartition(":")  # a name may contain a colon: host:5000/app
        if not colon:
            raise ScopeInvalid(f"{text!r} is not a scope: type:name:action[,action…] is expected")
        return cls(kind, name, frozenset(a for a in actions.split(",") if a))

    @classmethod
    def parse_many(cls, text: str) -> tuple[Scope, ...]:
        """Parse a space-separated list of scopes; an empty text gives an empty tuple.

        Raises:
            ScopeInvalid: an entry is not a scope.
        """
        return tuple(cls.parse(part) for part in text.split())

    @staticmethod
    def merged(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
        """Merge scopes of the same resource, and drop scopes without actions."""
        merged: dict[tuple[str, str], Scope] = {}
        for scope in scopes:
            key = scope.type, scope.name
            merged[key] = merged[key].allow(scope.actions) if key in merged else scope
        return tuple(scope for scope in merged.values() if scope)

    @classmethod
    def repository(cls, name: str, *actions: str) -> Scope:
        """Make a scope for a repository, with the given actions or with none."""
        return cls("repository", name, frozenset(actions))

    @classmethod
    def read(cls, repository: str) -> Scope:
        """Make a scope for pulling from a repository."""
        return cls.repository(repository, "pull")

    @classmethod
    def write(cls, repository: str) -> Scope:
        """Make a scope for pushing, with `pull` too: many registries refuse `push` alone."""
        return cls.repository(repository, "pull", "push")

    @classmethod
    def catalog(cls) -> Scope:
        """Make a scope for listing repositories; most registries require exactly the action `*`."""
        return cls("registry", "catalog", frozenset("*"))

    def allow(self, actions: Iterable[str]) -> Scope:
        """Return a copy of this scope with the given actions added."""
        return Scope(self.type, self.name, self.actions | frozenset(actions))

    def allow_pull(self) -> Scope:
        """Return a copy of this scope with `pull` added."""
        return self.allow(["pull"])

    def allow_push(self) -> Scope:
        """Return a copy of this scope with `push` added."""
        return self.allow(["push"])

    def allow_delete(self) -> Scope:
        """Return a copy of this scope with `delete` added."""
        return self.allow(["delete"])

    def allow_all(self) -> Scope:
        """Return a copy of this scope with `*` added, which stands for every action."""
        return self.allow(["*"])

    def _has(self, action: str) -> bool:
        return action in self.actions or "*" in self.actions

    @property
    def has_pull(self) -> bool:
        """Whether the scope allows pulling, through `pull` or `*`."""
        return self._has("pull")

    @property
    def has_push(self) -> bool:
        """Whether the scope allows pushing, through `push` or `*`."""
        return self._has("push")

    @property
    def has_delete(self) -> bool:
        """Whether the scope allows deleting, through `delete` or `*`."""
        return self._has("delete")

    def covers(self, other: Scope) -> bool:
        """Whether this scope is of the same resource as `other`, and allows all actions of it."""
        same_resource = (self.type, self.name) == (other.type, other.name)
        return same_resource and all(self._has(action) for action in other.actions)

    def __and__(self, other: Scope) -> Scope:
        """Return a scope of the actions that both allow; it is empty if the resources differ."""
        if (self.type, self.name) != (other.type, other.name):
            return Scope(self.type, self.name)
        if "*" in self.actions and "*" not in other.actions:
            return other
        if "*" in other.actions and "*" not in self.actions:
            return self
        return Scope(self.type, self.name, self.actions & other.actions)

    def __bool__(self) -> bool:
        """Whether the scope has any action."""
        return bool(self.actions)

    def __str__(self) -> str:
        actions = sorted(self.actions, key=lambda a: (_ACTION_ORDER.get(a, 50), a))
        return f"{self.type}:{self.name}:{','.join(actions)}"
