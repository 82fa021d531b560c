"""The driver `embedded`: a client of a registry in the same process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from dockhand_distribution import DistributionDriver
from pydantic import BaseModel, ConfigDict

from dockhand_core import ConfigError
from dockhand_embedded.access.policy import bearer_from_settings
from dockhand_embedded.notifications import NotificationTarget, Notifier
from dockhand_embedded.protocol.registry import Registry
from dockhand_embedded.storage.base import Storage
from dockhand_embedded.storage.layout import LayoutStorage
from dockhand_embedded.storage.memory import MemoryStorage
from dockhand_embedded.storage.upload_files import UPLOAD_AGE
from dockhand_embedded.transport import EmbeddedTransport

MEMORY = ":memory:"


class EmbeddedDriver(DistributionDriver):
    """The flows of the Distribution Specification, over a transport without a socket.

    Connections with the same folder as root see the same repositories, in any number of processes.
    Each connection with the root `:memory:` has its own repositories, which end with it.
    """

    name = "embedded"

    class Settings(BaseModel):
        """The driver's keys of a connection.

        Attributes:
            root: the folder of the repositories, one OCI Image Layout each, created if it does not
                exist; or `:memory:`.
            token_realm, token_service, token_issuer, token_certificate, token_jwks: require a token
                for each request, as `bearer.Bearer` does. All are needed, but only one of the last
                two.
            notifications: the endpoints of notifications, as with Distribution: `url`, `token`,
                `timeout` in seconds.
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
        """A placeholder; its host is never resolved."""
        return "http://embedded"

    @classmethod
    def transport(cls, settings: Any) -> EmbeddedTransport:
        """A transport to a registry over the storage of the settings."""
        endpoints = settings.notifications
        registry = Registry(
            open_storage(settings.root), notifier=Notifier(endpoints) if endpoints else None
        )
        return EmbeddedTransport(registry, bearer_from_settings(settings))


def open_storage(root: str | Path, upload_age: float = UPLOAD_AGE) -> Storage:
    """The storage for a root.

    Args:
        root: a folder, or `:memory:`.
        upload_age: uploads that got no byte for this many seconds are deleted now.

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
