"""The retry policy: which failed requests are repeated, how often, and after which wait."""

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
    """The retry policy of a connection, for single requests and for transfers of blobs.

    Requests use `repeats_status`, `repeats_failure` and `wait`. Transfers count their failures
    with `attempts()`.

    Args:
        retries: how often a failed request is repeated, and how often a transfer may fail without
            progress in between before it is given up; 0 for no retry.
        base: duration of the first back-off in seconds; each later back-off is twice as long.
        cap: maximum duration of a back-off in seconds. If the registry asks for a longer wait, the
            request is not repeated and its error is raised.
    """

    retries: int = 3
    base: float = 0.25
    cap: float = 30.0

    def repeats_status(self, status: int, *, repeatable: bool = True) -> bool:
        """Whether a request that was answered with this HTTP status can be repeated.

        Args:
            status: the HTTP status of the reply.
            repeatable: whether the request can be sent twice without harm. After a 429 this does
                not matter, because the registry did not process the request.
        """
        return status == _TOO_MANY_REQUESTS or (repeatable and status in _TEMPORARY)

    def repeats_failure(self, error: ConnectionFailed, *, repeatable: bool = True) -> bool:
        """Whether a request that got no complete reply can be repeated.

        It is not repeated after an invalid certificate, which would be invalid again, and not if
        this process is the cause (`error.local`).

        Args:
            error: the failure.
            repeatable: whether the request can be sent twice without harm. If the request was never
                sent (`error.unsent`), this does not matter.
        """
        refused = "CERTIFICATE_VERIFY_FAILED" in str(error) or "certificate verify" in str(error)
        return (repeatable or error.unsent) and not refused and not error.local

    def wait(self, attempt: int, asked: float | None = None) -> float | None:
        """The time to wait after a failed attempt, in seconds, or None to give up.

        Args:
            attempt: the number of the failed attempt, from 1.
            asked: seconds to wait that the registry sent in `Retry-After`, or None.
        """
        if attempt > self.retries or (asked is not None and asked > self.cap):
            return None
        backoff: float = min(self.cap, self.base * 2 ** (attempt - 1))
        # At least `asked`, plus a random part: many clients should not repeat at the same time.
        return (asked or 0.0) + random.uniform(0.5, 1.0) * (0.1 if asked is not None else backoff)

    def attempts(self) -> Attempts:
        """A new counter for the failures of one transfer."""
        return Attempts(self)


class Attempts:
    """A counter of the failures of one transfer since it last made progress.

    A long transfer may fail any number of times, as long as bytes are transferred in between.

    Args:
        policy: the policy that limits the number of attempts and sets the waits between them.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failed = 0

    def progressed(self) -> None:
        """Reset the count; called when bytes were transferred after a failure."""
        self._failed = 0

    def wait_after(self, error: Exception) -> Generator[Sleep, None, None]:
        """Count a failure and wait before the next attempt.

        Raises:
            Exception: `error` itself, if no attempt is left.
        """
        self._failed += 1
        wait = self._policy.wait(self._failed)
        if wait is None or (isinstance(error, ConnectionFailed) and error.local):
            raise error
        yield Sleep(wait)
