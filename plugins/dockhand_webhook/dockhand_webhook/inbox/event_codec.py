"""Serialized events: the name of the event class, and its attributes as JSON."""

from __future__ import annotations

import functools
import importlib
import json
from dataclasses import dataclass

from pydantic import ValidationError

from dockhand_core import EventInvalid, PluginError
from dockhand_core.events import EVENTS, RegistryBaseEvent

__all__ = ["SerializedEvent", "serialize"]

_EXCLUDED = {"connection"}  # the inbox stores the connection in a column of its own


@dataclass(frozen=True, slots=True)
class SerializedEvent:
    """An event in a form that can be stored, or sent to another machine.

    Attributes:
        kind: the event class: `ManifestPushed`, or `module:Class` for a class of a plugin.
        data: the event's attributes as JSON, without `connection`.
        connection: the event's `connection`; empty for None.
    """

    kind: str
    data: str
    connection: str = ""

    def deserialize(self) -> RegistryBaseEvent:
        """Create the event, an instance of its class.

        Raises:
            PluginError: the event class belongs to a plugin and cannot be imported.
        """
        kind = _import_class(self.kind)
        try:
            event = kind.model_validate_json(self.data)
        except ValidationError:  # pydantic's JSON parser refuses deep nesting, its writer does not
            event = kind.model_validate(json.loads(self.data))
        if not self.connection:
            return event
        return event.model_copy(update={"connection": self.connection})


def serialize(event: RegistryBaseEvent) -> tuple[str, str]:
    """Serialize an event to the `kind` and the `data` of a `SerializedEvent`.

    Raises:
        EventInvalid: a value cannot be written as JSON, such as text with a lone surrogate.
    """
    kind = type(event)
    name = kind.__name__
    if EVENTS.get(name) is not kind:
        name = f"{kind.__module__}:{kind.__qualname__}"
    try:
        "".join(event.raw).encode()  # refuses lone surrogates in keys, which pydantic would replace
        return name, event.model_dump_json(exclude=_EXCLUDED)
    except Exception as error:  # leave out the error's text, since pydantic puts the value into it
        raise EventInvalid(f"{name}: cannot be serialized: {type(error).__name__}") from None


@functools.cache
def _import_class(kind: str) -> type[RegistryBaseEvent]:
    if kind in EVENTS:
        return EVENTS[kind]
    module, _, name = kind.partition(":")
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except Exception as error:
        raise PluginError(
            f"events of class {kind!r} cannot be read: {type(error).__name__}: {error}; install "
            "the plugin that defines the class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, RegistryBaseEvent)):
        raise PluginError(f"{kind!r} is not an event class")
    return found
