"""Backoff: when a failed delivery is retried, and how often.

A handler that raises fails its delivery. The same event is delivered to that handler again after
1 s, 4 s, 16 s and so on, at most 15 minutes apart, while the later events of the same repository
wait. After the eighth failed attempt the event becomes a dead letter of that handler.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Number of attempts per delivery, and the delays between them.

    Attributes:
        attempts: attempts in all, before the event becomes a dead letter.
        first: seconds between the first and the second attempt.
        factor: ratio of each delay to the one before.
        longest: upper limit of a delay, in seconds.
    """

    attempts: int = 8
    first: float = 1.0
    factor: float = 4.0
    longest: float = 900.0

    def delay(self, failures: int) -> float:
        """Seconds until the next attempt, with a jitter of 20 % that spreads bursts.

        Args:
            failures: failed attempts so far, at least 1.
        """
        try:
            delay = min(self.longest, self.first * self.factor ** (failures - 1))
        except OverflowError:
            delay = self.longest
        return delay * random.uniform(0.8, 1.2)
