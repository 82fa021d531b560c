"""What can go wrong on the way to a token."""

from __future__ import annotations

from dockhand_core import ConfigError, DockhandError

__all__ = ["CredentialsInvalid", "RealmNotAllowed", "TokenEndpointFailed"]


class RealmNotAllowed(DockhandError):
    """The registry names a token endpoint that credentials must not go to.

    Attributes:
        realm: its origin, such as `http://10.0.0.1:8080`.
    """

    def __init__(self, message: str, *, realm: str) -> None:
        super().__init__(message)
        self.realm = realm


class CredentialsInvalid(ConfigError):
    """A file with credentials cannot be read, or a credential helper failed."""


class TokenEndpointFailed(DockhandError):
    """The token endpoint answered with something that is no token."""
