"""Patterns for the names of repositories, as rules have them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dockhand_core.models import check_repository

__all__ = ["Pattern"]

_USER = "{user}"
_ANY = "*"
_ANY_NUMBER = "**"
_LITERAL = re.compile(r"[A-Za-z0-9._:-]+")


@dataclass(frozen=True, slots=True)
class Pattern:
    """Names, component by component.

    `*` stands for one path component, `**` for any number of them, none included. `{user}` is the
    name of whoever asks, taken literally, and matches only where that name could be a component of
    a repository's name: neither `a/b` nor `*` as a user's name makes the pattern wider.
    """

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """The pattern that a text is; an empty one matches the empty name alone.

        Raises:
            ValueError: it matches nothing, or not what it looks like.
        """
        parts = tuple(text.split("/"))
        for part in parts if text else ():
            if part in {_ANY, _ANY_NUMBER}:
                continue
            if _ANY in part:
                raise ValueError(
                    f"{part!r} in {text!r}: '*' stands for a whole path component, '**' for any "
                    "number of them; neither is a part of one"
                )
            plain = part.replace(_USER, "u")
            if not _LITERAL.fullmatch(plain):
                hint = f"; the only name in braces is {_USER}" if "{" in plain else ""
                raise ValueError(f"{text!r}: {part!r} is no part of any name{hint}")
        return cls(parts)

    def matches(self, name: str, user: str) -> bool:
        """Whether a name is among those that the pattern describes for a user."""
        if not name:
            return self.parts == ("",)
        expected, given = self.parts, name.split("/")
        here = there = 0  # in `expected` and in `given`
        star, taken = -1, 0  # the last `**`, and where what it takes ends
        while there < len(given):
            if here < len(expected) and expected[here] == _ANY_NUMBER:
                star, taken = here, there
                here += 1
            elif here < len(expected) and _fits(expected[here], given[there], user):
                here, there = here + 1, there + 1
            elif star >= 0:  # it takes one more component
                taken += 1
                here, there = star + 1, taken
            else:
                return False
        return all(part == _ANY_NUMBER for part in expected[here:])


def _fits(expected: str, given: str, user: str) -> bool:
    if expected == _ANY:
        return bool(given)
    if _USER not in expected:
        return given == expected
    return is_component(user) and given == expected.replace(_USER, user)


def is_component(text: str) -> bool:
    """Whether a repository's name can have this as one of its components."""
    return "/" not in text and is_repository(text)


def is_repository(text: str) -> bool:
    """Whether a repository can have this name."""
    try:
        check_repository(text)
    except ValueError:
        return False
    return True
