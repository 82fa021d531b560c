"""The keys of credentials files, which name registries in several spellings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dockhand_core import Reference, ReferenceInvalid

__all__ = [
    "DOCKER_HUB",
    "by_place",
    "place_of",
    "places",
    "registry_key",
    "server_name",
    "table",
]

DOCKER_HUB = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = {"docker.io", "index.docker.io", "registry-1.docker.io"}


def registry_key(host: str) -> str:
    """The key under which docker stores the credentials of a registry.

    Args:
        host: the registry's host or its URL, which may have the path `/v1/` or `/v2/`.

    Raises:
        ReferenceInvalid: the text is neither; it is not shown where it may contain a password.
    """
    scheme, separator, rest = host.strip().rpartition("://")
    name, _, path = rest.partition("/")
    if separator and scheme.lower() not in ("http", "https"):
        raise ReferenceInvalid("the URL of a registry begins with https:// or http://")
    if "@" in name:
        raise ReferenceInvalid("the host has a user name; give the user name separately")
    if path.strip("/") not in ("", "v1", "v2"):
        raise ReferenceInvalid(
            f"credentials are stored for a whole registry: give the host {name!r} without a path"
        )
    found = Reference(name, "any/name").host.lower()
    return DOCKER_HUB if found == "docker.io" else found


def server_name(host: str) -> str:
    """The name by which docker asks a credential helper for a registry's credentials."""
    return DOCKER_HUB if place_of(host) == "docker.io" else host


def places(host: str, repository: str) -> Sequence[str]:
    """The places of a repository's entries, most specific first: `host/a/b`, `host/a`, `host`."""
    parts = repository.split("/") if repository else []
    place = place_of(host)
    return ["/".join([place, *parts[:count]]) for count in range(len(parts), -1, -1)]


def place_of(key: str) -> str:
    """The place of an entry: its host, with the port if it is not that of the scheme, and its path.

    Programs write the key of a registry as a host or as a URL, with or without `/v1/` or `/v2/`.
    All names of Docker Hub give the same place.
    """
    scheme, separator, rest = key.strip().rpartition("://")
    host, _, path = rest.partition("/")
    host = host.rpartition("@")[2].lower()
    default_port = {"http": ":80", "https": ":443", "": ":443"}.get(scheme.lower(), "")
    host = host.removesuffix(default_port) if default_port else host
    path = path.strip("/")
    # Only podman stores credentials for a part of a registry, and it writes such a key without a
    # scheme. The keys of Docker Desktop's own tokens stay different from the key of the registry.
    if path in ("v1", "v2") or (separator and not path.endswith("-token")):
        path = ""
    if host in _DOCKER_HUB_HOSTS:
        host = "docker.io"
    return f"{host}/{path}" if path else host


def by_place(entries: Mapping[str, Any]) -> dict[str, list[tuple[str, Any]]]:
    """The entries of a table by place; keys that are exactly the place come first."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for key, entry in sorted(entries.items(), key=lambda item: place_of(item[0]) != item[0]):
        found.setdefault(place_of(key), []).append((key, entry))
    return found


def table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table of a file with this key; empty if the file has none."""
    found = document.get(key)
    return found if isinstance(found, dict) else {}
