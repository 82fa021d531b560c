"""Limits on events: an event that is too large or too deep is delivered without its details."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from dockhand_core.errors import EventInvalid
from dockhand_core.events.classes import RegistryBaseEvent

__all__ = ["MAX_DEPTH", "MAX_EVENT", "parse_json", "parse_within_limits", "without_deep_values"]

MAX_EVENT = 1 << 20  # bytes of `raw` as JSON
MAX_DEPTH = 200  # levels of nested objects and arrays; parsers and serializers allow little more
_MAX_FIELD = 16 << 10  # bytes of another field of a truncated event, as JSON
_DETAILS = {"raw", "references"}
# Strings, and the brackets outside of strings
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{\]}]', re.DOTALL)
# Stands for a value that was left out; random, so that no sender can know it.
_OMITTED = f"omitted {secrets.token_hex(16)}"


def parse_json(text: bytes | str) -> Any:
    """Parse JSON, and leave out extreme values instead of failing.

    Invalid UTF-8 is replaced by U+FFFD. Values nested too deeply, and integers that are too long
    for Python to convert, are replaced by a marker. An event with the marker is truncated by
    `parse_within_limits`.

    Raises:
        ValueError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError):  # ValueError: invalid UTF-8, or an integer's length
        decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return json.loads(without_deep_values(decoded), parse_int=_parse_integer)


def _parse_integer(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return _OMITTED


def without_deep_values(text: str) -> str:
    """Replace each object or array that is nested too deeply in a JSON text by a marker."""
    pieces: list[str] = []
    depth, done, start = 0, 0, 0
    for token in _TOKEN.finditer(text):
        bracket = token[0]
        if bracket in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                start = token.start()
        elif bracket in "]}":
            if depth == MAX_DEPTH + 1:
                pieces += [text[done:start], json.dumps(_OMITTED)]
                done = token.end()
            depth -= 1
    pieces.append(text[done : start if depth > MAX_DEPTH else len(text)])
    return "".join(pieces)


def parse_within_limits(
    parse: Callable[[bytes], list[RegistryBaseEvent]], body: bytes
) -> list[RegistryBaseEvent]:
    """Parse a notification, and truncate its events that are too large or too deep.

    If the parser fails because the body is nested too deeply, it gets the body without the values
    that are too deep.

    Args:
        parse: parses the body of a notification into events.
        body: the body.

    Raises:
        EventInvalid: raised by `parse`; its `events` are truncated in the same way.
    """
    try:
        try:
            events = parse(body)
        except EventInvalid as error:
            if not isinstance(error.__cause__ or error.__context__, RecursionError):
                raise
            events = parse(without_deep_values(body.decode("utf-8", "replace")).encode())
    except EventInvalid as error:
        error.events = tuple(map(_limited, error.events))
        raise
    return [_limited(event) for event in events]


def _limited(event: RegistryBaseEvent) -> RegistryBaseEvent:
    """Return an event unchanged, or a truncated copy if it is too large or too deep to be kept.

    A truncated copy has no `raw` and `references`, and no value in another optional field that is
    too large or too deep itself.
    """
    fields = dict(event)
    is_deep, characters = _inspect(fields)
    if not is_deep and (characters <= MAX_EVENT // 8 or not _is_large(fields)):
        return event
    changes: dict[str, Any] = {}
    for name, field in type(event).model_fields.items():
        value = fields[name]
        is_extreme = _inspect(value)[0] or _json_size(value) > _MAX_FIELD
        if not field.is_required() and (name in _DETAILS or is_extreme):
            changes[name] = field.get_default(call_default_factory=True)
    return event.model_copy(update={**changes, "truncated": True})


def _is_large(fields: dict[str, Any]) -> bool:
    # `references` repeat a part of `raw`
    others = {name: value for name, value in fields.items() if name not in _DETAILS}
    parts = fields["raw"], fields.get("references", ()), others
    return any(_json_size(part) > MAX_EVENT for part in parts)


def _json_size(value: Any) -> int:
    """The size of a value as JSON, in bytes; 0 if it cannot be written as JSON."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError):
        return 0
    return len(text.encode("utf-8", "surrogatepass"))


def _plain(value: Any) -> Any:
    """Convert a value of a plugin's event class to a type that JSON has."""
    if isinstance(value, BaseModel):
        return dict(value)
    return list(value) if isinstance(value, set | frozenset) else str(value)


def _inspect(value: Any) -> tuple[bool, int]:
    """Whether a value is nested too deeply, or contains the marker; and its size.

    The size is an estimate, at least an eighth of the value's size as JSON.
    """
    size, waiting = 0, [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        size += 3
        if isinstance(each, str):
            size += len(each)
            if each == _OMITTED:
                return True, size
        elif isinstance(each, int):
            size += each.bit_length() // 4
        elif isinstance(each, bytes | bytearray):
            size += len(each)
        elif isinstance(each, dict | list | tuple | set | frozenset | BaseModel):
            if depth > MAX_DEPTH:
                return True, size
            if isinstance(each, BaseModel):
                each = dict(each)
            if isinstance(each, dict):
                size += sum(len(key) for key in each if isinstance(key, str))
                each = each.values()
            waiting += [(inner, depth + 1) for inner in each]
    return False, size
