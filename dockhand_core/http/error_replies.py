"""Reading what registries answer: errors, `Retry-After`, `Link`, challenges. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urljoin, urlsplit, urlunsplit

from dockhand_core import errors

__all__ = [
    "Challenge",
    "challenges",
    "error_of",
    "joined",
    "line",
    "links",
    "next_link",
    "origin_of",
    "retry_after",
    "shown",
]

_SHOWN_QUERY = {"n", "last", "digest", "mount", "from", "artifactType", "service", "scope"}
PORTS = {"http": 80, "https": 443}
_HEADER_LIMIT = 16 << 10  # a longer header is not worth parsing
_REQUEST_ID = ("x-request-id", "docker-request-id", "x-amzn-requestid", "x-goog-request-id")

_BY_KIND: dict[str, type[errors.RegistryError]] = {
    "manifest": errors.ManifestUnknown,
    "blob": errors.BlobUnknown,
    "upload": errors.BlobUploadUnknown,
    "tags": errors.NameUnknown,
}
_BY_STATUS: dict[int, type[errors.RegistryError]] = {
    401: errors.Unauthorized,
    403: errors.Denied,
    404: errors.NotFound,
    405: errors.Unsupported,
    413: errors.SizeInvalid,
    416: errors.RangeInvalid,
    429: errors.TooManyRequests,
}


def error_of(
    *,
    method: str,
    url: str,
    kind: str,
    repository: str | None,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    attempts: int = 1,
) -> errors.RegistryError:
    """The error that a reply stands for.

    The first code that is known decides; without one, status and what was asked for do.

    Follows: OCI Distribution Specification 1.1, "Error Codes".
    """
    entries = _entries(body)
    codes = [str(entry["code"]) for entry in entries]
    known = next((code for code in codes if code in errors.RegistryError.by_code), None)
    found: type[errors.RegistryError]
    if status >= 500:
        found = errors.ServerError
    elif status == 401 and known == "UNSUPPORTED":
        found = errors.Unauthorized  # what zot says of a token that it does not take
    elif known:
        found = errors.RegistryError.by_code[known]
    elif status == 404:
        found = _BY_KIND.get(kind, errors.NotFound)
    elif status < 400:
        found = errors.ResponseInvalid
    else:
        found = _BY_STATUS.get(status, errors.RegistryError)
    first = entries[0] if entries else {}
    request_id = next((headers[h] for h in _REQUEST_ID if h in headers), None)
    said = _said(entries, headers, body)
    wanted = _wanted(headers) if status == 401 else ""
    aside = [f"repository {repository}" if repository else "", wanted]
    aside += [f"request id {line(request_id)}" if request_id else ""]
    message = f"{method} {shown(url)}: {status}{said}"
    if any(aside):
        message += f" ({'; '.join(part for part in aside if part)})"
    return found(
        message,
        status=status,
        code=codes[0] if codes else None,
        detail=first.get("detail"),
        errors=entries,
        request_id=request_id,
        repository=repository,
        retry_after=retry_after(headers),
        attempts=attempts,
    )


def _entries(body: bytes) -> list[dict[str, Any]]:
    """The entries of `errors` that have a code; zot sends a failed login's entry bare."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return []
    if not isinstance(parsed, dict):
        return []
    found = parsed.get("errors", [parsed])
    if not isinstance(found, list):
        return []
    return [e for e in found[:100] if isinstance(e, dict) and isinstance(e.get("code"), str)]


def _said(entries: list[dict[str, Any]], headers: Mapping[str, str], body: bytes) -> str:
    """What the registry said, fit for one line."""
    parts = [f" {e['code']}" + (f": {e['message']}" if e.get("message") else "") for e in entries]
    if parts:
        more = f" (and {len(parts) - 3} more)" if len(parts) > 3 else ""
        return line(";".join(parts[:3])) + more
    text = body[:4096].decode("utf-8", "replace")
    if "html" in headers.get("content-type", "") or text.lstrip()[:1] == "<":
        title = re.search(r"<title>([^<]{1,200})</title>", text, re.IGNORECASE)
        return " an HTML page" + (f", {line(title[1]).strip()!r}" if title else "")
    return f": {line(text)}" if text.strip() else ""


_QUOTED_URL = re.compile(r"(?:https?:/)?/[^\s'\"<>?]*\?[^\s'\"<>]+")


def line(text: str) -> str:
    """A text that somebody else wrote, fit for a message: one line, printable, 300 characters.

    URLs in it are `shown`: a transport's or a registry's own words quote them whole.
    """
    flat = _QUOTED_URL.sub(lambda found: shown(found[0]), text[:1000])
    flat = " ".join(flat.split(" ")).replace("\n", " ").replace("\r", " ")
    flat = _printable(flat).rstrip()
    return flat if len(flat) <= 300 else f"{flat[:299]}…"


def _printable(text: str) -> str:
    """Without what a terminal would act on."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


# RFC 6750, section 3.1; any other text could be what was sent, shown again
_BEARER_ERRORS = ("invalid_request", "invalid_token", "insufficient_scope")


def _wanted(headers: Mapping[str, str]) -> str:
    asked = challenges(headers.get("www-authenticate", ""))
    errors = [error for c in asked if (error := c.parameters.get("error")) in _BEARER_ERRORS]
    said = f", and says {errors[0]}" if errors else ""
    return line("it asks for " + " or ".join(c.scheme for c in asked) + said) if asked else ""


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait, from `Retry-After` in seconds or as a date; None without a usable one.

    zot says it in `Ratelimit-Reset` alone.

    Follows: RFC 9110, section 10.2.3.
    """
    value = headers.get("retry-after", headers.get("ratelimit-reset", "")).strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())


def shown(url: str) -> str:
    """A URL fit for messages and logs: no user, and no value of a query that could be a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a URL that cannot be parsed)"
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = "&".join(
        # a key alone may be the secret itself
        (f"{quote(k)}={quote(v, safe='/:') if k in _SHOWN_QUERY else '…'}" if v else "…")
        for k, v in pairs
    )
    host = parts.netloc.rpartition("@")[2]
    return _printable(urlunsplit((parts.scheme, host, parts.path, query, "")))


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", url, None  # an origin of its own, which is nobody's
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), port or PORTS.get(scheme)


def joined(base: str, target: str) -> str:
    """A `Location` or `Link`, absolute or relative, as a whole URL.

    Raises:
        ResponseInvalid: it is not a URL.
    """
    try:
        found = urljoin(base, target)
        urlsplit(found)
    except ValueError:
        raise errors.ResponseInvalid(
            f"{shown(base)} leads to {line(target.partition('?')[0])!r}, not a URL"
        ) from None
    return found


_LINK = re.compile(r'<([^<>]*)>((?:[^,"]|"[^"]*")*)')
_REL = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))', re.IGNORECASE)


def links(value: str) -> list[tuple[str, str]]:
    """The targets of a `Link` header with their relations, lower case.

    Follows: RFC 8288, section 3.
    """
    found = []
    for match in _LINK.finditer(value[:_HEADER_LIMIT]):
        rel = _REL.search(match[2])
        found.append((match[1].strip(), (rel[1] or rel[2] or "").lower() if rel else ""))
    return found


def next_link(headers: Mapping[str, str]) -> str | None:
    """The target of the link to the next page, as the registry wrote it, or None."""
    targets = links(headers.get("link", ""))
    return next((target for target, rel in targets if "next" in rel.split()), None)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a `WWW-Authenticate` header; names of parameters are lower case."""

    scheme: str
    parameters: Mapping[str, str]


_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=[\s,]|$)")
_PARAMETER = re.compile(rf'[\s,]*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')


def challenges(value: str) -> list[Challenge]:
    """The challenges of a `WWW-Authenticate` header, any order, values quoted or not.

    What cannot be understood ends the list; it never raises.

    Follows: RFC 9110, section 11.6.1.
    """
    value = value[:_HEADER_LIMIT]
    found: list[Challenge] = []
    position = 0
    while scheme := _SCHEME.match(value, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while pair := _PARAMETER.match(value, position):
            position = pair.end()
            quoted = re.sub(r"\\(.)", r"\1", pair[2]) if pair[2] is not None else pair[3]
            parameters.setdefault(pair[1].lower(), quoted)
        found.append(Challenge(scheme[1], parameters))
    return found
