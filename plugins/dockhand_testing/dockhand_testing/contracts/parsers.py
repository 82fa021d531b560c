"""The contract of event parsers."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from dockhand_core import Dockhand, EventInvalid
from dockhand_core.events import EventHeaders, EventParsers, RegistryBaseEvent
from dockhand_testing.contracts.blocking_calls import no_blocking_calls
from dockhand_testing.pytest_plugin import imported
from dockhand_testing.rules import rule

__all__ = ["EventParserContract"]

_FOREIGN: tuple[Mapping[str, str], ...] = (
    {},
    {"content-type": "text/html"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "application/vnd.docker.distribution.events.v2+json"},
    {"content-type": "application/json", "ce-type": "zotregistry.image.updated", "ce-id": "1"},
)
_REPLACEMENTS: tuple[Any, ...] = (None, [], {}, -1, "", "\x00", "x" * 5000)
_MOST_CHANGES = 400


class EventParserContract:
    """The contract of event parsers: subclass it in the tests of a parser::

        class TestQuay(EventParserContract):
            parser = "dockhand_quay.parser:QuayParser"
            plugin = "dockhand_quay.hooks"       # if the package is not installed
            headers = {"Content-Type": "application/json", "X-Quay-Event": "repo_push"}
            body = b'{"repository": …}'
            kinds = [ManifestPushed]

    Attributes:
        parser: the parser: an object, its class, or where to import it from.
        plugin: the plugin that provides it, if its package is not installed.
        headers: headers of a notification in the parser's format.
        body: body of that notification.
        kinds: the classes of its events, in order; empty if they are not compared.
        malformed: further bodies that are malformed.
        foreign: headers of notifications in other formats, besides those of other registries.
        connection: the connection of the route that notifications come by; None for the bare route.
    """

    parser: ClassVar[Any]
    plugin: ClassVar[Any] = None
    headers: ClassVar[Mapping[str, str]]
    body: ClassVar[bytes]
    kinds: ClassVar[Sequence[type[RegistryBaseEvent]]] = ()
    malformed: ClassVar[Sequence[bytes]] = ()
    foreign: ClassVar[Sequence[Mapping[str, str]]] = ()
    connection: ClassVar[str | None] = None

    @pytest.fixture
    def event_parser(self) -> Any:
        """The parser; override it for one that needs arguments."""
        found = self.parser
        if isinstance(found, str):
            found = imported(found)
        return found() if isinstance(found, type) else found

    def parsed(self, parser: Any, body: bytes) -> list[RegistryBaseEvent]:
        """The events that a parser makes of a body.

        Raises:
            EventInvalid: the body is malformed, or the parser declines it.
        """
        found = parser.parse(EventHeaders(self.headers), body)
        if found is None:
            raise EventInvalid("the parser declined")
        return list(found)

    @rule(
        "A parser has the plain functions matches and parse.",
        why="they are called for each notification, before it is stored",
        where="the hook dockhand_event_parsers (reference/hooks), EventParser",
    )
    def test_methods(self, event_parser: Any) -> None:
        for name in ("matches", "parse"):
            method = getattr(event_parser, name, None)
            assert callable(method), f"there is no method {name}"
            assert not inspect.iscoroutinefunction(method), f"{name} is `async def`"

    @rule(
        "matches() is true for the format's headers, in any case of their names.",
        why="proxies change the case of names",
        where="the hook dockhand_event_parsers (reference/hooks): the names are case-insensitive",
    )
    def test_matches_own_headers(self, event_parser: Any) -> None:
        for change in (str, str.lower, str.upper):
            headers = {change(name): value for name, value in self.headers.items()}
            found = _matches(event_parser, EventHeaders(headers), self.connection)
            assert found is True, f"matches() returned {found!r} for {headers}"

    @rule(
        "matches() is false for the headers of other formats, and fails for none.",
        why="the notifications of other registries would be lost",
        where="the hook dockhand_event_parsers (reference/hooks)",
    )
    def test_leaves_other_headers(self, event_parser: Any) -> None:
        own = {name.lower(): value for name, value in self.headers.items()}
        for headers in (*_FOREIGN, *self.foreign):
            if not _same_format(own, headers):
                found = _matches(event_parser, EventHeaders(headers), self.connection)
                assert found is False, f"matches() returned {found!r} for {headers}"

    @rule(
        "A notification becomes a list of events with id, timestamp, action and repository.",
        why="handlers rely on the fields that every event has",
        where="RegistryBaseEvent",
    )
    def test_events(self, event_parser: Any) -> None:
        events = self.parsed(event_parser, self.body)
        assert events, "there are no events"
        for event in events:
            assert isinstance(event, RegistryBaseEvent), f"{event!r} is no event"
            assert event.id
            assert event.action
            assert event.repository
            assert event.timestamp.tzinfo is not None
        if self.kinds:
            assert [type(event) for event in events] == list(self.kinds)

    @rule(
        "The same notification gives the same events, with the same ids.",
        why="registries send again; by its id, an event that came before is recognised",
        where="RegistryBaseEvent.id",
    )
    def test_sent_again(self, event_parser: Any) -> None:
        first, again = (self.parsed(event_parser, self.body) for _ in range(2))
        assert first == again
        ids = [event.id for event in first]
        assert len(set(ids)) == len(ids), f"two events of a notification have the same id: {ids}"

    @rule(
        "A malformed body is EventInvalid, or declined by returning None.",
        why="the notification becomes a dead letter, which is kept and can be replayed",
        where="the hook dockhand_event_parsers (reference/hooks)",
    )
    def test_malformed_bodies(self, event_parser: Any) -> None:
        half = self.body[: len(self.body) // 2]
        for body in (b"", b"\xff\xfe\x00", b"null", half, *self.malformed):
            try:
                events = self.parsed(event_parser, body)
            except EventInvalid:
                continue
            raise AssertionError(f"{body[:60]!r} gave {len(events)} events")

    @rule(
        "A wrong value in the body is EventInvalid, declined or ignored, and raises nothing else.",
        why="any other exception counts as a defect of the parser, and hides which value is wrong",
        where="EventParser.parse",
    )
    def test_wrong_values(self, event_parser: Any) -> None:
        try:
            document = json.loads(self.body)
        except ValueError:
            pytest.skip("the body is not JSON")
        for changed in _changes(document):
            body = json.dumps(changed).encode()
            try:
                events = self.parsed(event_parser, body)
            except EventInvalid:
                continue
            wrong = [each for each in events if not isinstance(each, RegistryBaseEvent)]
            assert not wrong, f"{wrong[0]!r} is no event, from {body[:200]!r}"

    @rule(
        "A parser does not block: it opens no file and no connection, and does not wait.",
        why="it runs in the event loop of the receiver, which serves all registries",
        where="the hook dockhand_event_parsers (reference/hooks): neither method may block",
    )
    def test_does_not_block(self, event_parser: Any) -> None:
        self.parsed(event_parser, self.body)  # imports what it imports at first use
        with no_blocking_calls() as calls:
            assert _matches(event_parser, EventHeaders(self.headers), self.connection)
            self.parsed(event_parser, self.body)
        assert not calls, f"the parser called {', '.join(calls)}"

    @rule(
        "The plugin provides the parser, and a manager parses the notification with it.",
        why="a parser that no hook returns is never called",
        where="the hook dockhand_event_parsers (reference/hooks)",
    )
    def test_manager_uses_the_parser(self, event_parser: Any, dockhand: Dockhand) -> None:
        provided = [
            parser
            for _, hook in dockhand.plugins.implementations("dockhand_event_parsers")
            for parser in hook()
        ]
        assert any(isinstance(each, type(event_parser)) for each in provided), (
            f"no hook returns a {type(event_parser).__name__}; is `plugin` missing?"
        )
        found = EventParsers(dockhand.plugins).parse(self.headers, self.body, self.connection)
        expected = self.parsed(event_parser, self.body)
        route = {"connection": self.connection}
        assert found == [event.model_copy(update=route) for event in expected]


def _matches(parser: Any, headers: EventHeaders, connection: str | None) -> Any:
    """Call `matches`, which may also take the name of the connection."""
    try:
        inspect.signature(parser.matches).bind(headers, connection)
    except TypeError:
        return parser.matches(headers)
    return parser.matches(headers, connection)


def _same_format(own: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether headers are of the parser's own format, which is one of those of the core."""
    kind = own.get("content-type", "").partition(".events.v")
    is_envelope = kind[1] and other.get("content-type", "").startswith(kind[0] + kind[1])
    return bool(is_envelope) or ("ce-type" in own and "ce-type" in other)


def _changes(document: Any) -> Iterator[Any]:
    """Yield copies of a JSON document in which a value is replaced or missing."""
    for count, path in enumerate(_paths(document)):
        if count * (len(_REPLACEMENTS) + 1) > _MOST_CHANGES:
            return
        for value in (*_REPLACEMENTS, ...):
            changed = copy.deepcopy(document)
            place = changed
            for key in path[:-1]:
                place = place[key]
            if value is ...:
                del place[path[-1]]
            else:
                place[path[-1]] = value
            yield changed


def _paths(value: Any, start: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, each in items:
        yield (*start, key)
        yield from _paths(each, (*start, key))
