"""The auth driver `apikey`: a key in the place where the registry wants it."""

from dockhand_auth_apikey.driver import ApiKeyAuth

__all__ = ["ApiKeyAuth"]
