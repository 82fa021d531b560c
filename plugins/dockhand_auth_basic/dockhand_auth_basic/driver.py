"""The auth driver `basic`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator

from pydantic import SecretStr, field_validator

from dockhand_core.auth import AuthDriver, Request, Response

__all__ = ["BasicAuth"]


class BasicAuth(AuthDriver):
    """Sends `Basic` credentials with every request.

    Follows: RFC 7617.
    """

    class Settings(AuthDriver.Settings):
        """The connection's `auth` table.

        Args:
            username: may not contain a colon.
            password: or `password_file`, a file that holds it.
        """

        username: str
        password: SecretStr

        @field_validator("username")
        @classmethod
        def _no_colon(cls, value: str) -> str:
            if ":" in value:
                raise ValueError("a user name with a colon cannot be sent (RFC 7617)")
            return value

    def __init__(self, settings: Settings) -> None:
        pair = f"{settings.username}:{settings.password.get_secret_value()}"
        self._header = f"Basic {b64encode(pair.encode()).decode()}"

    def auth_flow(self, request: Request) -> Generator[Request, Response, None]:
        """Add the header."""
        request.headers["Authorization"] = self._header
        yield request
