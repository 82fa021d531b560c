"""The auth driver `basic`: a user name and a password in every request."""

from dockhand_auth_basic.driver import BasicAuth

__all__ = ["BasicAuth"]
