"""Scopes: what a request needs, and what a token grants.

Follows: Distribution's "Token Scope Documentation" (`type:name:action[,action…]`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dockhand_core.errors import ScopeInvalid

__all__ = ["Scope"]

_TYPE = re.compile(r"[a-z0-9]+(\([a-z0-9]+\))?")
_NAME = re.compile(r"[A-Za-z0-9._/:\-]*")  # an empty name is what zot asks for to list
_ACTION = re.compile(r"[a-z]+|\*")
_ORDER = {"pull": 0, "push": 1, "delete": 2, "*": 99}


@dataclass(frozen=True, slots=True)
class Scope:
    """A resource and the actions on it.

    Args:
        type: the kind of resource: `repository`, `registry`.
        name: the resource's name, such as `library/nginx`.
        actions: `pull`, `push`, `delete`, `*` …; order and repetition do not matter.

    Raises:
        ScopeInvalid: a part has characters that a scope cannot carry.
    """

    type: str
    name: str
    actions: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "actions", frozenset(self.actions))
        if not _TYPE.fullmatch(self.type):
            raise ScopeInvalid(f"scope type {self.type!r} is not a lower-case word")
        if not _NAME.fullmatch(self.name):
            raise ScopeInvalid(f"scope name {self.name!r} has characters that a scope cannot carry")
        for action in self.actions:
            if not _ACTION.fullmatch(action):
                raise ScopeInvalid(f"scope action {action!r} is neither a lower-case word nor '*'")

    @classmethod
    def parse(cls, text: str) -> Scope:
        """The scope that `type:name:action[,action…]` says.

        Raises:
            ScopeInvalid: the text is not of that form.
        """
        kind, _, rest = text.partition(":")
        name, colon, actions = rest.rpartition(":")  # a name may hold a port: host:5000/app
        if not colon:
            raise ScopeInvalid(f"{text!r} is not a scope: type:name:action[,action…] is expected")
        return cls(kind, name, frozenset(a for a in actions.split(",") if a))

    @classmethod
    def parse_many(cls, text: str) -> tuple[Scope, ...]:
        """The scopes of a space-separated list; an empty text has none.

        Raises:
            ScopeInvalid: one of them is not a scope.
        """
        return tuple(cls.parse(part) for part in text.split())

    @staticmethod
    def merged(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
        """Each resource once, with all the actions named for it; those without any are left out."""
        found: dict[tuple[str, str], Scope] = {}
        for scope in scopes:
            key = scope.type, scope.name
            found[key] = found[key].allow(scope.actions) if key in found else scope
        return tuple(scope for scope in found.values() if scope)

    @classmethod
    def repository(cls, name: str, *actions: str) -> Scope:
        """A repository, with no action yet unless some are given."""
        return cls("repository", name, frozenset(actions))

    @classmethod
    def read(cls, repository: str) -> Scope:
        """Pull from a repository."""
        return cls.repository(repository, "pull")

    @classmethod
    def write(cls, repository: str) -> Scope:
        """Pull and push, since registries refuse push alone."""
        return cls.repository(repository, "pull", "push")

    @classmethod
    def catalog(cls) -> Scope:
        """List repositories; registries want the action to be literally `*`."""
        return cls("registry", "catalog", frozenset("*"))

    def allow(self, actions: Iterable[str]) -> Scope:
        """This scope with more actions."""
        return Scope(self.type, self.name, self.actions | frozenset(actions))

    def allow_pull(self) -> Scope:
        """This scope with `pull`."""
        return self.allow(["pull"])

    def allow_push(self) -> Scope:
        """This scope with `push`."""
        return self.allow(["push"])

    def allow_delete(self) -> Scope:
        """This scope with `delete`."""
        return self.allow(["delete"])

    def allow_all(self) -> Scope:
        """This scope with `*`, which stands for every action."""
        return self.allow(["*"])

    def _has(self, action: str) -> bool:
        return action in self.actions or "*" in self.actions

    @property
    def has_pull(self) -> bool:
        """Whether pulling is among the actions."""
        return self._has("pull")

    @property
    def has_push(self) -> bool:
        """Whether pushing is among the actions."""
        return self._has("push")

    @property
    def has_delete(self) -> bool:
        """Whether deleting is among the actions."""
        return self._has("delete")

    def covers(self, other: Scope) -> bool:
        """Whether who holds this scope may do all that the other one names."""
        same = (self.type, self.name) == (other.type, other.name)
        return same and all(self._has(action) for action in other.actions)

    def __and__(self, other: Scope) -> Scope:
        """What both allow; no action where they speak of different resources."""
        if (self.type, self.name) != (other.type, other.name):
            return Scope(self.type, self.name)
        if "*" in self.actions and "*" not in other.actions:
            return other
        if "*" in other.actions and "*" not in self.actions:
            return self
        return Scope(self.type, self.name, self.actions & other.actions)

    def __bool__(self) -> bool:
        """Whether there is any action."""
        return bool(self.actions)

    def __str__(self) -> str:
        actions = sorted(self.actions, key=lambda a: (_ORDER.get(a, 50), a))
        return f"{self.type}:{self.name}:{','.join(actions)}"
