"""URLs: resolved, compared by origin, and redacted for messages. No I/O."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urljoin, urlsplit, urlunsplit

from dockhand_core.errors import ResponseInvalid

__all__ = ["PORTS", "one_line", "origin_of", "redacted_url", "resolve_url"]

PORTS = {"http": 80, "https": 443}
_PUBLIC_QUERY = {"n", "last", "digest", "mount", "from", "artifactType", "service", "scope"}
_QUOTED_URL = re.compile(r"(?:https?:/)?/[^\s'\"<>?]*\?[^\s'\"<>]+")


def redacted_url(url: str) -> str:
    """A URL for messages and logs, without userinfo and without query values that may be secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a URL that cannot be parsed)"
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = "&".join(
        # a key without a value may be the secret
        (f"{quote(k)}={quote(v, safe='/:') if k in _PUBLIC_QUERY else '…'}" if v else "…")
        for k, v in pairs
    )
    host = parts.netloc.rpartition("@")[2]
    return _printable(urlunsplit((parts.scheme, host, parts.path, query, "")))


def origin_of(url: str) -> tuple[str, str, int | None]:
    """The origin of a URL: scheme, host and port."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", url, None  # equal to no valid origin
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), port or PORTS.get(scheme)


def resolve_url(base: str, target: str) -> str:
    """A `Location` or `Link`, absolute or relative, as a whole URL.

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


def one_line(text: str) -> str:
    """A text from outside on one line, for messages: printable, at most 300 characters.

    URLs in it are redacted: messages of transports and registries quote them in full.
    """
    flat = _QUOTED_URL.sub(lambda found: redacted_url(found[0]), text[:1000])
    flat = " ".join(flat.split(" ")).replace("\n", " ").replace("\r", " ")
    flat = _printable(flat).rstrip()
    return flat if len(flat) <= 300 else f"{flat[:299]}…"


def _printable(text: str) -> str:
    """The text with control characters replaced, which a terminal would interpret."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)
