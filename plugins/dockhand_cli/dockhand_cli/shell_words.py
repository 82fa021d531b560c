"""Completion in a shell: the words of bash, and an answer without errors.

typer does the rest: it makes the shells' scripts, which call the program with the variable
`_DOCKHAND_COMPLETE`, and writes the values.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import redirect_stdout, suppress
from typing import NoReturn

__all__ = ["answer_shell", "asked_by_shell", "join_words"]

_VARIABLE = "_DOCKHAND_COMPLETE"


def asked_by_shell() -> bool:
    """Whether a shell called the program to complete a word."""
    return os.environ.get(_VARIABLE, "").startswith("complete_")


def answer_shell(answer: Callable[[], object]) -> NoReturn:
    """Write the values for a shell, and end the process without waiting for anything.

    Nothing is written to the terminal but the values, and nothing can ask for a password there: the
    process gives up its terminal.

    Args:
        answer: the function that writes the values, and raises SystemExit with the exit status.
    """
    with suppress(OSError, AttributeError):
        os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    prefix = ""
    if os.environ[_VARIABLE] == "complete_bash":
        prefix = _join_words_of_bash(os.environ)
    code: object = 0
    written = io.StringIO()
    with redirect_stdout(written):
        try:
            answer()
        except SystemExit as done:
            code = done.code
        except BaseException:  # reported nowhere: the shell's line stays as it is
            code = 1
    with suppress(OSError):
        for line in written.getvalue().splitlines():
            print(line.removeprefix(prefix))
        sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 0)  # a thread may still wait for a registry


def _join_words_of_bash(environment: MutableMapping[str, str]) -> str:
    """Join the words in the environment that bash split.

    Returns:
        the part of the current word that is left out of the values, because bash keeps it.
    """
    words = environment.get("COMP_WORDS", "").split("\n")
    position = int(environment.get("COMP_CWORD", "0"))
    words, kept = join_words(words, position)
    environment["COMP_WORDS"], environment["COMP_CWORD"] = "\n".join(words), str(len(words) - 1)
    return kept


def join_words(words: Sequence[str], position: int) -> tuple[list[str], str]:
    """Join words that bash split at the characters of `COMP_WORDBREAKS`.

    These are `:`, `=` and `@`, so that `host:5000/app` arrives as three words, and the same words
    arrive for `:` between spaces, which no command line of dockhand has. An `@` begins a word,
    unless a digest follows. Of the current word, bash only replaces the part after the last `:` or
    `=`.

    Args:
        words: the words.
        position: the position of the current word.

    Returns:
        the words up to the current one, joined; and the part of the current word that bash keeps.
    """
    seen = [*words[: position + 1], *[""] * (position + 1 - len(words))]
    joined: list[str] = []
    glued = False  # whether the next word continues the one before it
    for number, word in enumerate(seen):
        following = seen[number + 1] if number + 1 < len(seen) else ""
        after_colon = seen[number + 2] if number + 2 < len(seen) else ""
        if word == "@":
            digest = after_colon == ":" and "/" not in following
            left, right = digest, bool(following)
        else:
            left = right = bool(word) and set(word) <= {":", "="}
        if joined and word and (glued or left):
            joined[-1] += word
        else:
            joined.append(word)
        glued = right
    last = seen[-1]
    if last and set(last) <= {":", "="}:
        replaced = ""
    elif len(seen) > 1 and seen[-2] == "@" and last != "@":
        replaced = f"@{last}"
    else:
        replaced = last
    return joined, joined[-1][: len(joined[-1]) - len(replaced)]
