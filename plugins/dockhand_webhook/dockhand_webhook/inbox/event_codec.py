"""Events as they are kept: the name of a class, and its attributes as JSON."""

from __future__ import annotations

import functools
import importlib
import json
from dataclasses import dataclass

from pydantic import ValidationError

from dockhand_core import EventInvalid, PluginError
from dockhand_core.events import EVENTS, RegistryBaseEvent

__all__ = ["Stored", "pack"]


@dataclass(frozen=True, slots=True)
class Stored:
    """An event that can be kept, or sent to another machine.

    Attributes:
        kind: the class: `ManifestPushed`, or `module:Class` for one that a plugin brought.
        data: its attributes, JSON.
        connection: the last part of the route by which it arrived; empty for none.
    """

    kind: str
    data: str
    connection: str = ""

    def event(self) -> RegistryBaseEvent:
        """The event.

        Raises:
            PluginError: the class is a plugin's, and cannot be imported.
        """
        kind = _class(self.kind)
        try:
            event = kind.model_validate_json(self.data)
        except ValidationError:  # pydantic writes what is nested more deeply than it reads
            event = kind.model_validate(json.loads(self.data))
        if not self.connection:
            return event
        return event.model_copy(update={"connection": self.connection})


def pack(event: RegistryBaseEvent) -> tuple[str, str]:
    """What is kept of an event: `kind` and `data`.

    Raises:
        EventInvalid: it holds what is no JSON, such as half a character.
    """
    kind = type(event)
    name = kind.__name__
    if EVENTS.get(name) is not kind:
        name = f"{kind.__module__}:{kind.__qualname__}"
    try:
        "".join(event.raw).encode()  # pydantic does not mind half a character in a key
        return name, event.model_dump_json(exclude=_ROUTE)
    except Exception as error:  # pydantic's, which holds the value
        raise EventInvalid(f"{name}: cannot be kept: {type(error).__name__}") from None


_ROUTE = {"connection"}  # the receiver says it


@functools.cache
def _class(kind: str) -> type[RegistryBaseEvent]:
    if kind in EVENTS:
        return EVENTS[kind]
    module, _, name = kind.partition(":")
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except Exception as error:
        raise PluginError(
            f"events of class {kind!r} cannot be read: {type(error).__name__}: {error}; is the "
            "plugin installed that brought it?"
        ) from error
    if not (isinstance(found, type) and issubclass(found, RegistryBaseEvent)):
        raise PluginError(f"{kind!r} is no class of events")
    return found
