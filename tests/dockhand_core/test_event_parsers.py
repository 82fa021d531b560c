"""The choice of a parser by headers and route, and parsers that decline a notification."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from dockhand_core import EventInvalid, Plugins, hookimpl
from dockhand_core.events import (
    EventParser,
    EventParsers,
    RegistryBaseEvent,
    RouteEventParser,
    TagDeleted,
)

pytestmark = pytest.mark.usefixtures("clean")

DISTRIBUTION = {"Content-Type": "application/vnd.docker.distribution.events.v2+json"}


def parsed_by(name: str) -> list[RegistryBaseEvent]:
    time = datetime.now(UTC)
    return [TagDeleted(id=name, timestamp=time, action="delete", repository="a/b", tag="v1")]


class Plain:
    def matches(self, headers: Mapping[str, str]) -> bool:
        return True

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent] | None:
        return parsed_by("plain") if body == b"plain" else None


class Harbor:
    def __init__(self) -> None:
        self.seen: list[str | None] = []

    def matches(self, headers: Mapping[str, str], connection: str | None) -> bool:
        self.seen.append(connection)
        return connection == "harbor"

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent]:
        return parsed_by("harbor")


class OtherName(Harbor):
    def matches(self, headers: Mapping[str, str], route: str | None) -> bool:
        return super().matches(headers, route)


class WithDefault(Harbor):
    def matches(self, headers: Mapping[str, str], connection: str | None = None) -> bool:
        return super().matches(headers, connection)


class PositionalOnly(Harbor):
    def matches(self, headers: Mapping[str, str], connection: str | None, /) -> bool:
        return super().matches(headers, connection)


class Optional(Harbor):
    """Its second argument is its own, and is no connection."""

    def matches(self, headers: Mapping[str, str], strict: Any = "own") -> bool:
        self.seen.append(strict)
        return True


class Variadic(Harbor):
    def matches(self, headers: Mapping[str, str], *others: Any, **options: Any) -> bool:
        self.seen += [*others, *options]
        return True


class Provider:
    def __init__(self, *parsers: EventParser | RouteEventParser) -> None:
        self.parsers = parsers

    @hookimpl
    def dockhand_event_parsers(self) -> Any:
        return self.parsers


def parsers_of(*parsers: Any) -> EventParsers:
    plugins = Plugins()
    plugins.register(Provider(*parsers), name="mine")
    return EventParsers(plugins)


@pytest.mark.parametrize("kind", [Harbor, OtherName, WithDefault, PositionalOnly])
def test_a_parser_sees_the_connection_of_the_route(kind: type[Harbor]) -> None:
    parser = kind()
    parsers = parsers_of(parser)
    assert parsers.parse({}, b"", "harbor")[0].id == "harbor"
    for other in (None, "quay"):
        with pytest.raises(EventInvalid, match="no parser knows the format"):
            parsers.parse({}, b"", other)
    with pytest.raises(EventInvalid):
        parsers.parse({}, b"")
    assert parser.seen == ["harbor", None, "quay", None]


@pytest.mark.parametrize(("kind", "seen"), [(Optional, ["own"]), (Variadic, [])])
def test_a_parser_that_does_not_ask_for_the_connection_does_not_get_it(
    kind: type[Harbor], seen: list[Any]
) -> None:
    parser = kind()
    assert parsers_of(parser).parse({}, b"", "harbor")[0].id == "harbor"
    assert parser.seen == seen


def test_todays_form_gets_headers_alone() -> None:
    assert parsers_of(Plain()).parse({}, b"plain", "harbor")[0].id == "plain"


def test_the_next_parser_is_tried_if_one_declines() -> None:
    parsers = parsers_of(Plain(), Harbor())
    assert parsers.parse({}, b"plain", "harbor")[0].id == "plain"
    assert parsers.parse({}, b"other", "harbor")[0].id == "harbor"


def test_the_cores_parsers_follow_those_that_decline() -> None:
    assert parsers_of(Plain()).parse(DISTRIBUTION, b'{"events": []}') == []


def test_an_error_names_the_parsers_that_declined() -> None:
    with pytest.raises(EventInvalid) as caught:
        parsers_of(Plain(), Harbor()).parse({}, b"other")
    assert str(caught.value) == (
        "no parser knows the format of a notification with these headers on the route without a "
        "connection; parsers that declined it: mine: Plain.parse returned None; parsers that do "
        "not match: mine: Harbor"
    )


def test_an_error_names_the_route() -> None:
    """A registry that posts to the route of another connection sends nothing that is wrong."""
    with pytest.raises(EventInvalid) as caught:
        parsers_of(Harbor()).parse({}, b"other", "habror")
    assert str(caught.value) == (
        "no parser knows the format of a notification with these headers on the route of "
        "connection 'habror'; parsers that do not match: mine: Harbor"
    )


def test_events_have_the_connection_of_the_route() -> None:
    """A test of a handler sees the events that the receiver would deliver."""

    class Partly(Harbor):
        def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent]:
            raise EventInvalid("the second one is malformed", events=super().parse(headers, body))

    assert parsers_of(Harbor()).parse({}, b"", "harbor")[0].connection == "harbor"
    assert parsers_of(Plain()).parse({}, b"plain")[0].connection is None
    with pytest.raises(EventInvalid) as caught:
        parsers_of(Partly()).parse({}, b"", "harbor")
    assert [event.connection for event in caught.value.events] == ["harbor"]


def test_a_parser_that_raises_ends_the_search() -> None:
    class Malformed(Plain):
        def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent]:
            raise EventInvalid("no digest")

    with pytest.raises(EventInvalid, match="no digest"):
        parsers_of(Malformed(), Harbor()).parse({}, b"", "harbor")


def test_the_parsers_of_a_plugin_are_listed() -> None:
    class Failing:
        @hookimpl
        def dockhand_event_parsers(self) -> Any:
            raise LookupError("no")

    plugins = Plugins()
    plugins.register(Provider(Plain(), Harbor()), name="mine")
    plugins.register(Failing(), name="failing")
    found = {info.name: info.parsers for info in plugins}
    assert found["mine"] == ("Harbor", "Plain")
    assert found["core"] == ("DistributionParser", "ZotParser")
    assert found["failing"] == found["basic"] == ()
