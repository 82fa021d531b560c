"""Parsers of reply headers: `Retry-After`, `Link`, `WWW-Authenticate`. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["Challenge", "next_link", "parse_challenges", "parse_link_header", "retry_after"]

_HEADER_LIMIT = 16 << 10  # characters; the rest of a longer header is ignored
_LONGEST_WAIT = 1e9  # seconds; a number that a reply may send to mean "never"


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The time to wait that a reply asks for, in seconds, or None if no valid header does.

    `Retry-After` contains a number of seconds or a date. If it is missing, `Ratelimit-Reset` is
    read in the same way: zot sends only that header. A date is counted from the reply's own `Date`,
    if there is one, because the clocks of the two sides may differ.

    Args:
        headers: the headers of the reply.
        now: the time from which a date is counted; None for `Date`, or else the current time.

    Follows: RFC 9110, section 10.2.3.
    """
    value = headers.get("retry-after", headers.get("ratelimit-reset", "")).strip()
    if seconds := re.match(r"([0-9]+)(\.[0-9]+)?\s*(?:,|$)", value):
        return min(float(seconds[1] + (seconds[2] or "")), _LONGEST_WAIT)
    then = _date(value)
    if then is None:
        return None
    now = now or _date(headers.get("date", "")) or datetime.now(UTC)
    return min(max(0.0, (then - now).total_seconds()), _LONGEST_WAIT)


def _date(value: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


_PARAMETERS = r"""((?:[^,"]|"[^"]*")*)"""
_LINK = re.compile(rf"<([^<>]*)>{_PARAMETERS}")
_BARE_LINK = re.compile(rf"\s*([^\s<>;,]+)\s*;{_PARAMETERS}")
# Parameters in turn, so that a quoted value is not searched; some registries use single quotes.
_LINK_PARAMETER = re.compile(r"""([^\s;="]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;,"]*))""")


def parse_link_header(value: str) -> list[tuple[str, str]]:
    """The links of a `Link` header, as pairs of target and relation type (in lower case).

    The relation type of a link without `rel` is an empty string. A single link whose target lacks
    its angle brackets is accepted.

    Follows: RFC 8288, section 3.
    """
    value = value[:_HEADER_LIMIT]
    links = [*_LINK.finditer(value)]
    if not links and (bare := _BARE_LINK.match(value)):
        links = [bare]
    found = []
    for link in links:
        rel = ""
        for name, double, single, plain in _LINK_PARAMETER.findall(link[2]):
            if name.lower() == "rel":
                rel = (double or single or plain).lower()
                break
        found.append((link[1].strip(), rel))
    return found


def next_link(headers: Mapping[str, str]) -> str | None:
    """The target of the `Link` to the next page, as the registry sent it, or None.

    A single link without `rel`, but with a query, counts as one to the next page: the lists of a
    registry have no other links.
    """
    links = parse_link_header(headers.get("link", ""))
    if len(links) == 1 and not links[0][1] and "?" in links[0][0]:
        return links[0][0]
    return next((target for target, rel in links if "next" in rel.split()), None)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a `WWW-Authenticate` header; parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=[\s,]|$)")
_PARAMETER = re.compile(rf'[\s,]*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')


def parse_challenges(value: str) -> list[Challenge]:
    """Parse the challenges of a `WWW-Authenticate` header, in the header's order.

    Parameter values may be quoted or not. At the first malformed part, parsing stops without an
    error, and the challenges before it are returned.

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
