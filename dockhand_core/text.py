"""Text for messages: text from other machines, made safe for a terminal, and similar names."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean", "printable", "printable_lines", "shown"]


def printable(text: str) -> str:
    r"""Escape all characters that are not printable, as in a Python string literal.

    These are control characters such as ESC, which terminals interpret, line separators, characters
    that change the direction of text (U+202E), and lone surrogates: `\x1b`, `\n`, `\u202e`.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def printable_lines(text: str) -> str:
    """As `printable`, but keep the line feeds, for text that may have several lines."""
    return "\n".join(map(printable, text.split("\n")))


def shown(name: str) -> str:
    """Quote a name for a message, in ASCII, and cut it if it is long."""
    text = ascii(name)
    return text if len(text) <= 160 else f"{text[:157]}…'"


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean …?` with the most similar valid name, or an empty string."""
    import difflib  # imported here to save time, because only unknown names need it

    similar = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.7)
    return f"; did you mean {similar[0]!r}?" if similar else ""
