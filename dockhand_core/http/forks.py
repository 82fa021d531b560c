"""The runners of a process, which open their own sockets in a forked child."""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

from dockhand_core.http.lanes import new_condition

__all__ = ["alive", "inherited"]


class _Runner(Protocol):
    def after_fork(self) -> None: ...


alive: weakref.WeakSet[_Runner] = weakref.WeakSet()
# In a forked child, the transports of the parent. They are kept referenced, so that the child
# neither closes nor finalises them: the parent still uses their connections.
inherited: list[Any] = []


def _after_fork() -> None:
    """Make the runners of a forked child open their own sockets and use new locks."""
    new_condition()
    for runner in list(alive):
        runner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
