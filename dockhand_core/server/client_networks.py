"""The address of a client, possibly behind proxies, and the network of an address."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["client_address", "network_of"]

_IPV6_PREFIX = 64  # bits; internet providers usually give each customer such a network


def network_of(address: str) -> str:
    """The network of an address, as text. Failed logins are counted for each network.

    For an IPv4 address, mapped into IPv6 or not, the result is the IPv4 address itself. For an
    IPv6 address, it is the /64 network, since a single client can use all addresses in a /64. A
    text that is not an address is returned unchanged.
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
    """Determine the address of the client that sent a request, possibly through proxies.

    Args:
        peer: the address at the other end of the connection: the client's or a proxy's.
        forwarded: the values of the `X-Forwarded-For` headers. Each proxy appends the address
            from which it received the request. Only entries that a trusted proxy appended are
            used, since a client can invent the others.
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
