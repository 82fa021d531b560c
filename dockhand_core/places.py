"""The places of images: the connection that the host of a reference belongs to."""

from __future__ import annotations

import ipaddress
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from dockhand_core.async_client import AsyncRegistryClient
from dockhand_core.client import RegistryClient
from dockhand_core.config import ConnectionConfig, DockhandConfig
from dockhand_core.config.connections import AuthConfig
from dockhand_core.errors import ReferenceInvalid
from dockhand_core.http.urls import PORTS, origin_of
from dockhand_core.models import Reference
from dockhand_core.models.reference import (
    DOCKER_HUB,
    DOCKER_HUB_NAMES,
    check_text,
    split_host,
    split_repository,
)

__all__ = ["Place", "connection_of_host", "parse_place", "table_of_host"]

AnyClient = TypeVar("AnyClient", bound=RegistryClient | AsyncRegistryClient)

_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")


class Place(NamedTuple, Generic[AnyClient]):
    """The place of an image: its registry, its repository, and the tag or digest there.

    Attributes:
        client: the client of the registry; it belongs to the manager, which closes it.
        repository: the repository's name.
        reference: the digest if the reference has one, else the tag.
    """

    client: AnyClient
    repository: str
    reference: str


class ParsedPlace(NamedTuple):
    """The parts of a place, before its connection is chosen.

    Attributes:
        connection: the name of a connection, or None if `host` is given.
        host: the host of a reference, or None.
        repository: the repository's name.
        reference: a tag or a digest.
    """

    connection: str | None
    host: str | None
    repository: str
    reference: str


def parse_place(place: str | Reference, config: DockhandConfig) -> ParsedPlace:
    """Split a reference, or a text `@connection/repository[:tag][@digest]`, into its parts.

    Args:
        place: the reference or the text.
        config: the configuration, with the named connections.

    Raises:
        ReferenceInvalid: the text is neither of both.
        ConfigError: no connection has the name.
    """
    if isinstance(place, str) and place.startswith("@"):
        check_text(place)
        name, slash, rest = place[1:].partition("/")
        if not (name and slash) or "@" in name:
            raise ReferenceInvalid(
                "the text begins with '@', but is not @connection/repository[:tag][@digest]"
            )
        _, table = config.connection(name)
        repository, tag, digest = split_repository(rest)
        if "/" not in repository and _host_of(table.options.get("base_uri"))[:1] == (DOCKER_HUB,):
            repository = f"library/{repository}"
        return ParsedPlace(name, None, repository, digest or tag or "latest")
    found = place if isinstance(place, Reference) else Reference.parse(place)
    return ParsedPlace(None, found.host, found.repository, found.digest or found.tag or "latest")


def connection_of_host(host: str, config: DockhandConfig) -> str | None:
    """Choose the configured connection of a reference's host; None if there is none.

    If there are several, it is the default connection, or else the first one. A connection whose
    URL has a path is never chosen, and neither is one whose driver has no setting `base_uri`.

    Args:
        host: the host, with the port if it has one. A port that is the default of the connection's
            scheme is equal to none.
        config: the configuration.

    Raises:
        ConfigError: the connection that it is, or may be, was left out because it is wrong.
    """
    wanted, port = _canonical(host)

    def has_host(base_uri: object) -> bool:
        if not (found := _host_of(base_uri)):
            return False
        return found[0] == wanted and found[2] == (port or found[1])

    names = [
        name
        for name, table in config.connections.items()
        if has_host(table.options.get("base_uri"))
    ]
    wrong = [
        name
        for name, (_, uri) in config.wrong.items()
        if has_host(uri) or "${" in str(uri)  # a variable that is not set may be any host
    ]
    if wrong and (not names or config.default in wrong):
        raise config.wrong[config.default if config.default in wrong else wrong[0]].error
    return config.default if config.default in names else next(iter(names), None)


def table_of_host(host: str) -> tuple[str, ConnectionConfig]:
    """Make the settings of a connection for a host that is not configured.

    Returns:
        a key, which is the same for all spellings of the host; and the settings: the driver
        `distribution`, and the auth driver `token` with docker's credentials. The URL is https, but
        http for localhost, 127.0.0.0/8 and [::1].
    """
    name, port = _canonical(host)
    scheme = "http" if _is_loopback(name) else "https"
    address = "registry-1.docker.io" if name == DOCKER_HUB else name
    if port is not None and port != PORTS[scheme]:
        address += f":{port}"
    url = f"{scheme}://{address}"
    return url, ConnectionConfig.model_validate(
        {"driver": "distribution", "base_uri": url, "auth": AuthConfig(driver="token")}
    )


def _canonical(host: str) -> tuple[str, int | None]:
    """Split a host into name and port; equal hosts have equal names."""
    name, port = split_host(host)
    name = name.lower()
    return DOCKER_HUB if name in DOCKER_HUB_NAMES else name, port


def _host_of(uri: object) -> tuple[str, int | None, int | None] | tuple[()]:
    """The host, the default port and the port of a connection's URL; empty if it has a path."""
    if not isinstance(uri, str):
        return ()
    try:
        path = urlsplit(uri.strip()).path.rstrip("/").removesuffix("/v2").rstrip("/")
    except ValueError:
        return ()
    scheme, host, port = origin_of(uri.strip())
    if path or scheme not in PORTS:
        return ()
    if ":" in host:
        try:
            host = f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            return ()
    name = DOCKER_HUB if host in DOCKER_HUB_NAMES else host
    return name, PORTS[scheme], port


def _is_loopback(name: str) -> bool:
    if name in ("localhost", "[::1]"):
        return True
    try:
        return ipaddress.IPv4Address(name) in _LOOPBACK
    except ValueError:
        return False
