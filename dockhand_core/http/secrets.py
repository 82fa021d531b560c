"""The secrets of a connection, and their removal from error messages, attributes and log lines.

`Secrets` knows all secrets that a connection sends: those of its settings, and those that its auth
driver sends or receives. A registry, or a proxy in front of it, may quote them in a reply, in any
header and in many encodings. Each text is therefore decoded as far as possible before the search:
percent-encoding and escapes of JSON, Python and HTML, in any combination and any number of times.
A secret is also found in hexadecimal, inside of base64, at any position and with line breaks, and
where it was cut off at the end.

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
from pydantic import BaseModel, SecretBytes, SecretStr

from dockhand_core.errors import DockhandError
from dockhand_core.http.secret_forms import (
    MIN_ANYWHERE,
    REPLACEMENT,
    Form,
    SecretSearch,
    forms_of,
)
from dockhand_core.http.urls import PUBLIC_QUERY
from dockhand_core.plugin_failures import exception_chain

__all__ = ["Secrets", "secrets_of"]

T = TypeVar("T")

_MAX_DEPTH = 50  # nested lists and mappings
_MAX_RECENT = 128  # secrets that were sent or received; the oldest one is forgotten
_MAX_LENGTH = 64 << 10  # characters of a secret; the rest is ignored
_MAX_JSON = 256 << 10  # bytes; a larger reply is not searched for tokens

_CONTAINERS = (list, tuple, set, frozenset, dict)
# Attributes of errors with texts of a reply.
_OF_REPLY = ("detail", "errors", "request_id")

# Headers that auth drivers send, and that are no credentials.
_PUBLIC_HEADERS = frozenset(
    {"accept", "accept-encoding", "content-length", "content-type", "host", "user-agent"}
)
# Fields of forms, JSON documents and queries that contain credentials. `AuthDriver.hide_secret` and
# the guide of auth drivers list them.
_SECRET_FIELD = re.compile(
    r"pass|secret|token|assertion|credential|signature|api.?key|jwt|"
    r"^(session|session[_-]?id|sid|cookie)$",
    re.I,
)
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
        self._kept: dict[str, None] = {}
        self._forms: dict[str, tuple[Form, ...]] = {}
        self._search: tuple[tuple[str, ...], SecretSearch] = ((), SecretSearch(()))
        # The results of the last search of a reply; an error holds them, and is cleaned as a whole.
        self._clean: tuple[tuple[str, ...], frozenset[str]] = ((), frozenset())

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._fixed) + len(self._kept) + len(self._recent)}>"

    def remember(self, *values: str) -> None:
        """Add values that were sent or received; of many, the oldest are forgotten."""
        for value in values:
            _add(self._recent, value)

    def keep(self, secret: str) -> None:
        """Add a secret that an auth driver names; only further ones of these displace it."""
        for part in _parts_of(secret):
            _add(self._kept, part)

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
        return self._texts([text], reply)[0]

    def _texts(self, texts: Sequence[str], reply: bool) -> list[str]:
        known = (*self._fixed, *list(self._kept), *list(self._recent))
        searched, search = self._search
        if searched != known:
            cached = self._forms
            self._forms = forms = {each: cached.get(each) or forms_of(each) for each in known}
            search = SecretSearch(forms.items())
            searched = known
            self._search = searched, search
        if not searched:
            return list(texts)
        for_secrets, clean = self._clean
        if for_secrets is not searched:
            clean = frozenset()
        wanted = [each for each in texts if each not in clean]
        found = dict(zip(wanted, search.hidden(wanted, reply=reply), strict=True)) if wanted else {}
        if reply and found:
            self._clean = searched, frozenset(found.values())
        return [found.get(each, each) for each in texts]

    def value(self, value: T, *, reply: bool = False) -> T:
        """Return a copy of a value without secrets; objects other than JSON's are kept as they are.

        Args:
            value: a text, or nested lists, tuples, sets and mappings of texts.
            reply: see `text`.
        """
        return cast("T", self._values([value], reply)[0])

    def _values(self, values: list[Any], reply: bool) -> list[Any]:
        """Copies of values without secrets. All texts are searched at once."""
        texts: dict[str, str] = {}
        deep = _collect(values, texts, 0)
        found = self._texts(list(texts), reply)
        changed = {old: new for old, new in zip(texts, found, strict=True) if old != new}
        return _replaced(values, changed, 0) if changed or deep else values

    def clean(self, error: BaseException) -> None:
        """Remove the secrets from an exception, its notes and attributes, and its causes.

        An exception that is not Dockhand's is the caller's own, such as that of a progress
        function, and stays unchanged.
        """
        if not isinstance(error, DockhandError):
            return
        for each in exception_chain(error):
            if isinstance(each, DockhandError) and each.__suppress_context__:
                each.__context__ = None  # never shown, but it may hold a whole request
            self._clean_one(each)

    def _clean_one(self, error: BaseException) -> None:
        if isinstance(error, httpx.HTTPError):
            error._request = None
        attributes = {k: v for k, v in vars(error).items() if k != "repository"}  # the caller's
        said = {k: attributes.pop(k) for k in _OF_REPLY if k in attributes}
        args, *others = self._values([error.args, *attributes.values()], False)
        if args is not error.args:
            error.args = args
        pairs = [*zip(attributes, others, strict=True)]
        pairs += zip(said, self._values(list(said.values()), True), strict=True)
        for name, clean in pairs:
            if clean is not getattr(error, name):
                setattr(error, name, clean)


def _add(secrets: dict[str, None], value: str) -> None:
    """Add a secret, and forget the oldest of many."""
    if value and value not in secrets:
        secrets[value[:_MAX_LENGTH]] = None
        for oldest in list(secrets)[:-_MAX_RECENT]:
            secrets.pop(oldest, None)


def _collect(value: Any, texts: dict[str, str], depth: int) -> bool:
    """Add all texts in a value to the keys of `texts`; return whether some are nested too deep."""
    kind = type(value)
    if kind in _CONTAINERS:
        if depth > _MAX_DEPTH:
            return True
        deep = False
        for each in value:
            deep = _collect(each, texts, depth + 1) or deep
        for each in value.values() if kind is dict else ():
            deep = _collect(each, texts, depth + 1) or deep
        return deep
    if isinstance(value, str):
        texts[str(value)] = ""
    elif isinstance(value, bytes):
        texts[value.decode("utf-8", "surrogateescape")] = ""
    return False


def _replaced(value: Any, new: Mapping[str, str], depth: int) -> Any:
    """A copy of a value with new texts; the value itself, if nothing in it changes."""
    kind = type(value)
    if isinstance(value, str):
        return new.get(value, value)
    if isinstance(value, bytes):
        text = value.decode("utf-8", "surrogateescape")
        return new[text].encode("utf-8", "surrogateescape") if text in new else value
    if kind not in _CONTAINERS:
        return value
    if depth > _MAX_DEPTH:
        return REPLACEMENT
    if kind is dict:
        pairs = [
            (_replaced(k, new, depth + 1), _replaced(v, new, depth + 1)) for k, v in value.items()
        ]
        same = all(k is old and v is value[old] for (k, v), old in zip(pairs, value, strict=True))
        return value if same else dict(pairs)
    items = [_replaced(each, new, depth + 1) for each in value]
    same = all(a is b for a, b in zip(items, value, strict=True))
    return value if same else kind(items)


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
