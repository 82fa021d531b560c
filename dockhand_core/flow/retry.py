"""The retry policy: which failures are repeated, how often, and after how long."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass

from dockhand_core.errors import ConnectionFailed
from dockhand_core.flow.effects import Sleep

__all__ = ["Attempts", "RetryPolicy"]

_TEMPORARY = frozenset({502, 503, 504})
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The retry policy of a connection, for single requests and for transfers.

    Requests use `repeats_status`, `repeats_failure` and `wait`; transfers count their failures
    with `attempts()`.

    Args:
        retries: how often a failed request is repeated, or a transfer without progress; 0: never.
        base: seconds of the first back-off; each later one doubles.
        cap: seconds that a back-off lasts at most. A registry that asks for a longer wait is not
            waited for: its error is raised.
    """

    retries: int = 3
    base: float = 0.25
    cap: float = 30.0

    def repeats_status(self, status: int, *, repeatable: bool = True) -> bool:
        """Whether a reply with this HTTP status is worth another attempt.

        Args:
            status: the status of the reply.
            repeatable: whether sending the request twice does no harm. A request that was answered
                with 429 was not processed, so it is repeated either way.
        """
        return status == _TOO_MANY_REQUESTS or (repeatable and status in _TEMPORARY)

    def repeats_failure(self, error: ConnectionFailed, *, repeatable: bool = True) -> bool:
        """Whether a request that got no reply is worth another attempt.

        Args:
            error: the failure. A request that was never sent can be repeated in any case; a
                certificate that was refused does not become valid by waiting.
            repeatable: whether sending the request twice does no harm.
        """
        refused = "CERTIFICATE_VERIFY_FAILED" in str(error) or "certificate verify" in str(error)
        return (repeatable or error.unsent) and not refused

    def wait(self, attempt: int, asked: float | None = None) -> float | None:
        """Seconds to wait after a failed attempt, or None to give up.

        Args:
            attempt: the number of the failed attempt, from 1.
            asked: seconds that the registry asked for (`Retry-After`), if it did.
        """
        if attempt > self.retries or (asked is not None and asked > self.cap):
            return None
        backoff: float = min(self.cap, self.base * 2 ** (attempt - 1))
        # Never sooner than asked; spread out, so that many clients do not come back at once.
        return (asked or 0.0) + random.uniform(0.5, 1.0) * (0.1 if asked is not None else backoff)

    def attempts(self) -> Attempts:
        """A new counter for the failures of one transfer."""
        return Attempts(self)


class Attempts:
    """The failures of one transfer since it last made progress.

    A transfer of many bytes may fail any number of times, as long as it moves on in between.

    Args:
        policy: the policy that limits and spaces the attempts.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failed = 0

    def progressed(self) -> None:
        """Reset the count: bytes have arrived since the last failure."""
        self._failed = 0

    def wait_after(self, error: Exception) -> Generator[Sleep, None, None]:
        """Count a failure and wait before the next attempt.

        Raises:
            Exception: `error` itself, when no attempt is left.
        """
        self._failed += 1
        wait = self._policy.wait(self._failed)
        if wait is None:
            raise error
        yield Sleep(wait)
