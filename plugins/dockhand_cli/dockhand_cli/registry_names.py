"""The names of connections, repositories and tags that begin with a text, for completion."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from dockhand_core import Dockhand, Page, RegistryClient
from dockhand_core.config import ConnectionConfig, DockhandConfig
from dockhand_core.errors import RegistryError
from dockhand_core.logs import LogSettings

__all__ = ["RegistryNames"]

_LIMIT = 100  # names of a page


class RegistryNames:
    """Looks up names in the registries of a configuration, and of other hosts.

    Args:
        config: the configuration.
        connection: the connection of bare repositories, or None.
        timeout: timeout in seconds of each request.
    """

    def __init__(self, config: DockhandConfig, connection: str | None, timeout: float) -> None:
        impatient = {
            "timeout": timeout,
            "retries": 0,
            "rate_limit_timeout": 0,
            "logging": LogSettings(driver="null"),
        }
        self._tables = {
            name: table.model_copy(update=impatient) for name, table in config.connections.items()
        }
        self._config = config.model_copy(update={"connections": self._tables})
        self._connection = connection

    def complete(self, text: str, *, tags: bool) -> list[str]:
        """The names that begin with a text.

        Args:
            text: the beginning of `@CONNECTION/REPOSITORY:TAG`, of `HOST/REPOSITORY:TAG`, or of
                `REPOSITORY:TAG` if a connection is given.
            tags: whether tags are wanted. If so, those of the only repository are listed.
        """
        with Dockhand(self._config) as dockhand:
            if self._connection is not None and not text.startswith("@"):
                client = dockhand.connection(self._connection.removeprefix("@"))
                return _in_registry(client, text, tags=tags)
            if "/" not in text:
                places = [place for place in self._places() if place.startswith(text)]
                if len(places) != 1:
                    return places
                (text,) = places
            head, _, rest = text.partition("/")
            if head.startswith("@"):
                client = dockhand.connection(head[1:])
            elif head == "localhost" or "." in head or ":" in head:
                client = dockhand.locate(f"{head}/any").client
            else:
                return []  # an image of Docker Hub, which lists no repositories
            return [f"{head}/{name}" for name in _in_registry(client, rest, tags=tags)]

    def _places(self) -> list[str]:
        """The connections and their hosts, each as the beginning of an image."""
        hosts = dict.fromkeys(filter(None, map(_host, self._tables.values())))
        return [*(f"@{name}/" for name in self._tables), *(f"{host}/" for host in hosts)]


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

    return [f"{repository}:{tag}" for tag in _matching(page, text)]


def _matching(page: Callable[[str | None], Page[str]], text: str) -> list[str]:
    """The names on a page that begin with a text.

    The page begins there if the registry's list is sorted. If no name on it does, the first page of
    the list is tried: another registry sends names in any order, or wants to know the name.
    """
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
