"""Access control: who a client is, and what it may do."""

from dockhand_embedded.access.policy import (
    AccessRejection,
    Authenticate,
    AuthenticatedUser,
    AuthResult,
)

__all__ = ["Authenticate", "AccessRejection", "AuthenticatedUser", "AuthResult"]
