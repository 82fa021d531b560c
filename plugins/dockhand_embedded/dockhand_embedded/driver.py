"""The driver `embedded`, for a registry in the same process."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Literal

from dockhand_distribution import DistributionDriver
from dockhand_distribution.pages import Batch, page_of, strings
from pydantic import BaseModel, ConfigDict

from dockhand_core import ConfigError
from dockhand_core.flow import Flow, call
from dockhand_core.models import Page, check_repository
from dockhand_embedded.access.policy import bearer_from_settings
from dockhand_embedded.notifications import NotificationTarget, Notifier
from dockhand_embedded.protocol.registry import Registry
from dockhand_embedded.storage import UPLOAD_AGE
from dockhand_embedded.storage.base import Storage
from dockhand_embedded.storage.layout import LayoutStorage
from dockhand_embedded.storage.memory import MemoryStorage
from dockhand_embedded.transport import EmbeddedTransport

MEMORY = ":memory:"


class EmbeddedDriver(DistributionDriver):
    """The driver for a registry in the same process, which is called without a socket.

    Connections with the same folder as root see the same repositories, in any number of processes.
    Each connection with the root `:memory:` has its own repositories, which exist only as long as
    the connection.
    """

    name = "embedded"

    class Settings(BaseModel):
        """The driver's settings of a connection.

        Attributes:
            root: the folder of the repositories, one OCI Image Layout each, created if it does not
                exist; or `:memory:`.
            token_realm, token_service, token_issuer, token_certificate, token_jwks: require a
                bearer token for each request, as `bearer.Bearer` does. If one of them is set, all
                are required, except that one of the last two is enough.
            notifications: the endpoints that get notifications, each with a `url`, and optionally a
                bearer `token` and a `timeout` in seconds.
        """

        model_config = ConfigDict(extra="forbid", frozen=True)

        root: Literal[":memory:"] | Path
        token_realm: str | None = None
        token_service: str | None = None
        token_issuer: str | None = None
        token_certificate: Path | None = None
        token_jwks: Path | None = None
        notifications: tuple[NotificationTarget, ...] = ()

    @classmethod
    def base_uri(cls, settings: Any) -> str:  # noqa: ARG003
        """A placeholder URL. Its host need not exist, because the transport opens no connection."""
        return "http://embedded"

    @classmethod
    def transport(cls, settings: Any) -> EmbeddedTransport:
        """Create a registry from the settings, and a transport to it."""
        endpoints = settings.notifications
        registry = Registry(
            open_storage(settings.root), notifier=Notifier(endpoints) if endpoints else None
        )
        return EmbeddedTransport(registry, bearer_from_settings(settings))

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._memory = uuid.uuid4().hex  # names the repositories in memory of this connection

    def identity(self) -> str:
        """The folder of the registry; repositories in memory are named by their connection."""
        root = self.settings.root
        if root == MEMORY:
            return f"embedded:{MEMORY}{self._memory}"
        return f"embedded:{Path(root).absolute().resolve()}"

    def deletes_tags(self, repository: str) -> Flow[bool]:  # noqa: ARG002
        """Return True, without a request."""
        return True
        yield

    def manifest_page(
        self, repository: str, *, limit: int | None, after: str | None
    ) -> Flow[Page[str]]:
        """Fetch a page of the digests of all manifests in the index, in ASCII order."""
        check_repository(repository)
        path = f"{repository}/_dockhand/manifests/list"

        def fetch(limit: int | None, after: str | None) -> Flow[Batch]:
            query = [("n", str(limit))] if limit is not None else []
            reply = yield from call(
                "GET",
                path,
                query=[*query, *([("last", after)] if after is not None else [])],
                scopes=self.pull_scopes(repository),
                kind="tags",
                repository=repository,
            )
            return strings(reply, "manifests"), self._next_position(reply, path)

        return (yield from self._limited(page_of(fetch, limit, after)))


def open_storage(root: str | Path, upload_age: float = UPLOAD_AGE) -> Storage:
    """Open the storage for a root.

    Args:
        root: a folder, or `:memory:`.
        upload_age: delete uploads that got no byte for this many seconds.

    Raises:
        ConfigError: the folder cannot be used.
    """
    if root == MEMORY:
        return MemoryStorage()
    try:
        return LayoutStorage(root, upload_age)
    except OSError as error:
        raise ConfigError(
            f"root: {root} cannot be used as the registry's folder: {error}"
        ) from error
