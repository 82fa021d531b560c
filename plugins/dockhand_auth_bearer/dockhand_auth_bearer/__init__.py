"""The auth driver `bearer`: one fixed token in every request."""

from dockhand_auth_bearer.driver import BearerAuth

__all__ = ["BearerAuth"]
