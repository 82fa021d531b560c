"""The auth driver `bearer`: one fixed token in every request."""

from __future__ import annotations

from collections.abc import Generator

from pydantic import SecretStr, field_validator

from dockhand_core.auth import AuthDriver, Request, Response

__all__ = ["BearerAuth"]


class BearerAuth(AuthDriver):
    """Sends one fixed token in the header `Authorization: Bearer` of every request.

    The token is not parsed and not renewed.

    Follows: RFC 6750, section 2.1.
    """

    class Settings(AuthDriver.Settings):
        """The settings in the connection's `auth` table.

        Args:
            token: the token. The key `token_file` can be set instead, to the path of a file that
                contains the token.
        """

        token: SecretStr

        @field_validator("token")
        @classmethod
        def _header_safe(cls, value: SecretStr) -> SecretStr:
            text = value.get_secret_value()
            if not text or not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError("a token is printable ASCII without spaces")
            return value

    def __init__(self, settings: Settings) -> None:
        self._header = f"Bearer {settings.token.get_secret_value()}"

    def auth_flow(self, request: Request) -> Generator[Request, Response, None]:
        """Send the request with the header `Authorization: Bearer`."""
        request.headers["Authorization"] = self._header
        yield request
