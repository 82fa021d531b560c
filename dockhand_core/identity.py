"""Who asks a token endpoint for a token."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

__all__ = ["Identity"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Whoever asks, proved to be so.

    Args:
        name: the user's name; empty for an anonymous client.
        groups: the groups that they are in.
    """

    name: str
    groups: AbstractSet[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", frozenset(self.groups))

    @property
    def anonymous(self) -> bool:
        """Whether nobody logged in."""
        return not self.name
