"""Back-off: when a failed delivery is retried, and how often.

A delivery fails if its handler raises an exception. By default, the handler is called with the same
event again after 1 s, 4 s, 16 s and so on, at most 15 minutes apart. Later events of the same
repository wait meanwhile. After the eighth failed attempt the event becomes a dead letter.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Number of attempts per delivery, and the delays between them.

    Attributes:
        attempts: number of failed attempts after which the event becomes a dead letter.
        first: seconds between the first and the second attempt.
        factor: ratio of each delay to the one before.
        longest: upper limit of a delay, in seconds.
    """

    attempts: int = 8
    first: float = 1.0
    factor: float = 4.0
    longest: float = 900.0

    def delay(self, failures: int) -> float:
        """Seconds until the next attempt, changed at random by up to 20 % to spread bursts.

        Args:
            failures: number of failed attempts so far, at least 1.
        """
        import random  # here, because the help of a program needs the defaults only

        try:
            delay = min(self.longest, self.first * self.factor ** (failures - 1))
        except OverflowError:
            delay = self.longest
        return delay * random.uniform(0.8, 1.2)
