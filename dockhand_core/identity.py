"""Identities: the clients of a token endpoint, authenticated or anonymous."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

__all__ = ["Identity"]


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated user, or an anonymous client.

    Args:
        name: name of the user; empty for an anonymous client.
        groups: names of the groups that the user belongs to.
    """

    name: str
    groups: AbstractSet[str] = frozenset()

    def __post_init__(self) -> None:
        if isinstance(self.groups, str | bytes):
            raise TypeError("groups must be a set of names, not a single string")
        object.__setattr__(self, "groups", frozenset(self.groups))

    @property
    def anonymous(self) -> bool:
        """Whether the client has not logged in."""
        return not self.name
