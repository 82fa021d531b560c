"""The auth driver `apikey`: an API key as a password, or in a header of its own."""

from dockhand_auth_apikey.driver import ApiKeyAuth

__all__ = ["ApiKeyAuth"]
