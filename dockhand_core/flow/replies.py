"""Replies to calls: the status, the headers, and the body, read or unread."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast, overload

from pydantic import BaseModel, TypeAdapter, ValidationError

from dockhand_core.errors import ResponseInvalid
from dockhand_core.http.urls import one_line, redacted_url

__all__ = ["JSON_LIMIT", "Reply", "Stream"]

T = TypeVar("T")

JSON_LIMIT = 8 << 20  # bytes; the default limit on a reply's body that is read into memory

_NOT_JSON = object()


class Stream(Protocol):
    """The unread body of a reply."""

    @property
    def length(self) -> int | None:
        """Size of the body in bytes, as the registry announced it, or None."""

    def iterate(self) -> Generator[bytes, None, None]:
        """Iterate over the blocks as they arrive; the body is closed afterwards."""

    def aiterate(self) -> AsyncGenerator[bytes, None]:
        """Iterate like `iterate`, for an async client."""

    def close(self) -> None:
        """Close the body without reading the rest."""

    async def aclose(self) -> None:
        """Close like `close`, for an async client."""


@dataclass(slots=True)
class Reply:
    """A reply with one of the expected statuses.

    Attributes:
        status: the HTTP status.
        headers: the headers; their names are case-insensitive.
        url: the URL that answered, after redirects; relative URLs in headers are resolved against
            it.
        body: the bytes of the body; empty if the call was streamed.
        attempts: number of times that the request was sent.
        unread: the unread body if the call was streamed; access it through `stream`.
    """

    status: int
    headers: Mapping[str, str]
    url: str
    body: bytes = b""
    attempts: int = field(default=1, kw_only=True)
    unread: Stream | None = field(default=None, kw_only=True)

    @property
    def stream(self) -> Stream:
        """The unread body of a streamed call; the flow has to read or close it."""
        if self.unread is None:
            raise TypeError("the call was not streamed: call(…, stream=True)")
        return self.unread

    @overload
    def json(self) -> dict[str, Any]: ...

    @overload
    def json(self, kind: type[T]) -> T: ...

    def json(self, kind: type[Any] = dict) -> Any:
        """Parse the body as JSON.

        Args:
            kind: the type that the JSON document must have: `dict`, `list`, or a type to validate
                it against, such as a pydantic model or `list[str]`.

        Raises:
            ResponseInvalid: the body is not JSON, or does not match `kind`; the message names the
                URL and, for a model, the invalid field.
        """
        plain = kind in (dict, list)
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            document = _NOT_JSON
        if document is _NOT_JSON or (plain and not isinstance(document, kind)):
            due = "a JSON array" if kind is list else "a JSON object"
            media_type = one_line(self.headers.get("content-type", "no content type")[:80])
            raise ResponseInvalid(
                f"{redacted_url(self.url)}: {due} was due, not {len(self.body)} bytes of "
                f"{media_type}",
                status=self.status,
            )
        return document if plain else self.validated(kind, document)

    def validated(self, kind: type[T], value: object) -> T:
        """Validate a part of the parsed body, and convert it to a type.

        Args:
            kind: a pydantic model, or any other type that pydantic validates.
            value: the part of the body, such as an item of a list in `json()`.

        Raises:
            ResponseInvalid: `value` does not match; the message names the URL, the type and the
                invalid field.
        """
        try:
            if isinstance(kind, type) and issubclass(kind, BaseModel):  # the usual case, and fast
                return cast("T", kind.model_validate(value))
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            field_name = ".".join(str(part) for part in first["loc"])
            reason = f"{field_name}: {first['msg']}" if field_name else first["msg"]
            name = kind.__name__ if isinstance(kind, type) else str(kind)
            raise ResponseInvalid(
                f"{redacted_url(self.url)}: the reply is not a valid {name}: {one_line(reason)}",
                status=self.status,
            ) from None
