"""Functions that resolve URLs, compare their origins, and redact them for messages. No I/O."""

from __future__ import annotations

import functools
import re
from typing import TypeAlias
from urllib.parse import parse_qsl, quote, urljoin, urlsplit, urlunsplit

from dockhand_core.errors import NameInvalid, ResponseInvalid
from dockhand_core.text import printable

__all__ = [
    "PORTS",
    "PUBLIC_QUERY",
    "Origin",
    "is_relative",
    "one_line",
    "origin_of",
    "path_segment",
    "redacted_url",
    "resolve_url",
]

Origin: TypeAlias = tuple[str, str, int | None]  # scheme, host and port

PORTS = {"http": 80, "https": 443}
PUBLIC_QUERY = {"n", "last", "digest", "mount", "from", "artifactType", "service", "scope"}
_QUOTED_URL = re.compile(r"(?:https?:/)?/[^\s'\"<>?]*\?[^\s'\"<>]+")


def redacted_url(url: str) -> str:
    """Remove user, password and possibly secret query values from a URL, for messages and logs."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a URL that cannot be parsed)"
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = "&".join(
        # the name of a parameter without a value may itself be the secret
        (f"{quote(k)}={quote(v, safe='/:') if k in PUBLIC_QUERY else '…'}" if v else "…")
        for k, v in pairs
    )
    host = parts.netloc.rpartition("@")[2]
    return printable(urlunsplit((parts.scheme, host, parts.path, query, "")))


@functools.lru_cache(maxsize=64)  # asked several times for each request
def origin_of(url: str) -> Origin:
    """The origin of a URL: scheme and host in lower case, and port. IDNA encodes the host."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", url, None  # an invalid URL: without a scheme it differs from every valid origin
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if not host.isascii():
        import httpx  # here: plugins are discovered without httpx, see `plugin_failures`

        try:  # encoded as in the request, so that one host has one name
            host = httpx.URL(scheme="https", host=host).raw_host.decode("ascii")
        except httpx.InvalidURL:
            return "", url, None
    return scheme, host, port or PORTS.get(scheme)


def is_relative(path: str) -> bool:
    """Whether a call's path is below `/v2/`; otherwise it is an absolute path or a whole URL."""
    return not path.startswith(("/", "http://", "https://"))


def resolve_url(base: str, target: str) -> str:
    """Make the target of a `Location` or `Link` header an absolute URL.

    Args:
        base: the URL that a relative target is resolved against.
        target: the target, absolute or relative.

    Raises:
        ResponseInvalid: the result is not a URL.
    """
    try:
        found = urljoin(base, target)
        urlsplit(found)
    except ValueError:
        raise ResponseInvalid(
            f"{redacted_url(base)} leads to {one_line(target.partition('?')[0])!r}, not a URL"
        ) from None
    return found


def path_segment(text: str) -> str:
    """Quote a name as one segment of a URL's path.

    Everything but letters, digits and `-._~` is encoded, `/` and `?` too. Texts that quoting does
    not change, but that lead elsewhere, are refused: `DELETE /v1/projects/..` would be sent as
    `DELETE /v1/`.

    Raises:
        NameInvalid: the text is empty, `.` or `..`, or cannot be written as UTF-8.
    """
    if text in ("", ".", ".."):
        raise NameInvalid(f"{text!r} cannot be a part of a URL's path: give another name")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise NameInvalid(f"{text!r} cannot be a part of a URL: it is not valid Unicode") from None


def one_line(text: str) -> str:
    """Make text from outside safe for a message: one line, printable, at most 300 characters.

    URLs in the text are redacted, because transports and registries quote them with their queries.
    """
    flat = _QUOTED_URL.sub(lambda found: redacted_url(found[0]), text[:1000])
    flat = " ".join(flat.split(" ")).replace("\n", " ").replace("\r", " ")
    flat = printable(flat).rstrip()
    return flat if len(flat) <= 300 else f"{flat[:299]}…"
