"""Access control: who a client is, and what it may do."""

from dockhand_embedded.access.policy import (
    AccessRejection,
    Authenticate,
    AuthenticatedUser,
    AuthResult,
)

__all__ = ["AccessRejection", "AuthResult", "Authenticate", "AuthenticatedUser"]
