"""The choice of a proxy for each request: from a connection's setting, or from the environment."""

from __future__ import annotations

import ipaddress
import re
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from dockhand_core.errors import ConfigError
from dockhand_core.http.addresses import Address, literal_address
from dockhand_core.http.urls import PORTS

__all__ = ["EnvironmentProxies", "Proxies", "environment_proxy"]


def environment_proxy(url: str) -> str | None:
    """The proxy for a URL according to the environment as it is now; see `EnvironmentProxies`."""
    return EnvironmentProxies.read().find(url)


@dataclass(frozen=True, slots=True)
class EnvironmentProxies:
    """The proxies that the environment names, and the hosts that are reached without one.

    The variables are HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, or the same in lower case.
    NO_PROXY has entries with commas between them: `*`; a domain, which includes the names below it,
    with or without a dot at the start; an IP address; or a network such as `10.0.0.0/8`. A domain
    or an address may be followed by a port. Host names are not looked up for this. No proxy is used
    for `localhost` and loopback addresses.

    Attributes:
        proxies: URL of the proxy for each scheme, and for `all`.
        direct: the entries of NO_PROXY.
        system: whether these are settings of the operating system, not environment variables.
    """

    proxies: dict[str, str]
    direct: tuple[str, ...]
    system: bool = False

    @classmethod
    def read(cls) -> EnvironmentProxies:
        """Read the environment variables; without them, the settings of macOS or Windows."""
        found = urllib.request.getproxies_environment()
        system = not found
        if system:
            found = urllib.request.getproxies()
        entries = re.split(r"[\s,]+", found.get("no", ""))
        return cls(found, tuple(each.lower() for each in entries if each), system)

    def find(self, url: str) -> str | None:
        """The URL of the proxy for a target, or None for a direct connection."""
        if not self.proxies:
            return None
        try:
            parts = urlsplit(url)
            port = parts.port or PORTS.get(parts.scheme)
        except ValueError:
            return None
        host = (parts.hostname or "").rstrip(".")
        proxy = self.proxies.get(parts.scheme) or self.proxies.get("all")
        if not host or not proxy:
            return None
        address = literal_address(host)
        if address is not None and address.is_loopback:
            return None
        if any(_covers(entry, host, port, address) for entry in self.direct):
            return None
        if self.system and urllib.request.proxy_bypass(host):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


def _covers(entry: str, host: str, port: int | None, address: Address | None) -> bool:
    """Whether an entry of NO_PROXY covers a host.

    Args:
        entry: the entry, in lower case.
        host: host name or IP address, in lower case and without a dot at the end.
        port: the port.
        address: the address, if `host` is one.
    """
    if entry == "*":
        return True
    if "/" in entry:
        try:
            network = ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
        except ValueError:
            return False
        return address is not None and address in network
    name, wanted = entry, ""
    # an IPv6 address has a port only after brackets
    if (found := re.fullmatch(r"(\[.*\]|[^:]*):([0-9]+)", entry)) is not None:
        name, wanted = found[1], found[2]
    if wanted and int(wanted) != port:
        return False
    name = name.strip("[]").rstrip(".")
    if address is not None:
        return literal_address(name) == address
    domain = name.removeprefix("*").lstrip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


class Proxies:
    """Chooses the proxy of each request.

    Args:
        setting: URL of the proxy for all requests; None for none.
        environment: the proxies to choose from if there is no setting; None for none.

    Raises:
        ConfigError: the setting is not an http or https URL.
    """

    def __init__(self, setting: str | None, environment: EnvironmentProxies | None) -> None:
        self._setting = None if setting is None else _parse(setting, "proxy")
        self._environment = environment if setting is None else None
        self._parsed: dict[str, httpx.Proxy] = {}

    def choose(self, url: str) -> httpx.Proxy | None:
        """The proxy for a target, or None for a direct connection.

        The same proxy is always the same object.

        Raises:
            ConfigError: the environment's proxy for this target is not an http or https URL.
        """
        if self._environment is None:
            return self._setting
        found = self._environment.find(url)
        if found is None:
            return None
        if found not in self._parsed:
            # another thread may have been faster; its object is the one to keep
            proxy = _parse(found, "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY")
            return self._parsed.setdefault(found, proxy)
        return self._parsed[found]


def _parse(url: str, name: str) -> httpx.Proxy:
    try:  # the error below does not show the cause, which would quote the password
        proxy = httpx.Proxy(url)
        if proxy.url.scheme in ("http", "https") and proxy.url.host:
            return proxy
    except (ValueError, httpx.InvalidURL):
        pass
    raise ConfigError(
        f"{name}: give it as http://[user:password@]host:port (or https://)"
    ) from None
