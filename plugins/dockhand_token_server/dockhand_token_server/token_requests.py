"""Parsing of token requests (GET and POST), and the error that refuses a token request.

Follows: Distribution's "Docker Registry v2 authentication via central service" (GET) and "Docker
Registry v2 authentication using OAuth2" (POST); RFC 6749, section 5.2, for errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from pydantic import SecretStr
from starlette.requests import ClientDisconnect, Request

from dockhand_core import Scope, ScopeInvalid
from dockhand_core.server import basic_credentials

__all__ = ["TokenRequest", "TokenRequestError", "read_form", "read_query"]

# Limits in bytes
_MAX_QUERY = 16 << 10
_MAX_BODY = 64 << 10
# Limits in characters
_MAX_HEADER = 8 << 10
_MAX_NAME = 255
_MAX_SECRET = 4096
# Limits on the number of items in a request
_MAX_FIELDS = 200
_MAX_SCOPES = 100

_BODY_SECONDS = 20  # the time in which the whole body must arrive
_FORM = "application/x-www-form-urlencoded"


class TokenRequestError(Exception):
    """A token request is refused. The attributes describe the reply.

    Attributes:
        status: the HTTP status.
        code: an error code of the registry API, such as `UNAUTHORIZED`.
        message: an explanation in plain words.
        error: an error code of OAuth2, such as `invalid_grant`.
        headers: additional HTTP headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        error: str = "invalid_request",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.error = status, code, message, error
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the reply, with the error fields of the registry API and of OAuth2."""
        return {
            "errors": [{"code": self.code, "message": self.message, "detail": None}],
            "error": self.error,
            "error_description": self.message,
        }


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A client's request for a token.

    Attributes:
        service: the name of the registry that the token is for; None if the request has none.
        scopes: the requested scopes; each resource occurs once.
        username: the name of the user to authenticate; None for an anonymous client, or if the
            request has a refresh token.
        password: the user's password.
        refresh_token: a refresh token, sent instead of a user name and a password.
        offline: whether the client asks for a new refresh token.
        client_id: the name of the client program; may be empty.
    """

    service: str | None
    scopes: tuple[Scope, ...]
    username: str | None = None
    password: SecretStr = field(default=SecretStr(""), repr=False)
    refresh_token: SecretStr | None = field(default=None, repr=False)
    offline: bool = False
    client_id: str = ""


def read_query(request: Request) -> TokenRequest:
    """Parse a GET request, with its fields in the query and optional Basic credentials.

    Raises:
        TokenRequestError: the request is malformed.
    """
    query: bytes = request.scope["query_string"]
    if len(query) > _MAX_QUERY:
        raise TokenRequestError(414, "UNSUPPORTED", f"the query is longer than {_MAX_QUERY} bytes")
    fields = _FormFields(query)
    username, password = _basic_username_and_password(request)
    return TokenRequest(
        service=fields.get("service"),
        scopes=fields.scopes(),
        username=username,
        password=password,
        offline=(fields.get("offline_token") or "").lower() in {"true", "1"},
        client_id=_client_id(fields),
    )


async def read_form(request: Request) -> TokenRequest:
    """Read and parse a POST request, whose fields and credentials are in a form.

    The body may be chunked or have a Content-Length.

    Raises:
        TokenRequestError: the request is malformed.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _FORM:
        raise TokenRequestError(415, "UNSUPPORTED", f"the body must be a form: {_FORM}")
    fields = _FormFields(await _read_body(request))
    grant_type = fields.get("grant_type")
    username, password, refresh_token = None, SecretStr(""), None
    if grant_type == "password":
        username = _checked_username(fields.get("username") or "")
        password = _checked_password(fields.get("password", _MAX_SECRET) or "")
    elif grant_type == "refresh_token":
        refresh_token = SecretStr(fields.get("refresh_token", _MAX_SECRET) or "")
    else:
        error = "unsupported_grant_type" if grant_type else "invalid_request"
        raise TokenRequestError(
            400, "UNSUPPORTED", "grant_type must be password or refresh_token", error
        )
    return TokenRequest(
        service=fields.get("service"),
        scopes=fields.scopes(),
        username=username,
        password=password,
        refresh_token=refresh_token,
        offline=fields.get("access_type") == "offline",
        client_id=_client_id(fields),
    )


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > _MAX_BODY:
                    raise TokenRequestError(
                        413, "SIZE_INVALID", f"the body is larger than {_MAX_BODY} bytes"
                    )
    except TimeoutError:
        raise TokenRequestError(
            408, "UNKNOWN", f"the body did not arrive within {_BODY_SECONDS} seconds"
        ) from None
    except ClientDisconnect:
        raise TokenRequestError(400, "UNKNOWN", "the client disconnected") from None
    return bytes(body)


class _FormFields:
    """The fields of a URL-encoded query or form."""

    def __init__(self, text: bytes) -> None:
        try:
            self._pairs = parse_qsl(
                text.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_MAX_FIELDS,
            )
        except ValueError:
            raise TokenRequestError(
                400, "UNSUPPORTED",
                f"the query or form must be URL-encoded UTF-8 with at most {_MAX_FIELDS} fields",
            ) from None  # fmt: skip

    def get(self, name: str, max_length: int = _MAX_NAME) -> str | None:
        """The value of a field; None if the field is absent.

        Raises:
            TokenRequestError: the field is repeated, or its value is too long or contains NUL.
        """
        found = [value for key, value in self._pairs if key == name]
        if len(found) > 1:
            raise TokenRequestError(400, "UNSUPPORTED", f"{name} is given more than once")
        if found and (len(found[0]) > max_length or "\0" in found[0]):
            raise TokenRequestError(
                400, "UNSUPPORTED",
                f"{name} is longer than {max_length} characters, or contains NUL",
            )  # fmt: skip
        return found[0] if found else None

    def scopes(self) -> tuple[Scope, ...]:
        """The scopes of all `scope` fields. A field separates several scopes by spaces."""
        texts = [part for key, value in self._pairs if key == "scope" for part in value.split(" ")]
        texts = [text for text in texts if text]
        if len(texts) > _MAX_SCOPES:
            raise TokenRequestError(
                400, "UNSUPPORTED", f"the request has more than {_MAX_SCOPES} scopes",
                "invalid_scope",
            )  # fmt: skip
        return Scope.merged(_parse_scope(text) for text in texts)


def _parse_scope(text: str) -> Scope:
    try:
        scope = Scope.parse(text)
    except ScopeInvalid as error:
        raise TokenRequestError(
            400, "UNSUPPORTED", _shortened(str(error)), "invalid_scope"
        ) from None
    if len(scope.name) > _MAX_NAME:
        raise TokenRequestError(
            400, "UNSUPPORTED", f"the name in a scope is longer than {_MAX_NAME} characters",
            "invalid_scope",
        )  # fmt: skip
    return scope


def _basic_username_and_password(request: Request) -> tuple[str | None, SecretStr]:
    headers: Sequence[str] = request.headers.getlist("authorization")
    if not headers:
        return None, SecretStr("")
    credentials = basic_credentials(headers[0]) if len(headers[0]) <= _MAX_HEADER else None
    if len(headers) > 1 or credentials is None:
        raise TokenRequestError(
            401, "UNAUTHORIZED",
            "the Authorization header must hold Basic credentials, and appear once",
            "invalid_request",
        )  # fmt: skip
    username, password = credentials
    try:
        return _checked_username(username), _checked_password(password.decode())
    except UnicodeDecodeError:
        raise TokenRequestError(
            401, "UNAUTHORIZED", "the password is not UTF-8", "invalid_grant"
        ) from None


def _checked_username(text: str) -> str:
    if not text or len(text) > _MAX_NAME or not text.isprintable():
        raise TokenRequestError(
            401, "UNAUTHORIZED",
            f"the user name must have 1 to {_MAX_NAME} characters, without control characters",
            "invalid_grant",
        )  # fmt: skip
    return text


def _checked_password(text: str) -> SecretStr:
    if len(text) > _MAX_SECRET or "\0" in text:
        raise TokenRequestError(
            401, "UNAUTHORIZED",
            f"the password is longer than {_MAX_SECRET} characters, or contains NUL",
            "invalid_grant",
        )  # fmt: skip
    return SecretStr(text)


def _client_id(fields: _FormFields) -> str:
    text = fields.get("client_id") or ""
    return text if text.isprintable() else ""


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else text[:300] + "…"
