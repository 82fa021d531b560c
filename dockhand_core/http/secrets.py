"""The secrets of a connection, and their removal from error messages, attributes and log lines.

`Secrets` knows all secrets that a connection sends: those of its settings, and those that its auth
driver sends or receives. A registry, or a proxy in front of it, may quote them in a reply, in any
header and in many encodings. Each text is therefore decoded as far as possible before the search:
percent-encoding and escapes of JSON, Python and HTML, in any combination and any number of times.
A secret is also found inside of base64, at any position, and where it was cut off at the end.

Secrets are replaced by `...`. Short secrets are a compromise, because they also occur by chance:

- A secret of at least 6 characters is replaced everywhere.
- A secret of 4 or 5 characters is replaced if no letter or digit stands beside it.
- A secret of up to 3 characters is replaced in the same way, but only in text that a reply
  contains: in the sentences and URLs of Dockhand's own messages it is not a secret but a word.

The encoded forms of a secret, such as `Basic` credentials, are longer than the secret itself, and
count with their own length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
from pydantic import BaseModel, SecretBytes, SecretStr

from dockhand_core.errors import DockhandError
from dockhand_core.http.secret_forms import (
    MIN_ALONE,
    MIN_ANYWHERE,
    REPLACEMENT,
    DecodedText,
    Form,
    forms_of,
)
from dockhand_core.http.urls import PUBLIC_QUERY

__all__ = ["Secrets", "secrets_of"]

T = TypeVar("T")

_MAX_DEPTH = 50  # nested lists and mappings
_MAX_RECENT = 128  # secrets that were sent or received; the oldest one is forgotten
_MAX_LENGTH = 64 << 10  # characters of a secret; the rest is ignored
_MAX_JSON = 256 << 10  # bytes; a larger reply is not searched for tokens

# Headers that auth drivers send, and that are no credentials.
_PUBLIC_HEADERS = frozenset(
    {"accept", "accept-encoding", "content-length", "content-type", "host", "user-agent"}
)
# Fields of forms, JSON documents and queries that contain credentials.
_SECRET_FIELD = re.compile(r"pass|secret|token|assertion|credential|signature|api.?key|jwt", re.I)
_PUBLIC_FIELD = re.compile(r"token_?(type|uri|url)|(type|expires.*)$", re.I)


def secrets_of(settings: object) -> Iterator[str]:
    """Yield all secrets in settings: each `SecretStr` and `SecretBytes`, however deeply nested."""
    if isinstance(settings, SecretStr):
        yield settings.get_secret_value()
    elif isinstance(settings, SecretBytes):
        yield settings.get_secret_value().decode("utf-8", "replace")
    elif isinstance(settings, BaseModel):
        for name in type(settings).model_fields:
            yield from secrets_of(getattr(settings, name))
    elif isinstance(settings, Mapping):
        for value in settings.values():
            yield from secrets_of(value)
    elif isinstance(settings, list | tuple | set | frozenset):
        for value in settings:
            yield from secrets_of(value)


class Secrets:
    """The secrets of one connection. Threads may share the object.

    Nothing is computed until an error or a log line needs it.

    Args:
        fixed: the secrets of the settings. Of a URL, only the user name and password are secret;
            of PEM data, each line.
    """

    def __init__(self, fixed: Iterable[str] = ()) -> None:
        self._fixed = tuple(dict.fromkeys(part for each in fixed for part in _parts_of(each)))
        # Used without a lock: every step on it is atomic, and a lock would not survive a fork.
        self._recent: dict[str, None] = {}
        self._forms: dict[str, tuple[Form, ...]] = {}

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._fixed) + len(self._recent)}>"

    def remember(self, *values: str) -> None:
        """Add values that were sent or received; of many, the oldest are forgotten."""
        for value in values:
            if value and value not in self._recent:
                self._recent[value[:_MAX_LENGTH]] = None
                for oldest in list(self._recent)[:-_MAX_RECENT]:
                    self._recent.pop(oldest, None)

    def remember_request(
        self, request: httpx.Request, before: Iterable[tuple[bytes, bytes]]
    ) -> None:
        """Add all headers of a request, except public ones and those that it had before."""
        for pair in request.headers.raw:
            if pair not in before and pair[0].lower().decode("latin-1") not in _PUBLIC_HEADERS:
                self.remember(pair[1].decode("utf-8", "replace"))

    def remember_query(self, url: str, known: str = "") -> None:
        """Add the values of the query of a URL, except public ones and those in the query `known`.

        Registries and storages sign URLs with such values.
        """
        if "?" not in url:
            return
        try:
            query = urlsplit(url).query
        except ValueError:
            return
        for name, value in parse_qsl(query):
            if name not in PUBLIC_QUERY and len(value) >= MIN_ANYWHERE and value not in known:
                self.remember(value)

    def remember_fetch(self, request: httpx.Request) -> None:
        """Add the secrets of an auth driver's own request: in headers, query and body."""
        self.remember_request(request, ())
        fields = parse_qsl(request.url.query.decode("ascii", "replace"))
        body = request.content if isinstance(request.stream, httpx.ByteStream) else b""
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            fields += parse_qsl(body.decode("utf-8", "replace"))
        else:
            self.remember_document(body)
        self.remember(*(value for name, value in fields if _is_secret_field(name)))

    def remember_document(self, body: bytes) -> None:
        """Add the tokens in a JSON document, such as the reply of a token endpoint."""
        if body.lstrip()[:1] != b"{" or len(body) > _MAX_JSON:
            return
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return
        self.remember(*_secret_fields(document))

    def text(self, text: str, *, reply: bool = False) -> str:
        """Return the text without secrets.

        Args:
            text: the text.
            reply: whether the text is part of a reply; then secrets of any length are removed.
        """
        if not (self._fixed or self._recent) or not text:
            return text
        cached = self._forms
        self._forms = forms = {
            each: cached.get(each) or forms_of(each) for each in (*self._fixed, *list(self._recent))
        }
        searched = DecodedText(text)
        for secret, each in forms.items():
            if len(secret) >= MIN_ALONE and not each:  # nothing but spaces and signs
                searched = DecodedText(searched.without_found().replace(secret, REPLACEMENT))
        for form in {form for each in forms.values() for form in each}:
            if reply or form.length >= MIN_ALONE:
                searched.find(form)
        return searched.without_found()

    def value(self, value: T, *, reply: bool = False) -> T:
        """Return a copy of a value without secrets; objects other than JSON's are kept as they are.

        Args:
            value: a text, or nested lists, tuples, sets and mappings of texts.
            reply: see `text`.
        """
        return cast("T", self._value(value, reply, 0))

    def _value(self, value: Any, reply: bool, depth: int) -> Any:
        if isinstance(value, str):
            clean = self.text(value, reply=reply)
            return value if clean == value else clean
        if isinstance(value, bytes):
            text = value.decode("utf-8", "surrogateescape")
            return self.text(text, reply=reply).encode("utf-8", "surrogateescape")
        if type(value) not in (list, tuple, set, frozenset, dict):
            return value
        if depth > _MAX_DEPTH:
            return REPLACEMENT
        if isinstance(value, dict):
            return {
                self._value(key, reply, depth + 1): self._value(each, reply, depth + 1)
                for key, each in value.items()
            }
        return type(value)(self._value(each, reply, depth + 1) for each in value)

    def clean(self, error: BaseException) -> None:
        """Remove the secrets from an exception, its notes and attributes, and its causes.

        An exception that is not Dockhand's is the caller's own, such as that of a progress
        function, and stays unchanged.
        """
        if not isinstance(error, DockhandError):
            return
        waiting: list[BaseException | None] = [error]
        seen: set[int] = set()
        while waiting:
            each = waiting.pop()
            if each is None or id(each) in seen:
                continue
            seen.add(id(each))
            if isinstance(each, DockhandError) and each.__suppress_context__:
                each.__context__ = None  # never shown, but it may hold a whole request
            self._clean_one(each)
            waiting += [each.__cause__, each.__context__]
            if isinstance(each, BaseExceptionGroup):
                waiting += each.exceptions

    def _clean_one(self, error: BaseException) -> None:
        if isinstance(error, httpx.HTTPError):
            error._request = None
        args = self.value(error.args)
        if args != error.args:
            error.args = args
        for name, value in list(vars(error).items()):
            if name == "repository":  # an argument of the caller
                continue
            clean = self.value(value, reply=name in ("detail", "errors", "request_id"))
            if clean is not value and clean != value:
                setattr(error, name, clean)


def _parts_of(secret: str) -> Iterator[str]:
    """The texts that are secret in a setting: of a URL the credentials, of PEM data the lines."""
    if "://" in secret:
        try:
            parts = urlsplit(secret)
            userinfo = parts.netloc.rpartition("@")[0]
            values = [value for _, value in parse_qsl(parts.query)]
        except ValueError:
            yield secret
            return
        if userinfo:
            yield unquote(userinfo)
            yield unquote(parts.password or parts.username or "")
        yield from values
    elif "-----BEGIN " in secret:
        lines = (line.strip() for line in secret.replace("\\n", "\n").split("\n"))
        yield from (line for line in lines if line and not line.startswith("-----"))
    else:
        yield secret[:_MAX_LENGTH]


def _is_secret_field(name: str) -> bool:
    return bool(_SECRET_FIELD.search(name)) and not _PUBLIC_FIELD.search(name)


def _secret_fields(document: Any, depth: int = 0) -> Iterator[str]:
    items = document.items() if isinstance(document, dict) else ()
    for name, value in items:
        if isinstance(value, str) and _is_secret_field(str(name)):
            yield value
        elif isinstance(value, dict) and depth < _MAX_DEPTH:
            yield from _secret_fields(value, depth + 1)
