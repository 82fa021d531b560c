"""Values of a table's cells, as people read them and as programs read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from dockhand_core.text import printable

__all__ = [
    "Cell",
    "DigestCell",
    "Size",
    "age_text",
    "counted",
    "for_people",
    "for_programs",
    "in_utc",
    "moment_text",
    "parse_size",
    "short_digest",
    "size_text",
]


class Size(int):
    """A number of bytes; people read it with a unit."""


class DigestCell(str):
    """A digest that is shortened in a table for which the terminal is too narrow."""

    __slots__ = ()


Cell: TypeAlias = "str | int | Size | bool | datetime | None"

_UNITS = ((365 * 86400, "year"), (30 * 86400, "month"), (7 * 86400, "week"), (86400, "day"))
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,6})?) ?(?:([kKMGT])(i)?)?B?")
_SHORT_UNITS = ((3600, "hour"), (60, "minute"), (1, "second"))


def size_text(size: int) -> str:
    """Write a number of bytes with a decimal unit: `12.3 MB`."""
    from rich.filesize import decimal

    return decimal(size)


def short_digest(digest: str) -> str:
    """Shorten a digest for a narrow table: `sha256:4bcff63911fc`."""
    algorithm, colon, encoded = digest.partition(":")
    return f"{algorithm}{colon}{encoded[:12]}"


def in_utc(moment: datetime) -> datetime | None:
    """Convert a moment to UTC, which it is without a time zone; None if UTC has no such year."""
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (OverflowError, ValueError):
        return None


def moment_text(moment: datetime) -> str:
    """Write a moment as RFC 3339 has it, in UTC: `2026-01-31T12:00:00Z`."""
    return (in_utc(moment) or moment).isoformat().replace("+00:00", "Z")


def age_text(moment: datetime, now: datetime | None = None) -> str:
    """Write how long ago a moment was, in one unit: `3 days ago`.

    Args:
        moment: the moment, with a time zone.
        now: the present moment; by default that of the clock.
    """
    age = (now or datetime.now(UTC)) - moment
    if age < timedelta(0):
        return f"{moment:%Y-%m-%d}"
    for seconds, unit in (*_UNITS, *_SHORT_UNITS):
        count = int(age.total_seconds() // seconds)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "now"


def counted(number: int, noun: str) -> str:
    """Write a number with a noun: `1 tag`, `3 tags`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def for_people(value: Cell) -> str:
    """Write a cell for a terminal: sizes with units, moments as ages."""
    if isinstance(value, Size):
        return size_text(value)
    if isinstance(value, datetime):
        return age_text(value)
    return for_programs(value)


def for_programs(value: Cell) -> str:
    """Write a cell for a pipe: sizes in bytes, moments in UTC, no line breaks."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return moment_text(value)
    return printable(str(value))


def parse_size(text: str) -> int:
    """Parse a number of bytes, with or without a unit: `1000`, `500MB`, `8GiB`.

    Raises:
        ValueError: the text is not a number of bytes.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a size such as 1000, 500MB or 8GiB")
    power = "kmgt".index(found[2].lower()) + 1 if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)
