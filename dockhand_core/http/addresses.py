"""Rules for the IP addresses that a request may be sent to, where a registry chose its URL.

A registry names token endpoints, upload locations and redirects. With such a URL, a hostile
registry could make the client send a request to a host that only the client can reach, such as
`127.0.0.1` or `169.254.169.254`. An `AddressRule` allows public addresses, and those of the
registry itself.

A rule travels with the request, as ``request.extensions[ADDRESSES]``. The transports apply it to
the addresses that they then connect to, so that the answer of a second look-up cannot differ.

Follows: RFC 6890 (special-purpose addresses); RFC 6052, RFC 3056, RFC 4380 and RFC 5214 (IPv4
addresses inside IPv6 addresses).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import httpx

from dockhand_core.errors import DockhandError
from dockhand_core.http.urls import one_line

__all__ = [
    "ADDRESSES",
    "Address",
    "AddressRefused",
    "AddressRule",
    "host_of",
    "is_public",
    "literal_address",
    "parse_address",
    "refusals",
]

ADDRESSES = "dockhand.addresses"
"""The request extension that holds an `AddressRule`, or nothing."""

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
# Prefixes of 96 bits; the last 32 bits are an IPv4 address: IPv4-compatible, IPv4-mapped,
# IPv4-translated (SIIT), and NAT64.
_PREFIXES_96 = tuple(
    int(ipaddress.IPv6Address(prefix)) >> 32
    for prefix in ("::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::")
)
_6TO4 = ipaddress.IPv6Network("2002::/16")
_TEREDO = ipaddress.IPv6Network("2001::/32")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_ISATAP = (0x00005EFE, 0x02005EFE)  # the start of an interface identifier, before the IPv4 address
# IPv4 as `inet_aton` reads it: one to four parts, each decimal, octal or hexadecimal
_NUMERIC_HOST = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}", re.IGNORECASE)


class AddressRefused(Exception):
    """Raised when a rule refuses an address; transports raise the rule's own error instead."""


@dataclass(frozen=True, slots=True)
class AddressRule:
    """Allows public addresses, and the addresses of one host, which the user configured.

    Rules are equal if they allow the same addresses, whatever error they raise.

    Args:
        home: host name or IP address of the registry, as `host_of` returns it. The same name may
            have any address. If it is an address or `localhost`, other names may have it too; all
            loopback addresses count as one host.
        error: makes the exception to raise, from the reason for which an address is refused.
    """

    home: str
    error: Callable[[str], DockhandError] = field(compare=False, repr=False)

    def check_host(self, host: str) -> None:
        """Refuse a host that is itself a refused address. Other host names are not looked up.

        Args:
            host: host name or IP address, as `host_of` returns it.

        Raises:
            AddressRefused: the host is a private address, in whatever spelling, or `localhost`.
        """
        address = literal_address(host)
        if address is not None:
            self.check(host, [address])

    def check(self, host: str, addresses: Iterable[Address]) -> None:
        """Refuse a host if one of its addresses is refused.

        Args:
            host: host name or IP address, as `host_of` returns it.
            addresses: all addresses that may be connected to.

        Raises:
            AddressRefused: at least one of the addresses is neither public nor the registry's own.
        """
        if _bare(host) == _bare(self.home):
            return
        home = literal_address(self.home)
        for each in addresses:
            address = _without_ipv6(each)
            at_home = home is not None and (
                address == home or (address.is_loopback and home.is_loopback)
            )
            if not at_home and not is_public(each):
                raise AddressRefused(
                    f"{one_line(host)} is on a private address, {address}, "
                    "and the registry is not on that host"
                )


class refusals:
    """A context manager that raises the rule's own error in place of `AddressRefused`."""

    def __init__(self, rule: AddressRule | None) -> None:
        self._rule = rule

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._rule is not None and isinstance(error, AddressRefused):
            raise self._rule.error(str(error)) from None


def host_of(url: str) -> str:
    """The host of a URL as it is looked up and sent: in lower case, and encoded once with IDNA.

    Raises:
        ValueError: the text is not a URL, or the URL has no host.
    """
    try:
        host = httpx.URL(url).raw_host.decode("ascii")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValueError(f"not a URL: {one_line(str(error))}") from None
    if not host:
        raise ValueError("the URL has no host")
    return host


def literal_address(host: str) -> Address | None:
    """The address that a host name stands for without a look-up; None if it needs a look-up.

    The spellings of `inet_aton` count too, such as `2130706433`, `0x7f.1` and `0177.0.0.1`, and
    so do `localhost` and the names below it (RFC 6761).
    """
    name = _bare(host)
    if name == "localhost" or name.endswith(".localhost"):
        return _LOOPBACK
    try:
        return parse_address(name)
    except ValueError:
        pass
    if _NUMERIC_HOST.fullmatch(name):
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except OSError:
            pass
    return None


def parse_address(text: str) -> Address:
    """Parse an IP address, with or without a zone; an IPv6 form of an IPv4 address becomes IPv4.

    Raises:
        ValueError: the text is not an IP address.
    """
    return _without_ipv6(ipaddress.ip_address(text.strip("[]").partition("%")[0]))


def is_public(address: Address) -> bool:
    """Whether an address belongs to a host on the public internet.

    Loopback, private, link-local, shared, multicast and reserved addresses do not. An IPv6 address
    that contains an IPv4 address counts as that IPv4 address.
    """
    plain = _without_ipv6(address)
    if isinstance(plain, ipaddress.IPv4Address):
        return plain.is_global and not plain.is_multicast
    value = int(plain)
    if plain in _TEREDO:  # the server, and the client with inverted bits
        server, client = (value >> 64) & 0xFFFFFFFF, ~value & 0xFFFFFFFF
        return all(is_public(ipaddress.IPv4Address(each)) for each in (server, client))
    if (value >> 32) & 0xFFFFFFFF in _ISATAP and not is_public(
        ipaddress.IPv4Address(value & 0xFFFFFFFF)
    ):
        return False
    return plain in _GLOBAL_UNICAST and plain.is_global


def _without_ipv6(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    value = int(address)
    if value > 1 and value >> 32 in _PREFIXES_96:  # not `::` and `::1`
        return ipaddress.IPv4Address(value & 0xFFFFFFFF)
    if address in _6TO4:
        return ipaddress.IPv4Address((value >> 80) & 0xFFFFFFFF)
    return address


def _bare(host: str) -> str:
    """A host name in lower case, without the dot that may end it."""
    return host.lower().removesuffix(".")
