"""Conversion of error replies to exceptions. No I/O."""

from __future__ import annotations

import html
import json
import re
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dockhand_core import errors
from dockhand_core.http.headers import parse_challenges, retry_after
from dockhand_core.http.secrets import Secrets
from dockhand_core.http.urls import one_line, redacted_url
from dockhand_core.http.xml_errors import xml_error

__all__ = ["ERROR_LIMIT", "decoded_body", "error_from_reply"]

ERROR_LIMIT = 64 << 10  # bytes; a longer body of an error reply is cut
_SHOWN = 4096  # characters; the rest of a body that is plain text or HTML is ignored

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


def error_from_reply(
    *,
    method: str,
    url: str,
    kind: str,
    repository: str | None,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    attempts: int = 1,
    redirected: bool = False,
    secrets: Secrets | None = None,
    refusals: Mapping[int, type[errors.RegistryError]] = MappingProxyType({}),
) -> errors.RegistryError:
    """Make the exception for an error reply.

    A status in `refusals` decides alone. So does a status of 500 or above, 401, 416 or 429. With
    another status, the first known error code in the body decides, unless it contradicts the
    status. Without such a code the status decides, and for a 404 also `kind`.

    Args:
        method: the request's HTTP method.
        url: the URL that answered.
        kind: the kind of object that was requested; see `Call.kind`.
        repository: the repository's name, or None.
        status: the HTTP status of the reply.
        headers: the headers of the reply.
        body: the body of the reply.
        attempts: number of times that the request was sent.
        redirected: whether `url` has another origin than the registry.
        secrets: the connection's secrets; removed from everything that the reply says.
        refusals: the classes for statuses that the caller chose; see `Call.refusals`.

    Follows: OCI Distribution Specification 1.1, "Error Codes".
    """
    body = decoded_body(headers, body, ERROR_LIMIT)
    text = body.decode("utf-8-sig", "replace")
    entries, request_id = _entries(text), None
    if not entries and text.lstrip()[:1] == "<":
        entries, request_id = xml_error(text)
    known = next((e["code"] for e in entries if e["code"] in errors.RegistryError.by_code), None)
    found: type[errors.RegistryError]
    if status >= 500:
        found = errors.ServerError
    elif known is not None and _contradicts(errors.RegistryError.by_code[known], status):
        found = _BY_KIND.get(kind, errors.NotFound) if status == 404 else _BY_STATUS[status]
    elif known:
        found = errors.RegistryError.by_code[known]
    elif status == 404:
        found = _BY_KIND.get(kind, errors.NotFound)
    elif status < 400:
        found = errors.ResponseInvalid
    else:
        found = _BY_STATUS.get(status, errors.RegistryError)
    found = refusals.get(status, found)
    # Before the text is cut: a part of a secret is harder to find.
    secrets = secrets or Secrets()
    # The document of a successful reply may hold a secret that was just made.
    made = status < 300 and text.lstrip()[:1] in ("{", "[")
    shown = "" if entries or made else text[:_SHOWN]
    values, entries, shown, request_id = secrets.value(
        (list(headers.values()), entries, shown, request_id), reply=True
    )
    headers = dict(zip(headers, values, strict=True))
    first = entries[0] if entries else {}
    sent_id = next((headers[h] for h in _REQUEST_ID if h in headers), request_id)
    request_id = one_line(sent_id) if sent_id else None
    said = _registry_message(entries, headers, shown)
    wanted = _wanted_schemes(headers) if status == 401 else ""
    aside = [f"repository {repository}" if repository else "", wanted]
    aside += [f"request id {request_id}" if request_id else ""]
    message = f"{method} {redacted_url(url)}: {status}{said}"
    if any(aside):
        message += f" ({'; '.join(part for part in aside if part)})"
    return found(
        message,
        status=status,
        code=first.get("code"),
        detail=first.get("detail"),
        errors=entries,
        request_id=request_id,
        repository=repository,
        retry_after=retry_after(headers),
        attempts=attempts,
        redirected=redirected,
    )


# Statuses that mean one thing, whatever code comes along: zot answers 401 UNSUPPORTED to a bad
# token, and a 416 has the code BLOB_UNKNOWN (crane), SIZE_INVALID (olareg) or BLOB_UPLOAD_INVALID
# (gitea).
_UNAMBIGUOUS = frozenset({401, 416, 429})
_NEVER_ON_404 = (
    errors.Unauthorized,
    errors.TooManyRequests,
    errors.RangeInvalid,
    errors.SizeInvalid,
    errors.NameInvalid,
    errors.TagInvalid,
    errors.DigestInvalid,
)


def _contradicts(code: type[errors.RegistryError], status: int) -> bool:
    """Whether the error of a code cannot be the reason for a status."""
    if status == 404:
        return issubclass(code, _NEVER_ON_404)
    absent = issubclass(code, errors.NotFound)
    return status in _UNAMBIGUOUS or (absent and status in (403, 405, 413))


def decoded_body(headers: Mapping[str, str], body: bytes, limit: int) -> bytes:
    """The body of a reply, decompressed if necessary, and cut to `limit` bytes.

    Some servers compress although `identity` was asked for. A body in an unknown or broken encoding
    is returned as it is.

    Follows: RFC 9110, section 8.4.
    """
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("gzip", "x-gzip", "deflate"):
        return body
    for window in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # some servers send bare deflate
        try:
            return zlib.decompressobj(window).decompress(body, limit)
        except zlib.error:
            continue
    return body


def _entries(text: str) -> list[dict[str, Any]]:
    """The entries of the body's `errors` that have an error code.

    zot answers a failed login with a single entry as the whole body, which is accepted too.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(parsed, dict):
        return []
    found = parsed.get("errors", [parsed])
    if not isinstance(found, list):
        return []
    return [e for e in found[:100] if isinstance(e, dict) and isinstance(e.get("code"), str)]


def _registry_message(entries: list[dict[str, Any]], headers: Mapping[str, str], text: str) -> str:
    """The registry's own error codes and messages, on one line."""
    parts = [f" {e['code']}" + (f": {e['message']}" if e.get("message") else "") for e in entries]
    if parts:
        more = f" (and {len(parts) - 3} more)" if len(parts) > 3 else ""
        return one_line(";".join(parts[:3])) + more
    coding = headers.get("content-encoding", "").strip().lower()
    if text.count("\N{REPLACEMENT CHARACTER}") > 8:  # not text
        return f" a body encoded as {one_line(coding)[:40]}" if coding else " a binary body"
    if "html" in headers.get("content-type", "") or text.lstrip()[:1] == "<":
        title = re.search(r"<(title|h1)>([^<]{1,200})</", text, re.IGNORECASE)
        page = " an XML document" if text.lstrip().startswith("<?xml") else " an HTML page"
        return page + (f", {one_line(html.unescape(title[2])).strip()!r}" if title else "")
    return f": {one_line(text)}" if text.strip() else ""


# RFC 6750, section 3.1. Other values are not shown: their text may repeat the credentials.
_BEARER_ERRORS = ("invalid_request", "invalid_token", "insufficient_scope")


def _wanted_schemes(headers: Mapping[str, str]) -> str:
    asked = parse_challenges(headers.get("www-authenticate", ""))
    errors = [error for c in asked if (error := c.parameters.get("error")) in _BEARER_ERRORS]
    said = f", and says {errors[0]}" if errors else ""
    return one_line("it asks for " + " or ".join(c.scheme for c in asked) + said) if asked else ""
