"""What a client asks for, and how it is refused.

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

__all__ = ["Refused", "TokenRequest", "read_form", "read_query"]

_QUERY = 16 << 10
_HEADER = 8 << 10
_BODY = 64 << 10
_BODY_SECONDS = 20
_FIELDS = 200
_SCOPES = 100
_NAME = 255
_SECRET = 4096
_FORM = "application/x-www-form-urlencoded"


class Refused(Exception):
    """No token, and why.

    Attributes:
        status: the HTTP status.
        code: as registries have them, such as `UNAUTHORIZED`.
        message: for a person.
        error: as OAuth2 has them, such as `invalid_grant`.
        headers: of the reply.
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
        """What docker, skopeo and crane read, and what OAuth2 clients read."""
        return {
            "errors": [{"code": self.code, "message": self.message, "detail": None}],
            "error": self.error,
            "error_description": self.message,
        }


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request for a token.

    Attributes:
        service: the registry that it is for; None where the client did not say.
        scopes: what is asked for, each resource once.
        username: who says to be asking; None for an anonymous client.
        password: the proof of it.
        refresh_token: given instead of both.
        offline: whether a refresh token is wanted.
        client: what the client calls itself.
    """

    service: str | None
    scopes: tuple[Scope, ...]
    username: str | None = None
    password: SecretStr = field(default=SecretStr(""), repr=False)
    refresh_token: SecretStr | None = field(default=None, repr=False)
    offline: bool = False
    client: str = ""


def read_query(request: Request) -> TokenRequest:
    """A GET: Basic credentials or none, and the rest in the query.

    Raises:
        Refused: it cannot be understood.
    """
    query: bytes = request.scope["query_string"]
    if len(query) > _QUERY:
        raise Refused(414, "UNSUPPORTED", f"the query is longer than {_QUERY} bytes")
    values = _Values(query)
    username, password = _basic(request)
    return TokenRequest(
        service=values.one("service"),
        scopes=values.scopes(),
        username=username,
        password=password,
        offline=(values.one("offline_token") or "").lower() in {"true", "1"},
        client=_client(values),
    )


async def read_form(request: Request) -> TokenRequest:
    """A POST: everything in a form, with a length or in chunks.

    Raises:
        Refused: it cannot be understood.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise Refused(415, "UNSUPPORTED", f"the body has to be a form, {_FORM}")
    values = _Values(await _body(request))
    grant = values.one("grant_type")
    username, password, refresh_token = None, SecretStr(""), None
    if grant == "password":
        username = _username(values.one("username") or "")
        password = _password(values.one("password", _SECRET) or "")
    elif grant == "refresh_token":
        refresh_token = SecretStr(values.one("refresh_token", _SECRET) or "")
    else:
        error = "unsupported_grant_type" if grant else "invalid_request"
        raise Refused(400, "UNSUPPORTED", "grant_type has to be password or refresh_token", error)
    return TokenRequest(
        service=values.one("service"),
        scopes=values.scopes(),
        username=username,
        password=password,
        refresh_token=refresh_token,
        offline=values.one("access_type") == "offline",
        client=_client(values),
    )


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > _BODY:
                    raise Refused(413, "SIZE_INVALID", f"the body is larger than {_BODY} bytes")
    except TimeoutError:
        raise Refused(408, "UNKNOWN", "the body did not arrive in time") from None
    except ClientDisconnect:
        raise Refused(400, "UNKNOWN", "the client went away") from None
    return bytes(body)


class _Values:
    """The fields of a query or a form."""

    def __init__(self, text: bytes) -> None:
        try:
            self._pairs = parse_qsl(
                text.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_FIELDS,
            )
        except ValueError:
            raise Refused(
                400, "UNSUPPORTED", f"not a form of at most {_FIELDS} fields in UTF-8"
            ) from None

    def one(self, name: str, longest: int = _NAME) -> str | None:
        """A field's value, or None where it is not there."""
        found = [value for key, value in self._pairs if key == name]
        if len(found) > 1:
            raise Refused(400, "UNSUPPORTED", f"{name} is given more than once")
        if found and (len(found[0]) > longest or "\0" in found[0]):
            raise Refused(400, "UNSUPPORTED", f"{name} is too long, or has a NUL in it")
        return found[0] if found else None

    def scopes(self) -> tuple[Scope, ...]:
        """The scopes of all fields `scope`, of which each may have several."""
        texts = [part for key, value in self._pairs if key == "scope" for part in value.split(" ")]
        texts = [text for text in texts if text]
        if len(texts) > _SCOPES:
            raise Refused(
                400, "UNSUPPORTED", f"more than {_SCOPES} scopes are asked for", "invalid_scope"
            )
        return Scope.merged(_scope(text) for text in texts)


def _scope(text: str) -> Scope:
    try:
        scope = Scope.parse(text)
    except ScopeInvalid as error:
        raise Refused(400, "UNSUPPORTED", _cut(str(error)), "invalid_scope") from None
    if len(scope.name) > _NAME:
        raise Refused(
            400, "UNSUPPORTED", f"a scope's name has over {_NAME} characters", "invalid_scope"
        )
    return scope


def _basic(request: Request) -> tuple[str | None, SecretStr]:
    headers: Sequence[str] = request.headers.getlist("authorization")
    if not headers:
        return None, SecretStr("")
    pair = basic_credentials(headers[0]) if len(headers[0]) <= _HEADER else None
    if len(headers) > 1 or pair is None:
        raise Refused(
            401, "UNAUTHORIZED", "the header Authorization has no Basic credentials",
            "invalid_request",
        )  # fmt: skip
    username, password = pair
    try:
        return _username(username), _password(password.decode())
    except UnicodeDecodeError:
        raise Refused(401, "UNAUTHORIZED", "the password is not UTF-8", "invalid_grant") from None


def _username(text: str) -> str:
    if not text or len(text) > _NAME or not text.isprintable():
        raise Refused(
            401, "UNAUTHORIZED",
            f"a user name has 1 to {_NAME} characters, without control characters",
            "invalid_grant",
        )  # fmt: skip
    return text


def _password(text: str) -> SecretStr:
    if len(text) > _SECRET or "\0" in text:
        raise Refused(
            401, "UNAUTHORIZED", "the password is too long, or has a NUL in it", "invalid_grant"
        )
    return SecretStr(text)


def _client(values: _Values) -> str:
    text = values.one("client_id") or ""
    return text if text.isprintable() else ""


def _cut(text: str) -> str:
    return text if len(text) <= 300 else text[:300] + "…"
