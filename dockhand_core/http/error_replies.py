"""Conversion of error replies to exceptions. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dockhand_core import errors
from dockhand_core.http.headers import parse_challenges, retry_after
from dockhand_core.http.urls import one_line, redacted_url

__all__ = ["error_from_reply"]

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
) -> errors.RegistryError:
    """Make the exception for an error reply.

    A status of 500 or above always gives `ServerError`. For a lower status, the first known error
    code in the body decides. If the body has none, the status decides, and for a 404 also `kind`.

    Args:
        method: the request's HTTP method.
        url: the URL that answered.
        kind: the kind of object that was requested; see `Call.kind`.
        repository: the repository's name, or None.
        status: the HTTP status of the reply.
        headers: the headers of the reply.
        body: the body of the reply.
        attempts: number of times that the request was sent.

    Follows: OCI Distribution Specification 1.1, "Error Codes".
    """
    entries = _entries(body)
    codes = [str(entry["code"]) for entry in entries]
    known = next((code for code in codes if code in errors.RegistryError.by_code), None)
    found: type[errors.RegistryError]
    if status >= 500:
        found = errors.ServerError
    elif status == 401 and known == "UNSUPPORTED":
        found = errors.Unauthorized  # zot answers 401 UNSUPPORTED to a bad token
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
    said = _registry_message(entries, headers, body)
    wanted = _wanted_schemes(headers) if status == 401 else ""
    aside = [f"repository {repository}" if repository else "", wanted]
    aside += [f"request id {one_line(request_id)}" if request_id else ""]
    message = f"{method} {redacted_url(url)}: {status}{said}"
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
    """The entries of the body's `errors` that have an error code.

    zot answers a failed login with a single entry as the whole body, which is accepted too.
    """
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


def _registry_message(
    entries: list[dict[str, Any]], headers: Mapping[str, str], body: bytes
) -> str:
    """The registry's own error codes and messages, on one line."""
    parts = [f" {e['code']}" + (f": {e['message']}" if e.get("message") else "") for e in entries]
    if parts:
        more = f" (and {len(parts) - 3} more)" if len(parts) > 3 else ""
        return one_line(";".join(parts[:3])) + more
    text = body[:4096].decode("utf-8", "replace")
    if "html" in headers.get("content-type", "") or text.lstrip()[:1] == "<":
        title = re.search(r"<title>([^<]{1,200})</title>", text, re.IGNORECASE)
        return " an HTML page" + (f", {one_line(title[1]).strip()!r}" if title else "")
    return f": {one_line(text)}" if text.strip() else ""


# RFC 6750, section 3.1. Other values are not shown: their text may repeat the credentials.
_BEARER_ERRORS = ("invalid_request", "invalid_token", "insufficient_scope")


def _wanted_schemes(headers: Mapping[str, str]) -> str:
    asked = parse_challenges(headers.get("www-authenticate", ""))
    errors = [error for c in asked if (error := c.parameters.get("error")) in _BEARER_ERRORS]
    said = f", and says {errors[0]}" if errors else ""
    return one_line("it asks for " + " or ".join(c.scheme for c in asked) + said) if asked else ""
