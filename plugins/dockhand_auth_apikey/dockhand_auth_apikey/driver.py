"""The auth driver `apikey`: an API key as the password of HTTP Basic, or in a chosen header."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Generator

from pydantic import SecretStr, field_validator, model_validator

from dockhand_core.auth import AuthDriver, Request, Response

__all__ = ["ApiKeyAuth"]


class ApiKeyAuth(AuthDriver):
    """Sends an API key with every request.

    The API key is the password of HTTP Basic, as zot expects, or the value of a chosen header.
    """

    class Settings(AuthDriver.Settings):
        """The settings in the connection's `auth` table: `api_key`, and `username` or `header`.

        Args:
            api_key: the API key. Instead, the setting `api_key_file` can name a file that contains
                it.
            username: name of the API key's owner. The API key is then sent as the password of this
                user, in the header `Authorization: Basic`.
            header: name of the header to send the API key in, if there is no `username`.
            prefix: text before the API key in `header`, such as `"Token "`.
        """

        api_key: SecretStr
        username: str | None = None
        header: str | None = None
        prefix: str = ""

        @field_validator("api_key")
        @classmethod
        def _one_line(cls, value: SecretStr) -> SecretStr:
            if not value.get_secret_value() or not value.get_secret_value().isprintable():
                raise ValueError("an API key is one line, and not empty")
            return value

        @field_validator("username")
        @classmethod
        def _no_colon(cls, value: str | None) -> str | None:
            if value is not None and ":" in value:
                raise ValueError("a user name with a colon cannot be sent (RFC 7617)")
            return value

        @field_validator("prefix")
        @classmethod
        def _header_safe(cls, value: str) -> str:
            if not value.isascii() or not value.isprintable():
                raise ValueError("only printable ASCII is allowed")
            return value

        @field_validator("header")
        @classmethod
        def _header_name(cls, value: str | None) -> str | None:
            if value is not None and not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value):
                raise ValueError("not a valid name of an HTTP header")
            return value

        @model_validator(mode="after")
        def _username_or_header(self) -> ApiKeyAuth.Settings:
            if (self.username is None) == (self.header is None):
                raise ValueError("give either username (sends Basic) or header, not both")
            if self.prefix and self.header is None:
                raise ValueError("prefix can be given with header only")
            if self.header is not None and not self.api_key.get_secret_value().isascii():
                raise ValueError(
                    "a header can carry ASCII only, and the API key has other characters"
                )
            return self

    def __init__(self, settings: Settings) -> None:
        key = settings.api_key.get_secret_value()
        if settings.header is not None:
            self._name, self._value = settings.header, f"{settings.prefix}{key}"
        else:
            pair = b64encode(f"{settings.username}:{key}".encode()).decode()
            self._name, self._value = "Authorization", f"Basic {pair}"

    def auth_flow(self, request: Request) -> Generator[Request, Response, None]:
        """Send the request with the header that contains the API key."""
        request.headers[self._name] = self._value
        yield request
