"""What the parsers share: JSON in, checked events out, `EventInvalid` for everything else."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import ValidationError

from dockhand_core.errors import DockhandError, EventInvalid
from dockhand_core.events.classes import RegistryBaseEvent

__all__ = ["build", "read_object", "table"]

E = TypeVar("E", bound=RegistryBaseEvent)


def read_object(body: bytes | str, what: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        EventInvalid: it is none; `what` begins the message.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise EventInvalid(f"{what} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise EventInvalid(f"{what} is not a JSON object")
    return found


def table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """An object in an object; an empty one where it is absent or null."""
    found = parent.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise EventInvalid(f"{key} is not a JSON object")
    return found


def build(kind: type[E], values: dict[str, Any]) -> E:
    """An event, or `EventInvalid` that names the attribute and holds no value."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise EventInvalid(f"{kind.__name__}: {where}: {first['msg']}") from None
    except DockhandError as error:  # a digest that is none
        raise EventInvalid(f"{kind.__name__}: {error}") from None
