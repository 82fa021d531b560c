"""A logger that writes at most one message a second, for events that others can cause at will."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["ThrottledLog"]


class ThrottledLog:
    """Logs a message at most once a second; the next message says how many were left out.

    Args:
        logger: the logger that the messages go to.
        level: the level of the messages.
        clock: returns seconds from any starting point.
    """

    def __init__(
        self, logger: logging.Logger, level: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._level, self._clock = logger, level, clock
        self._next, self._left_out = float("-inf"), 0
        self._lock = threading.Lock()

    def __call__(self, message: str, *arguments: object) -> None:
        """Log a message with the arguments of `logging`, unless one was logged a moment ago."""
        with self._lock:
            now = self._clock()
            if now < self._next:
                self._left_out += 1
                return
            left_out, self._left_out, self._next = self._left_out, 0, now + 1.0
        if left_out:
            message, arguments = f"{message} (and %d more like it before)", (*arguments, left_out)
        self._logger.log(self._level, message, *arguments)
