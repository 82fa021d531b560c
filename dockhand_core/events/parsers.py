"""From a notification to events, whatever registry sent it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from dockhand_core.errors import EventInvalid
from dockhand_core.events.classes import RegistryBaseEvent
from dockhand_core.events.headers import EventHeaders
from dockhand_core.plugins import Plugins

__all__ = ["EventParser", "EventParsers"]

_log = logging.getLogger("dockhand.events")


class EventParser(Protocol):
    """A format of notifications, as the hook `dockhand_event_parsers` gives it."""

    def matches(self, headers: Mapping[str, str]) -> bool:
        """Whether a notification with these headers is in this format."""

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent]:
        """Its events, or `EventInvalid`."""


class EventParsers:
    """Every parser that is installed or registered; those of plugins before the core's.

    Args:
        plugins: a manager's plugins. A plugin whose parsers cannot be had is logged and left out.
    """

    def __init__(self, plugins: Plugins) -> None:
        self._parsers: list[tuple[str, EventParser]] = []
        for name, parsers in reversed(plugins.implementations("dockhand_event_parsers")):
            try:
                self._parsers += [(name, parser) for parser in parsers()]
            except Exception:
                _log.exception("event parsers of plugin %r cannot be had", name)

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent]:
        """The events of a notification.

        Args:
            headers: of the request, without credentials.
            body: of the request.

        Raises:
            EventInvalid: no parser knows it, or the one that does cannot read it.
        """
        headers = headers if isinstance(headers, EventHeaders) else EventHeaders(headers)
        for name, parser in self._parsers:
            try:
                if not parser.matches(headers):
                    continue
            except Exception:
                _log.exception("an event parser of plugin %r failed at the headers", name)
                continue
            try:
                events = list(parser.parse(headers, body))
            except EventInvalid:
                raise
            except Exception as error:
                raise EventInvalid(
                    f"the event parser of plugin {name!r} failed: {type(error).__name__}: {error}"
                ) from error
            if not all(isinstance(event, RegistryBaseEvent) for event in events):
                raise EventInvalid(f"the event parser of plugin {name!r} gave what is no event")
            return events
        raise EventInvalid("no parser knows a notification with these headers")
