"""A token cache, which keeps each token until shortly before it expires."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dockhand_core.errors import PluginError
from dockhand_core.flow import Until
from dockhand_core.flow.checks import described, dispose, is_flow
from dockhand_core.lazy import futures

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Obtain", "TokenCache"]

# Returns a generator of steps; the generator returns a token and the token's lifetime in seconds.
Obtain = Callable[[], Generator[Any, Any, tuple[str, float]]]

_MAX_TOKENS = 1024
# seconds; a token is replaced this long before it expires
_MARGIN = 30.0
# fraction of a token's lifetime; used instead of `_MARGIN` if it is shorter
_MARGIN_FRACTION = 0.25


@dataclass(eq=False, slots=True)
class _Refresh:
    """A refresh in progress, and its outcome for the callers that wait for it."""

    # a lambda, so that the import happens when the first token is fetched
    done: Future[None] = field(default_factory=lambda: futures.Future())  # noqa: PLW0108
    token: str | None = field(default=None, repr=False)
    error: Exception | None = None


class TokenCache:
    """A cache of tokens by key, safe for threads and for tasks of several event loops.

    The first caller that finds no usable token obtains one. Other callers that need the same token
    in the meantime wait, and then get the same token or the same exception. If the first caller is
    cancelled, one of the waiting callers obtains the token instead.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Create an empty cache.

        Args:
            clock: returns seconds from any starting point, such as `time.monotonic`.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: OrderedDict[Hashable, tuple[str, float]] = OrderedDict()
        self._refreshes: dict[Hashable, _Refresh] = {}

    def get(
        self, key: Hashable, obtain: Obtain, *, refused: str | None = None
    ) -> Generator[Any, Any, str]:
        """Return the cached token for a key, or obtain one; see `AuthDriver.cached_token`."""
        while True:
            with self._lock:
                token, until = self._tokens.get(key, (None, 0.0))
                if token is not None and token != refused and self._clock() < until:
                    self._tokens.move_to_end(key)
                    return token
                refresh = self._refreshes.get(key)
                if refresh is None:
                    started = self._refreshes[key] = _Refresh()
            if refresh is None:
                return (yield from self._refresh(key, started, obtain))
            yield Until(refresh.done)
            if refresh.error is not None:
                raise refresh.error
            if refresh.token is not None:
                return refresh.token

    def _refresh(
        self, key: Hashable, refresh: _Refresh, obtain: Obtain
    ) -> Generator[Any, Any, str]:
        start = self._clock()
        refresh.done.set_running_or_notify_cancel()  # from now on, no caller can cancel the future
        try:
            steps = obtain()
            if not is_flow(steps):
                dispose(steps)
                raise PluginError(
                    f"cached_token: obtain, {_name(obtain)}, returned {described(steps)}; it has "
                    "to be a generator function"
                )
            obtained = yield from steps
            if not _is_token(obtained):
                raise PluginError(
                    f"cached_token: obtain, {_name(obtain)}, has to return a token and its "
                    f"lifetime in seconds, (str, float), not {described(obtained)}"
                )
            token, lifetime = obtained
            refresh.token = token
            with self._lock:
                until = start + lifetime - min(_MARGIN, lifetime * _MARGIN_FRACTION)
                self._tokens[key] = (token, until)
                self._tokens.move_to_end(key)
                while len(self._tokens) > _MAX_TOKENS:
                    self._tokens.popitem(last=False)
        except Exception as error:
            refresh.error = error
            raise
        finally:
            with self._lock:
                del self._refreshes[key]
            refresh.done.set_result(None)
        return token


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def _is_token(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int | float)
    )
