"""Client addresses: behind trusted proxies, and as networks that failed logins are counted for."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["client_address", "network_of"]

_IPV6_PREFIX = 64  # the usual allocation of one customer


def network_of(address: str) -> str:
    """The key that failures of an address are counted under.

    The key of an IPv4 address, mapped into IPv6 or not, is the address itself. The key of an IPv6
    address is its /64 network, since one customer has all addresses of it. A text that is not an
    address is returned unchanged.
    """
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
    """The address of the client that sent a request, possibly through proxies.

    Args:
        peer: the address at the other end of the connection.
        forwarded: the values of the `X-Forwarded-For` headers. Each proxy appends the address
            that it received the request from, so only entries appended by trusted proxies are
            reliable; a client can invent the entries before them.
        trusted: the networks of the trusted proxies.
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
