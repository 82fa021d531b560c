"""The auth driver `bearer`: a token that somebody else made."""

from dockhand_auth_bearer.driver import BearerAuth

__all__ = ["BearerAuth"]
