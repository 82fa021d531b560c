"""Tokens that auth drivers keep: until shortly before they expire, and one refresh at a time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from dockhand_core.flow import Until

__all__ = ["Obtain", "TokenCache"]

# Makes the steps that get a token; they return it, and for how many seconds it is good.
Obtain = Callable[[], Generator[Any, Any, tuple[str, float]]]

_KEPT = 1024
_MARGIN = 30.0  # seconds before its end that a token is given for the last time …
_SHARE = 0.25  # … or this part of its lifetime, if that is less


@dataclass(eq=False, slots=True)
class _Refresh:
    """A token on its way, and what came of it for those that wait."""

    done: Future[None] = field(default_factory=Future)
    token: str | None = field(default=None, repr=False)
    error: Exception | None = None


class TokenCache:
    """Tokens by what they are for; safe for threads, and for tasks of several event loops.

    Whoever finds none asks for it; who needs the same one meanwhile waits for that answer, be it
    an error. If the one who asked is cancelled, the next one asks.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep nothing yet.

        Args:
            clock: seconds, from any start.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[str, float]] = OrderedDict()
        self._refreshes: dict[Hashable, _Refresh] = {}

    def get(
        self, key: Hashable, obtain: Obtain, *, refused: str | None = None
    ) -> Generator[Any, Any, str]:
        """A token that is kept, or a new one; see `AuthDriver.cached_token`."""
        while True:
            with self._lock:
                token, until = self._kept.get(key, (None, 0.0))
                if token is not None and token != refused and self._clock() < until:
                    self._kept.move_to_end(key)
                    return token
                refresh = self._refreshes.get(key)
                if refresh is None:
                    mine = self._refreshes[key] = _Refresh()
            if refresh is None:
                return (yield from self._obtain(key, mine, obtain))
            yield Until(refresh.done)
            if refresh.error is not None:
                raise refresh.error
            if refresh.token is not None:
                return refresh.token

    def _obtain(self, key: Hashable, refresh: _Refresh, obtain: Obtain) -> Generator[Any, Any, str]:
        start = self._clock()
        refresh.done.set_running_or_notify_cancel()  # nobody who waits can cancel it
        try:
            token, lifetime = yield from obtain()
            refresh.token = token
            with self._lock:
                until = start + lifetime - min(_MARGIN, lifetime * _SHARE)
                self._kept[key] = (token, until)
                self._kept.move_to_end(key)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        except Exception as error:
            refresh.error = error
            raise
        finally:
            with self._lock:
                del self._refreshes[key]
            refresh.done.set_result(None)
        return token
