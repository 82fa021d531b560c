"""The auth driver `basic`: a user name and a password in every request."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator

from pydantic import SecretStr, field_validator

from dockhand_core.auth import AuthDriver, Request, Response

__all__ = ["BasicAuth"]


class BasicAuth(AuthDriver):
    """Sends a user name and a password in the header `Authorization: Basic` of every request.

    Follows: RFC 7617, section 2.
    """

    class Settings(AuthDriver.Settings):
        """The settings in the connection's `auth` table.

        Args:
            username: the user name, without a colon.
            password: the password. The key `password_file` can be set instead, to the path of a
                file that contains the password.
        """

        username: str
        password: SecretStr

        @field_validator("username")
        @classmethod
        def _no_colon(cls, value: str) -> str:
            if ":" in value:
                raise ValueError("a user name with a colon cannot be sent (RFC 7617)")
            return value

        @field_validator("password")
        @classmethod
        def _no_nul(cls, value: SecretStr) -> SecretStr:
            # bcrypt, by which registries check passwords, stops at a NUL
            if "\0" in value.get_secret_value():
                raise ValueError("a password with a NUL cannot be sent (RFC 7617)")
            return value

    def __init__(self, settings: Settings) -> None:
        pair = f"{settings.username}:{settings.password.get_secret_value()}"
        self._header = f"Basic {b64encode(pair.encode()).decode()}"

    def auth_flow(self, request: Request) -> Generator[Request, Response, None]:
        """Send the request with the header `Authorization: Basic`."""
        request.headers["Authorization"] = self._header
        yield request
