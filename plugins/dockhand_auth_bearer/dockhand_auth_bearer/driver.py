"""The auth driver `bearer`: one fixed token in every request."""

from __future__ import annotations

from collections.abc import Generator

from pydantic import SecretStr, field_validator

from dockhand_core.auth import AuthDriver, Request, Response

__all__ = ["BearerAuth"]


class BearerAuth(AuthDriver):
    """Sends the same token with every request, as `Authorization: Bearer`.

    The token is not parsed and not renewed.

    Follows: RFC 6750, section 2.1.
    """

    class Settings(AuthDriver.Settings):
        """The connection's `auth` table.

        Args:
            token: the token; or `token_file`, a file that holds it.
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
        """Send the request with the header."""
        request.headers["Authorization"] = self._header
        yield request
