"""Helpers of the event parsers: they parse JSON objects, read fields and make events."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from dockhand_core.errors import DockhandError, EventInvalid
from dockhand_core.events.classes import RegistryBaseEvent
from dockhand_core.events.limits import parse_json

__all__ = ["make_event", "object_field", "parse_object"]

E = TypeVar("E", bound=RegistryBaseEvent)


def parse_object(body: bytes | str, what: str) -> dict[str, Any]:
    """Parse a JSON object. Extreme values in it are left out; see `parse_json`.

    Args:
        body: the JSON text.
        what: start of error messages, such as `the envelope`.

    Raises:
        EventInvalid: the text is not a JSON object.
    """
    try:
        value = parse_json(body)
    except (ValueError, RecursionError) as error:
        raise EventInvalid(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise EventInvalid(f"{what} is not a JSON object")
    return value


def object_field(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the object in a field of another object; empty if the field is absent or null.

    Raises:
        EventInvalid: the field has a value of another type.
    """
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise EventInvalid(f"{key} is not a JSON object")
    return value


def make_event(kind: type[E], values: dict[str, Any]) -> E:
    """Make an event of a given class from its attributes.

    Raises:
        EventInvalid: an attribute is missing or has a wrong value; the message names the attribute
            without its value.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise EventInvalid(f"{kind.__name__}: {where}: {first['msg']}") from None
    except DockhandError as error:  # raised by `Digest` if the digest is malformed
        raise EventInvalid(f"{kind.__name__}: {error}") from None
