"""The names of connections, repositories and tags that begin with a text, for completion."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from dockhand_core import Dockhand, Page, RegistryClient
    from dockhand_core.config import ConnectionConfig, DockhandConfig

__all__ = ["RegistryNames"]

TIMEOUT = 1.0  # seconds that a completion waits for a registry in total
_LIMIT = 100  # names of a page


class RegistryNames:
    """Looks up names in the registries of a configuration, and of other hosts.

    Args:
        config: the configuration.
        connection: the connection of bare repositories, or None.
    """

    def __init__(self, config: DockhandConfig, connection: str | None) -> None:
        self._config, self._connection = config, connection

    def complete(self, text: str, *, tags: bool) -> list[str]:
        """The names that begin with a text; none if the registry does not answer in time.

        Args:
            text: the beginning of `@CONNECTION/REPOSITORY:TAG`, of `HOST/REPOSITORY:TAG`, or of
                `REPOSITORY:TAG` if a connection is given.
            tags: whether tags are wanted. If so, those of the only repository are listed.
        """
        head, slash, rest = text.partition("/")
        if self._connection is not None and not text.startswith("@"):
            head, rest, before = f"@{self._connection.removeprefix('@')}", text, ""
        elif not slash:
            places = [place for place in self._places() if place.startswith(text)]
            if len(places) != 1:
                return places
            head, rest, before = places[0][:-1], "", places[0]
        elif head.startswith("@") or head == "localhost" or "." in head or ":" in head:
            before = f"{head}/"
        else:
            return []  # on Docker Hub, which lists no repositories
        return [f"{before}{name}" for name in self._ask(head, rest, tags=tags)]

    def _ask(self, place: str, text: str, *, tags: bool) -> list[str]:
        """Ask the registry of a connection or host for names, in a thread.

        The timeout of the connection would not cover the resolution of its host, or a slow reply.
        """
        from dockhand_core import Dockhand
        from dockhand_core.logs import LogSettings

        impatient = {
            "timeout": TIMEOUT,
            "retries": 0,
            "rate_limit_timeout": 0,
            "logging": LogSettings(driver="null"),
        }
        connections = {
            name: table.model_copy(update=impatient)
            for name, table in self._config.connections.items()
        }
        dockhand = Dockhand(self._config.model_copy(update={"connections": connections}))
        client = _client(dockhand, place)
        found: list[str] = []

        def ask() -> None:
            with suppress(Exception), dockhand:
                found.extend(_in_registry(client, text, tags=tags))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(TIMEOUT)
        return list(found)

    def _places(self) -> list[str]:
        """The connections and their hosts, each as the beginning of an image."""
        hosts = dict.fromkeys(filter(None, map(_host, self._config.connections.values())))
        names = self._config.connections
        return [*(f"@{name}/" for name in names), *(f"{host}/" for host in hosts)]


def _client(dockhand: Dockhand, place: str) -> RegistryClient:
    """The client of `@CONNECTION` or of a host."""
    if place.startswith("@"):
        return dockhand.connection(place[1:])
    return dockhand.locate(f"{place}/any").client


def _host(table: ConnectionConfig) -> str | None:
    """The host by which `Dockhand.locate` finds a connection; None if its URL has a path."""
    url = urlsplit(str(table.options.get("base_uri", "")))
    plain = url.path.rstrip("/").removesuffix("/v2") == ""
    return url.netloc if plain and "@" not in url.netloc else None


def _in_registry(client: RegistryClient, text: str, *, tags: bool) -> list[str]:
    if ":" in text:
        repository, _, tag = text.rpartition(":")
        return _tags(client, repository, tag) if tags and "@" not in text else []
    found = _matching(lambda after: client.repository_page(limit=_LIMIT, after=after), text)
    if tags and len(found) == 1:
        return _tags(client, found[0], "") or found
    return found


def _tags(client: RegistryClient, repository: str, text: str) -> list[str]:
    def page(after: str | None) -> Page[str]:
        return client.tag_page(repository, limit=_LIMIT, after=after)

    found = _matching(page, text)
    if not text:  # the tags of signatures and referrers are not for people
        found = [tag for tag in found if not tag.startswith("sha256-")] or found
    return [f"{repository}:{tag}" for tag in found]


def _matching(page: Callable[[str | None], Page[str]], text: str) -> list[str]:
    """The names on a page that begin with a text.

    The page begins there if the registry's list is sorted. If no name on it does, the first page of
    the list is tried: another registry sends names in any order, or wants to know the name.
    """
    from dockhand_core.errors import RegistryError

    for after in dict.fromkeys((_before(text), None)):
        with suppress(RegistryError):
            found = [name for name in page(after).items if name.startswith(text)]
            if found:
                return found
    return []


def _before(text: str) -> str | None:
    """A text that precedes all names that begin with a text, in sorted lists; None for the start.

    Registries sort by components, too: `team/app` before `team-x`.
    """
    if not text:
        return None
    if text.endswith("/"):
        return text[:-1]
    return f"{text[:-1]}{chr(ord(text[-1]) - 1)}~"
