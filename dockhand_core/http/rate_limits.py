"""Rate limits: after a 429, the requests of a connection pause, and then go on spread out.

Each origin (scheme, host and port) has a pace of its own: a 429 of the registry pauses the
connection's requests to the registry, one of a token endpoint those to the token endpoint, and one
of a storage those to the storage. All threads and tasks of a client share the paces.

A pause is as long as the server asks for in `Retry-After`. Without this header, it is as long as
after other failures, and the 429 uses up one of the request's retries, unless the server has
accepted another request of the connection meanwhile.

An auth driver's requests, such as those for tokens, are repeated once, and again as long as the
server accepts other requests of the connection in between.

A 503 with `Retry-After` pauses only its own request, and uses up one of its retries: registries
also send it for a single endpoint or blob that is not ready.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator, Mapping

from dockhand_core.flow import RetryPolicy, Sleep
from dockhand_core.http.headers import retry_after
from dockhand_core.http.urls import Origin, origin_of

__all__ = ["TOO_MANY_REQUESTS", "Pace", "RateLimits", "Turns"]

TOO_MANY_REQUESTS = 429

_MAX_ORIGINS = 64
# seconds between the starts of two requests
_FIRST_INTERVAL, _MIN_INTERVAL, _MAX_INTERVAL = 0.1, 0.01, 2.0
_SHORTEST = 0.025  # seconds; half of the shortest pause, which doubles at each further 429
_FASTER = 0.985  # factor of the interval after each request that the server accepts
_IDLE = 60.0  # seconds without a request, after which requests are no longer spread out


class Pace:
    """The times at which requests to one origin may be sent. Threads may share it.

    Args:
        clock: returns seconds from any starting point, such as `time.monotonic`.

    Attributes:
        pauses: the number of pauses so far.
        successes: the number of requests that the server accepted while requests were spread out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._paused_until = 0.0
        self._interval = 0.0
        self._next = 0.0  # the earliest time for the next request
        self.pauses = 0
        self.successes = 0

    def reserve(self) -> float:
        """Reserve a time for a request, and return the time to wait for it, in seconds."""
        if not self._interval and not self._paused_until:  # no 429 yet, or long ago
            return 0.0
        with self._lock:
            now = self._clock()
            if now > max(self._next, self._paused_until) + _IDLE:
                self._interval = self._paused_until = 0.0
                return 0.0
            start = max(now, self._paused_until, self._next)
            self._next = start + self._interval * random.uniform(0.8, 1.2)
            return start - now

    def accepted(self) -> None:
        """Note that the server accepted a request."""
        if not self._interval:
            return
        with self._lock:
            self.successes += 1
            self._interval *= _FASTER
            if self._interval < _MIN_INTERVAL:
                self._interval = 0.0

    def refused(self, seconds: float, pauses: int) -> None:
        """Begin or prolong a pause after a 429.

        Of several requests that were sent before the same pause, only the first one makes the
        interval between requests longer.

        Args:
            seconds: the duration of the pause.
            pauses: the value of `pauses` when the request was sent.
        """
        with self._lock:
            until = self._clock() + seconds
            self._paused_until = max(self._paused_until, until)
            if pauses == self.pauses:
                self.pauses += 1
                self._interval = min(_MAX_INTERVAL, max(self._interval * 2, _FIRST_INTERVAL))
                self._next = self._paused_until


class RateLimits:
    """The paces of the origins to which a connection sends requests.

    Args:
        timeout: the time in seconds that a request may spend in total waiting after a 429; 0 to
            raise each 429 as an error.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._paces: dict[Origin, Pace] = {}

    def pace(self, url: str) -> Pace:
        """The pace of a URL's origin."""
        origin = origin_of(url)
        found = self._paces.get(origin)
        if found is None:
            for oldest in list(self._paces)[: 1 - _MAX_ORIGINS]:
                self._paces.pop(oldest, None)
            found = self._paces.setdefault(origin, Pace())
        return found

    def after_fork(self) -> None:
        """Forget all paces: a thread of the parent process may have held a lock."""
        self._paces = {}


class Turns:
    """The waits of one call, before its requests and their repetitions are sent.

    Args:
        limits: the connection's rate limits.
        retry: the retry policy, for a 429 that does not state the duration of the pause.
        wait: whether to wait. If false, or if the policy has no retries, requests are sent at once,
            and a 429 is not repeated.
    """

    def __init__(self, limits: RateLimits, retry: RetryPolicy, *, wait: bool) -> None:
        self._limits, self._retry = limits, retry
        self._wait = wait and limits.timeout > 0 and retry.retries > 0
        self._pauses: dict[Pace, int] = {}
        self._deadline: float | None = None
        self._futile = self._successes = 0

    def take(self, url: str) -> Generator[Sleep, None, None]:
        """Wait until a request to this URL may be sent."""
        pace = self._limits.pace(url)
        while True:
            pauses = self._pauses[pace] = pace.pauses
            seconds = pace.reserve() if self._wait else 0.0
            if seconds > 0:
                yield Sleep(seconds)
            if pauses == pace.pauses or not self._wait:  # else another pause began meanwhile
                return

    def repeats(
        self, url: str, status: int, headers: Mapping[str, str], *, futile: int | None = None
    ) -> bool:
        """Record a reply, and return whether the request is repeated because of a 429.

        Args:
            url: the URL of the request, for which `take` was called before.
            status: the HTTP status of the reply.
            headers: the headers of the reply.
            futile: number of 429 replies after which the request is still repeated, if the server
                has accepted no request of the connection in between; None for any number. It also
                holds for 429 replies that state the duration of the pause.
        """
        pace = self._limits.pace(url)
        if status != TOO_MANY_REQUESTS:
            pace.accepted()
            return False
        asked = retry_after(headers)
        if not self._wait or (asked or 0.0) > self._limits.timeout:
            return False
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._limits.timeout
        # The number of 429 replies since the server last accepted a request of the connection.
        self._futile = self._futile + 1 if pace.successes == self._successes else 1
        self._successes = pace.successes
        if futile is not None and self._futile > futile:
            return False
        if asked is None:
            wait = self._retry.wait(self._futile)
        else:  # "0", or a date in the past, again and again would be a hot loop
            wait = max(asked, min(_MAX_INTERVAL, _SHORTEST * 2 ** min(self._futile, 10)))
        if wait is None:
            return False
        pace.refused(wait, self._pauses.get(pace, 0))
        return now + wait <= self._deadline
