"""Event parsers, which convert the notifications of registries to events."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Protocol

from dockhand_core.errors import EventInvalid
from dockhand_core.events.classes import RegistryBaseEvent
from dockhand_core.plugins import Plugins

__all__ = ["EventHeaders", "EventParser", "EventParsers"]

_log = logging.getLogger("dockhand.events")


class EventHeaders(Mapping[str, str]):
    """The headers of a notification, read-only.

    Names of headers are case-insensitive. If a name is repeated, the first header is used.
    """

    __slots__ = ("_values",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._values = {name.lower(): value for name, value in reversed(list(headers.items()))}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<EventHeaders {', '.join(self._values)}>"  # no values: they may be secret


class EventParser(Protocol):
    """A parser of one notification format, as the hook `dockhand_event_parsers` returns it."""

    def matches(self, headers: Mapping[str, str]) -> bool:
        """Whether a notification with these headers is in this format."""

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent]:
        """Parse a notification into its events.

        Raises:
            EventInvalid: the notification is malformed.
        """


class EventParsers:
    """All event parsers of a manager; the plugins' parsers are tried before the core's.

    Args:
        plugins: the plugins of the manager. If a plugin's hook raises an exception, the exception
            is logged and the plugin's parsers are left out.
    """

    def __init__(self, plugins: Plugins) -> None:
        self._parsers: list[tuple[str, EventParser]] = []
        for name, parsers in reversed(plugins.implementations("dockhand_event_parsers")):
            try:
                self._parsers += [(name, parser) for parser in parsers()]
            except Exception:
                _log.exception(
                    "plugin %r: dockhand_event_parsers failed; its parsers are left out", name
                )

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent]:
        """Parse a notification into events, with the first parser that matches its headers.

        Args:
            headers: headers of the notification's HTTP request, without credentials.
            body: body of the request.

        Raises:
            EventInvalid: no parser matches the headers, or the matching parser fails.
        """
        headers = headers if isinstance(headers, EventHeaders) else EventHeaders(headers)
        for name, parser in self._parsers:
            try:
                if not parser.matches(headers):
                    continue
            except Exception:
                _log.exception(
                    "plugin %r: matches() of an event parser failed; it is skipped", name
                )
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
                raise EventInvalid(
                    f"the event parser of plugin {name!r} returned an object that is not an event"
                )
            return events
        raise EventInvalid("no parser knows the format of a notification with these headers")
