"""Parsing of JSON that every client reads alike.

Parsers disagree about some documents that Python's accepts: of two equal keys, one takes the first
and another the last; Go's takes `LAYERS` for `layers`; lone surrogates and numbers outside of 64
bits are changed or refused. A manifest's digest would then stand for two contents
(CVE-2021-41190), so a push of such a document is rejected.

Follows: RFC 8259, "Objects", "Numbers", "Unicode Characters".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

# Arrays and objects inside one another. Manifests have 5 levels. Some parsers refuse 255 levels,
# and a notification about a manifest adds a few of its own.
MAX_DEPTH = 32
# Values in one document: an index of 8192 descriptors with 20 values each. The limit bounds the
# time and memory that a document takes: 4 MiB may contain two million values.
MAX_VALUES = 200_000
_MAX_INT = 2**63 - 1
# A string that does not end matches, too; otherwise the search would begin again at each quote.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


def parse_strict(data: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: the data is not a JSON object in UTF-8, or is a document that clients may read
            differently, or is nested too deeply or has too many values.
    """
    try:
        # `json.loads` would also accept bytes in UTF-16, which clients cannot read.
        text = data.decode()
    except ValueError:
        raise ValueError("is not JSON in UTF-8") from None
    if text.startswith("\ufeff"):
        raise ValueError("begins with a byte order mark")
    # Checked first, since parsing two million values takes a second and a hundred MiB.
    if _most_values(data) > 2 * MAX_VALUES and _has_many_values(data):
        raise _too_many_values()
    try:
        document = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"is nested more than {MAX_DEPTH} levels deep") from None
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object")
    _check_values(document)
    # Only an escape can produce a lone surrogate, since UTF-8 cannot contain one.
    if "\\u" in text:
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("contains half of a surrogate pair") from None
    return document


def _most_values(data: bytes) -> int:
    """The number of values, or up to twice as many, if the data is JSON without strings."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _has_many_values(data: bytes) -> bool:
    count = start = 0
    for string in _STRING.finditer(data):
        count += _most_values(data[start : string.start()])
        start = string.end()
        if count > 2 * MAX_VALUES:
            return True
    return count + _most_values(data[start:]) > 2 * MAX_VALUES


def _too_many_values() -> ValueError:
    return ValueError(f"has more than {MAX_VALUES} values")


def check_names(fields: Iterable[str], known: dict[str, str], where: str) -> None:
    """Check that no field has the name of a known field in another spelling, as in `LAYERS`.

    Args:
        fields: the names of the fields of an object.
        known: the known names by their case-folded forms.
        where: the object, for the message.

    Raises:
        ValueError: a name differs from a known one in upper and lower case only.
    """
    for name in fields:
        expected = known.get(name.casefold())
        if expected is not None and name != expected:
            raise ValueError(f"{where} has a field {name[:40]!r} which must be spelt {expected!r}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"has the field {key[:40]!r} twice")
            seen.add(key)
    return document


def _constant(name: str) -> float:
    raise ValueError(f"contains {name}, which is not JSON")


def _integer(text: str) -> int:
    # Python refuses to convert more than 4300 digits.
    value = int(text) if len(text) <= 20 else None
    if value is None or abs(value) > _MAX_INT:
        raise ValueError("contains a number of more than 64 bits")
    return value


def _check_values(document: dict[str, Any]) -> None:
    level: list[Any] = [document]
    depth = count = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"is nested more than {MAX_DEPTH} levels deep")
        inner: list[Any] = []
        for container in level:
            values = container.values() if isinstance(container, dict) else container
            count += len(container)
            if count > MAX_VALUES:
                raise _too_many_values()
            for value in values:
                if isinstance(value, dict | list):
                    inner.append(value)
                elif isinstance(value, float) and not math.isfinite(value):
                    raise ValueError("contains a number that is too large")
        level = inner
