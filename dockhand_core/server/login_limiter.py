"""The limits on failed logins, for each network and for each user name."""

from __future__ import annotations

import hashlib
import threading
import unicodedata
from collections import OrderedDict

from dockhand_core.server.failure_limiter import FailureLimiter

__all__ = ["LoginLimiter"]

_MAX_REMEMBERED_LOGINS = 10_000
_HANGUL_FILLERS = "\u115f\u1160\u3164\uffa0"  # letters that are invisible


class LoginLimiter:
    """Limits failed logins, so that guessing is slow and does not lock users out.

    A login is limited by the failures from its network, and by the failures for its user name from
    all networks. If the user logged in from the network before, the pair of both has a count of
    its own instead: failures elsewhere, and failures for other users behind the same address, do
    not delay such a login, and its failures delay no other.

    Args:
        failures: counts the failures. Its memory is bounded, and so is the number of remembered
            logins.
    """

    def __init__(self, failures: FailureLimiter) -> None:
        self._failures = failures
        self._past_logins: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._lock = threading.Lock()

    def keys(self, network: str, username: str | None = None) -> tuple[str, ...]:
        """The keys of the counts that a login is limited by.

        Args:
            network: the network that the login comes from; see `network_of`.
            username: the user name as the client sent it; None for a secret without a user name,
                such as a refresh token.
        """
        if username is None:
            return (f"from {network}",)
        name = _user_key(username).hex()
        if self.remembers_login(network, username):
            return (f"from {network} user {name}",)
        return f"from {network}", f"user {name}"

    def seconds_to_wait(self, keys: tuple[str, ...]) -> int:
        """The whole seconds until the next login is allowed; 0 if it is allowed now."""
        return max(self._failures.seconds_to_wait(key) for key in keys)

    def add(self, keys: tuple[str, ...], failures: int = 1) -> None:
        """Add failures to the counts; see `FailureLimiter.add`."""
        for key in keys:
            self._failures.add(key, failures)

    def remembers_login(self, network: str, username: str) -> bool:
        """Whether a user logged in from a network before."""
        pair = network, _user_key(username)
        with self._lock:
            return pair in self._past_logins

    def remember_login(self, network: str, username: str) -> None:
        """Remember that a user logged in from a network."""
        pair = network, _user_key(username)
        with self._lock:
            self._past_logins[pair] = None
            self._past_logins.move_to_end(pair)
            while len(self._past_logins) > _MAX_REMEMBERED_LOGINS:
                self._past_logins.popitem(last=False)


def _user_key(username: str) -> bytes:
    """A short key that is the same for all spellings of a user name.

    A directory may ignore case, spaces, accents and invisible characters, so that each spelling
    would give an attacker more guesses at one password. Names that are different users for a
    stricter directory share a count, which is no harm.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", username).casefold())
    kept = "".join(
        each for each in folded if unicodedata.category(each)[0] not in "MZC"
        and each not in _HANGUL_FILLERS
    )  # fmt: skip
    # a hash, because a name may be long, and grows further when it is normalised
    return hashlib.blake2b(kept.encode("utf-8", "surrogatepass"), digest_size=16).digest()
