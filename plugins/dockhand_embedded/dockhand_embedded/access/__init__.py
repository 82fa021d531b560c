"""Access control: authentication of clients, and their permissions."""

from dockhand_embedded.access.policy import (
    AccessRejection,
    Authenticate,
    AuthenticatedUser,
    AuthResult,
)

__all__ = ["AccessRejection", "AuthResult", "Authenticate", "AuthenticatedUser"]
