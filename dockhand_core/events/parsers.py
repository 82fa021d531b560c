"""Event parsers, which convert the notifications of registries to events."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

from dockhand_core.errors import EventInvalid, PluginError
from dockhand_core.events.classes import RegistryBaseEvent
from dockhand_core.events.limits import parse_within_limits
from dockhand_core.flow.checks import described, dispose
from dockhand_core.plugin_failures import reason_of
from dockhand_core.plugins import Plugins

__all__ = [
    "EventHeaders",
    "EventParser",
    "EventParserFailed",
    "EventParsers",
    "RouteEventParser",
]

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
        """Whether a notification with these headers may be in this format."""

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent] | None:
        """Parse a notification into its events.

        Returns:
            the events; None if the body is in another format, so that the next parser is tried.

        Raises:
            EventInvalid: the notification is in this format, but malformed.
        """


class RouteEventParser(Protocol):
    """An `EventParser` whose method `matches` also gets the connection of the route.

    It is for notifications that cannot be told apart by their headers: each registry can post to a
    route of its own, such as `/dockhand/notify/harbor`.
    """

    def matches(self, headers: Mapping[str, str], connection: str | None) -> bool:
        """Whether a notification with these headers, on this route, may be in this format.

        Args:
            headers: the headers; names are case-insensitive.
            connection: the last part of the route, as `event.connection`; None for the route
                without one.
        """

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent] | None:
        """Parse a notification into its events, as `EventParser.parse`."""


_AnyParser: TypeAlias = EventParser | RouteEventParser


class _Parser(NamedTuple):
    """A parser, with the name of its plugin, and its method `matches` with two arguments."""

    plugin: str
    parser: _AnyParser
    matches: Callable[[Mapping[str, str], str | None], Any]


class EventParserFailed(EventInvalid, PluginError):
    """A plugin's event parser raised an exception, or returned something other than events.

    The notification is unreadable until the parser has been fixed, so this is an `EventInvalid`.
    """


class EventParsers:
    """All event parsers of a manager; the plugins' parsers are tried before the core's.

    Args:
        plugins: the plugins of the manager. If a plugin's hook raises an exception, or returns
            something other than parsers, this is logged and the plugin's parsers are left out.
    """

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._left_out: list[str] = []
        self._parsers: list[_Parser] = []
        for name, parsers in reversed(plugins.implementations("dockhand_event_parsers")):
            try:
                self._parsers += [_checked(name, parser) for parser in _listed(parsers())]
            except Exception as error:
                reason = str(error) if isinstance(error, PluginError) else reason_of(error)
                self._left_out.append(f"{name}: {reason}")
                _log.exception(
                    "plugin %r: dockhand_event_parsers failed; its parsers are left out", name
                )

    def parse(
        self, headers: Mapping[str, str], body: bytes, connection: str | None = None
    ) -> list[RegistryBaseEvent]:
        """Parse a notification into events, with the first parser that matches its headers.

        If this parser declines, since its `parse` returns None, the next one is tried. An event
        that is larger than 1 MiB, or nested too deeply, is truncated: it has no `raw` and no
        `references`, and its `truncated` is true.

        Args:
            headers: headers of the notification's HTTP request, without credentials.
            body: body of the request.
            connection: the connection that the route names, or None. The events have it as their
                `connection`.

        Raises:
            EventInvalid: no parser matches the headers, all of those decline, or the matching
                parser fails; the error's `events` are the events that were parsed nevertheless. If
                no parser is left, the message names the route's connection, the parsers that do not
                match it and those that declined, and the plugins that could not be loaded. If a
                plugin's parser fails, the exception is a `PluginError`, too.
        """
        parse = functools.partial(self._parse, headers, connection)
        try:
            events = parse_within_limits(parse, body)
        except EventInvalid as error:
            error.events = tuple(_from_route(error.events, connection))
            raise
        return _from_route(events, connection)

    def _parse(
        self, headers: Mapping[str, str], connection: str | None, body: bytes
    ) -> list[RegistryBaseEvent]:
        headers = headers if isinstance(headers, EventHeaders) else EventHeaders(headers)
        declined, unmatched = [], []
        for name, parser, matches_route in self._parsers:
            try:
                matches = matches_route(headers, connection)
                if inspect.isawaitable(matches):
                    dispose(matches)
                    raise TypeError(f"matches returned {described(matches)}, not a bool")
            except Exception as error:
                self._plugins.clean(name, error)
                _log.exception(
                    "plugin %r: matches() of an event parser failed; it is skipped", name
                )
                continue
            if matches:
                events = self._events(name, parser, headers, body)
                if events is not None:
                    return events
                declined.append(f"{name}: {type(parser).__name__}.parse returned None")
            elif name != "core":
                unmatched.append(f"{name}: {type(parser).__name__}")
        place = (
            f"the route of connection {connection!r}"
            if connection
            else ("the route without a connection")
        )
        text = f"no parser knows the format of a notification with these headers on {place}"
        if declined:
            text += f"; parsers that declined it: {_joined(declined)}"
        if unmatched:
            text += f"; parsers that do not match: {', '.join(unmatched)}"
        raise EventInvalid(text + self._missing())

    def _events(
        self, name: str, parser: _AnyParser, headers: Mapping[str, str], body: bytes
    ) -> list[RegistryBaseEvent] | None:
        where = f"the event parser of plugin {name!r}"
        method = f"{type(parser).__name__}.parse"
        try:
            found: Any = parser.parse(headers, body)
            if found is None:
                return None
            if not isinstance(found, Iterable) or isinstance(found, RegistryBaseEvent):
                dispose(found)
                raise EventParserFailed(
                    f"{where} failed: {method} returned {described(found)}, not a list of events"
                )
            events = list(found)
        except EventInvalid as error:
            self._plugins.clean(name, error)
            raise
        except Exception as error:
            self._plugins.clean(name, error)
            raise EventParserFailed(f"{where} failed: {reason_of(error)}") from error
        valid = [event for event in events if isinstance(event, RegistryBaseEvent)]
        if len(valid) < len(events):
            wrong = next(each for each in events if not isinstance(each, RegistryBaseEvent))
            raise EventParserFailed(
                f"{where} returned an object that is not an event: {method} returned a list with "
                f"{described(wrong)}",
                events=valid,
            )
        return events

    def _missing(self) -> str:
        """Describe the plugins that may have the right parser, but do not work."""
        text = ""
        if self._plugins.failures:
            text = f"; plugins that could not be loaded: {_joined(self._plugins.failures)}"
        if self._left_out:
            text += f"; parsers that were left out: {_joined(self._left_out)}"
        return text


def _from_route(
    events: Iterable[RegistryBaseEvent], connection: str | None
) -> list[RegistryBaseEvent]:
    """Set the connection of events to that of the route."""
    if connection is None:
        return list(events)
    return [event.model_copy(update={"connection": connection}) for event in events]


def _joined(parts: Iterable[object]) -> str:
    return "; ".join(map(str, parts))


def _listed(answer: Any) -> Iterable[Any]:
    """Check that the hook returned a list of parsers, or another iterable."""
    if isinstance(answer, str | bytes | Mapping) or not isinstance(answer, Iterable):
        raise PluginError(
            f"dockhand_event_parsers returned {described(answer)}; it has to return a list of "
            "event parsers"
        )
    return answer


def _checked(plugin: str, parser: Any) -> _Parser:
    """Check that an object has the methods of an event parser."""
    if isinstance(parser, type):
        raise PluginError(
            f"dockhand_event_parsers returned {described(parser)}; return an instance, "
            f"{parser.__name__}()"
        )
    for name in ("matches", "parse"):
        method = getattr(parser, name, None)
        if not callable(method):
            raise PluginError(
                f"dockhand_event_parsers returned {described(parser)}, which has no method {name}"
            )
        if inspect.iscoroutinefunction(method):
            raise PluginError(
                f"{type(parser).__name__}.{name} is `async def`; it has to be a plain function"
            )
    return _Parser(plugin, parser, _with_connection(parser.matches))


def _with_connection(matches: Any) -> Callable[[Mapping[str, str], str | None], Any]:
    """Convert `matches(headers)` and `matches(headers, connection)` to a function of both.

    The connection is passed to an argument of that name, or to a second one without a default.
    """
    try:
        parameters = inspect.signature(matches).parameters.values()
    except (TypeError, ValueError):  # such as a function that is written in C
        return lambda headers, _: matches(headers)
    if any(p.name == "connection" and p.kind is not p.POSITIONAL_ONLY for p in parameters):
        return lambda headers, connection: matches(headers, connection=connection)
    required = [
        each
        for each in parameters
        if each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) > 1:
        return matches  # type: ignore[no-any-return]
    return lambda headers, _: matches(headers)
