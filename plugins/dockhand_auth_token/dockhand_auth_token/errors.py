"""The errors of this package."""

from __future__ import annotations

from dockhand_core import ConfigError, DockhandError

__all__ = ["CredentialsInvalid", "RealmNotAllowed", "TokenEndpointFailed"]


class RealmNotAllowed(DockhandError):
    """The registry names a token endpoint that must not receive credentials.

    Attributes:
        realm: the origin of the token endpoint, such as `http://10.0.0.1:8080`; empty if the
            registry named something other than an http or https URL.
    """

    def __init__(self, message: str, *, realm: str) -> None:
        super().__init__(message)
        self.realm = realm


class CredentialsInvalid(ConfigError):
    """A credentials file cannot be read, or a credential helper failed."""


class TokenEndpointFailed(DockhandError):
    """The token endpoint answered with an error, or without a token.

    Attributes:
        status: the HTTP status of the answer, if it is an error, or None.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
