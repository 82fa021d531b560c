"""Rules: what a test of a contract demands, why, and where it is written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["rule"]

F = TypeVar("F", bound=Callable[..., Any])


def rule(text: str, *, why: str, where: str) -> Callable[[F], F]:
    """Decorate a test of a contract with the rule that it checks.

    If the test fails, its message begins with the rule, the reason for it and the place where it
    is written.

    Args:
        text: the rule, as a sentence.
        why: what goes wrong without it.
        where: a class or hook whose documentation has the rule, or a specification.
    """
    note = f"the rule: {text}\nwhy: {why}\nwritten in: {where}"

    def decorate(test: F) -> F:
        @functools.wraps(test)
        def checked(*args: Any, **options: Any) -> Any:
            __tracebackhide__ = True
            try:
                return test(*args, **options)
            except AssertionError as error:
                # in front, so that pytest's summary of failed tests shows it
                error.args = (f"{note}\n{error}".rstrip(),)
                raise
            except Exception as error:
                error.add_note(note)
                raise
            except BaseException as outcome:
                import pytest

                if isinstance(outcome, pytest.fail.Exception):  # such as "DID NOT RAISE"
                    outcome.msg = f"{note}\n{outcome.msg}"
                raise

        checked.rule = note  # type: ignore[attr-defined]
        return cast("F", checked)

    return decorate
