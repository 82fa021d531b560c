"""The patterns in rules, which match the names of repositories and other resources."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dockhand_core.models import check_repository

__all__ = ["Pattern", "is_component", "is_repository_name"]

_USER = "{user}"
_ANY = "*"
_ANY_NUMBER = "**"
_LITERAL = re.compile(r"[A-Za-z0-9._:-]+")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern for names, which are matched one path component at a time.

    `*` matches one component, and `**` matches any number of components, including none. `{user}`
    stands for the user's name, taken literally. It matches only if the user's name is valid as a
    component of a repository's name, so a user called `a/b` or `*` cannot widen the pattern.
    """

    components: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Parse a pattern. The empty pattern matches only the empty name.

        Raises:
            ValueError: a component cannot occur in a name, or contains `*` and other characters.
        """
        components = tuple(text.split("/"))
        for component in components if text else ():
            if component in {_ANY, _ANY_NUMBER}:
                continue
            if _ANY in component:
                raise ValueError(
                    f"{component!r} in {text!r}: '*' stands for one whole path component, '**' for "
                    "any number of them; neither can be part of a component"
                )
            plain = component.replace(_USER, "u")
            if not _LITERAL.fullmatch(plain):
                hint = f"; the only placeholder is {_USER}" if "{" in plain else ""
                raise ValueError(f"{text!r}: {component!r} cannot be part of a name{hint}")
        return cls(components)

    def matches(self, name: str, user: str) -> bool:
        """Whether the pattern matches a name; `user` is the name that `{user}` stands for."""
        if not name:
            return self.components == ("",)
        expected, given = self.components, name.split("/")
        e = g = 0  # positions in `expected` and `given`
        # For backtracking: the position in `expected` of the last `**` (-1 if there is none), and
        # the position in `given` after the components that this `**` matches.
        star, star_end = -1, 0
        while g < len(given):
            if e < len(expected) and expected[e] == _ANY_NUMBER:
                star, star_end = e, g
                e += 1
            elif e < len(expected) and _component_matches(expected[e], given[g], user):
                e, g = e + 1, g + 1
            elif star >= 0:  # let the last `**` match one more component
                star_end += 1
                e, g = star + 1, star_end
            else:
                return False
        return all(component == _ANY_NUMBER for component in expected[e:])


def _component_matches(expected: str, given: str, user: str) -> bool:
    if expected == _ANY:
        return bool(given)
    if _USER not in expected:
        return given == expected
    return is_component(user) and given == expected.replace(_USER, user)


def is_component(text: str) -> bool:
    """Whether a text is valid as one component of a repository's name."""
    return "/" not in text and is_repository_name(text)


def is_repository_name(text: str) -> bool:
    """Whether a text is valid as a repository's name."""
    try:
        check_repository(text)
    except ValueError:
        return False
    return True
