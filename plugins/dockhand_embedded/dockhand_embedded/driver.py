"""The driver `embedded`: the client of a registry that runs in this very process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from dockhand_distribution import DistributionDriver
from pydantic import BaseModel, ConfigDict

from dockhand_core import ConfigError
from dockhand_embedded.access.policy import bearer
from dockhand_embedded.notifications import Endpoint, Notifier
from dockhand_embedded.protocol.registry import Registry
from dockhand_embedded.storage.base import Storage
from dockhand_embedded.storage.layout import LayoutStorage
from dockhand_embedded.storage.memory import MemoryStorage
from dockhand_embedded.storage.upload_files import UPLOAD_AGE
from dockhand_embedded.transport import EmbeddedTransport

MEMORY = ":memory:"


class EmbeddedDriver(DistributionDriver):
    """The specification's flows, over a transport that never leaves the process.

    Two connections with one folder as root see the same repositories, in any number of processes.
    Each connection with the root `:memory:` has repositories of its own, gone with the connection.
    """

    name = "embedded"

    class Settings(BaseModel):
        """A connection's keys beside the core's own.

        Attributes:
            root: the folder that keeps the repositories, one OCI Image Layout each, created if
                it is not there; or `:memory:`.
            token_realm, token_service, token_issuer, token_certificate, token_jwks: want a token
                for each request, as `bearer.Bearer` does; all but one of the last two together.
            notifications: who is told what happens, as with Distribution: `url`, `token`,
                `timeout` in seconds.
        """

        model_config = ConfigDict(extra="forbid", frozen=True)

        root: Literal[":memory:"] | Path
        token_realm: str | None = None
        token_service: str | None = None
        token_issuer: str | None = None
        token_certificate: Path | None = None
        token_jwks: Path | None = None
        notifications: tuple[Endpoint, ...] = ()

    @classmethod
    def base_uri(cls, settings: Any) -> str:  # noqa: ARG003
        """A name that is never looked up."""
        return "http://embedded"

    @classmethod
    def transport(cls, settings: Any) -> EmbeddedTransport:
        """A transport to a registry over the settings' root."""
        told = settings.notifications
        registry = Registry(storage_at(settings.root), notifier=Notifier(told) if told else None)
        return EmbeddedTransport(registry, bearer(settings))


def storage_at(root: str | Path, upload_age: float = UPLOAD_AGE) -> Storage:
    """The storage that a root names.

    Args:
        root: a folder, or `:memory:`.
        upload_age: uploads that got no byte for so many seconds are forgotten.

    Raises:
        ConfigError: the folder cannot be used.
    """
    if root == MEMORY:
        return MemoryStorage()
    try:
        return LayoutStorage(root, upload_age)
    except OSError as error:
        raise ConfigError(f"root: {root} cannot be used as a registry's folder: {error}") from error
