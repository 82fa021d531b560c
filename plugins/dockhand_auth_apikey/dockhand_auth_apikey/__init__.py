"""The auth driver `apikey`: an API key as the password of HTTP Basic, or in a chosen header."""

from dockhand_auth_apikey.driver import ApiKeyAuth

__all__ = ["ApiKeyAuth"]
