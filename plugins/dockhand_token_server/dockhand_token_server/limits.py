"""Limiting failed logins, and finding out where a client is."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["FailureLimit", "client_address", "network_of"]

_KEYS = 20_000
_IPV6_PREFIX = 64  # what one customer is given


class FailureLimit:
    """Counts failures for each key, and forgets them little by little.

    Args:
        failures: so many at once.
        seconds: in which that number is forgotten.
        clock: what they are measured with.
    """

    def __init__(
        self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = failures
        self._rate = failures / seconds
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def _level(self, key: str) -> float:
        level, at = self._levels.get(key, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) * self._rate)

    def wait(self, key: str) -> int:
        """Seconds until another attempt may be made; 0 where that is now."""
        with self._lock:
            above = self._level(key) + 1 - self._most
        return max(0, math.ceil(above / self._rate - 1e-6))  # sums of fractions are never exact

    def charge(self, key: str, failures: int = 1) -> None:
        """Count a failure; -1 takes back one that was none."""
        with self._lock:
            level = max(0.0, self._level(key) + failures)
            self._levels.pop(key, None)
            if level:
                self._levels[key] = level, self._clock()
                while len(self._levels) > _KEYS:
                    self._levels.popitem(last=False)


def network_of(address: str) -> str:
    """What failures are counted for: an IPv4 address, or the network of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(IPv6Network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed)


def client_address(
    peer: str, forwarded: Sequence[str], trusted: Sequence[IPv4Network | IPv6Network]
) -> str:
    """Where a request comes from.

    Args:
        peer: who is at the other end of the connection.
        forwarded: the headers `X-Forwarded-For`; each proxy adds whom it got the request from at
            the end, and what stands before was the client's to invent.
        trusted: the networks of proxies that are believed.
    """
    found = peer
    hops = [hop.strip() for line in forwarded for hop in line.split(",")]
    while hops and _is_in(found, trusted):
        hop = hops.pop()
        try:
            found = str(ip_address(hop))
        except ValueError:
            break
    return found


def _is_in(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)
