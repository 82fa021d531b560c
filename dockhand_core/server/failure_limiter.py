"""A limiter of failed logins."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["FailureLimiter"]

_MAX_KEYS = 20_000  # beyond this number, a key with few failures is dropped for each new one
_DROP_CANDIDATES = 16


class FailureLimiter:
    """Counts failures for each key, such as a user or a network, and limits further attempts.

    The limiter is a leaky bucket: the count of a key decreases steadily with time. The number of
    keys is bounded. Of the oldest keys, the one with the lowest count is dropped first, so that
    failures with many other keys cannot reset the count of a key that is being guessed at.

    Args:
        failures: the count at which further attempts have to wait.
        seconds: the time in which a count of `failures` decreases to zero.
        clock: returns the time, in seconds from any starting point.
    """

    def __init__(
        self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity = failures
        self._rate = failures / seconds
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def _level(self, key: str) -> float:
        level, updated_at = self._levels.get(key, (0.0, 0.0))
        return max(0.0, level - (self._clock() - updated_at) * self._rate)

    def seconds_to_wait(self, key: str) -> int:
        """The whole seconds until the next attempt is allowed; 0 if it is allowed now."""
        with self._lock:
            excess = self._level(key) + 1 - self._capacity
        return max(0, math.ceil(excess / self._rate - 1e-6))  # allows for rounding errors

    def add(self, key: str, failures: int = 1) -> None:
        """Add failures to a key's count.

        A caller may count a failure in advance, before an attempt. If the attempt then succeeds,
        the caller removes this failure with -1.
        """
        with self._lock:
            level = max(0.0, self._level(key) + failures)
            self._levels.pop(key, None)
            if level:
                self._levels[key] = level, self._clock()
                while len(self._levels) > _MAX_KEYS:
                    oldest = itertools.islice(self._levels, _DROP_CANDIDATES)
                    del self._levels[min(oldest, key=self._level)]
