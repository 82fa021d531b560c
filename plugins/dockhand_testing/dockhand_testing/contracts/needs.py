"""`needs`: the operations of a driver that a test of the contract uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["needs"]

F = TypeVar("F", bound=Callable[..., object])


def needs(*operations: str) -> Callable[[F], F]:
    """Decorate a test with the operations without which it is skipped.

    `RegistryDriverContract.unsupported` names the operations that a driver does not have.
    """

    def decorate(test: F) -> F:
        test.needs = operations  # type: ignore[attr-defined]
        return test

    return decorate
