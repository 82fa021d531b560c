"""Events that are too large or too deep: handlers get them without their details."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from dockhand_webhook import SerializedEvent
from dockhand_webhook.inbox.event_codec import serialize
from notifications import DISTRIBUTION, envelope, push
from pydantic import BaseModel

from dockhand_core import EventInvalid, Plugins, hookimpl
from dockhand_core.events import (
    EventParsers,
    ImageScanned,
    ManifestPushed,
    RegistryBaseEvent,
    RegistryEvent,
)

MIB = 1 << 20
REFERENCE = {"mediaType": "application/octet-stream", "digest": "sha256:" + "5" * 64, "size": 1}
LARGE = [REFERENCE] * 12_000
DEPTHS = [201, 500, 1500, 100_000]
VERSIONS = [DISTRIBUTION, DISTRIBUTION.replace("v2", "v1")]


def nested(depth: int) -> bytes:
    return b'{"a":[' * (depth // 2) + b"0" + b"]}" * (depth // 2)


def event_text(name: str, value: bytes) -> bytes:
    """Return the JSON of an event with a value in its field `x`."""
    text = json.dumps({**push(id=name), "x": 0}).encode()
    return text.replace(b'"x": 0', b'"x": ' + value)


def envelope_of(*events: bytes) -> bytes:
    return b'{"events": [%s]}' % b",".join(events)


def parse(body: bytes, headers: Mapping[str, str] | None = None) -> list[RegistryBaseEvent]:
    return EventParsers(Plugins()).parse(headers or {"Content-Type": DISTRIBUTION}, body)


def assert_truncated(event: RegistryBaseEvent) -> None:
    assert (event.truncated, event.raw) == (True, {})
    assert not isinstance(event, RegistryEvent) or event.references == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_large_event_keeps_everything_but_its_details(version: str) -> None:
    body = envelope(push(id="small"), push(id="large", references=LARGE), push(id="last"))
    small, large, last = parse(body, {"Content-Type": version})
    assert_truncated(large)
    assert isinstance(large, ManifestPushed)
    assert (large.id, large.repository, large.tag) == ("large", "team/app", "v1")
    assert (large.digest, large.size) == ("sha256:" + "4b" * 32, 416)
    for event in (small, last):
        assert not event.truncated
        assert event.raw["id"] == event.id
    assert [event.truncated for event in parse(envelope(push(references=LARGE[:5000])))] == [False]


def test_many_small_events_are_not_a_large_event() -> None:
    body = envelope(*(push(id=str(number), references=LARGE[:100]) for number in range(200)))
    assert len(body) > MIB
    events = parse(body)
    assert [event.id for event in events] == [str(number) for number in range(200)]
    assert not any(event.truncated for event in events)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_deep_event_costs_no_other(version: str, depth: int) -> None:
    body = envelope_of(
        event_text("one", b"1"), event_text("deep", nested(depth)), event_text("three", b"[[3]]")
    )
    one, deep, three = parse(body, {"Content-Type": version})
    assert_truncated(deep)
    assert (deep.id, deep.repository) == ("deep", "team/app")
    assert (one.truncated, three.truncated) == (False, False)
    assert three.raw["x"] == [[3]]


@pytest.mark.parametrize("depth", DEPTHS)
def test_deep_references_are_left_out(depth: int) -> None:
    text = json.dumps(push(references=[{"x": 0}])).encode()
    [event] = parse(envelope_of(text.replace(b'{"x": 0}', b'{"x": %s}' % nested(depth))))
    assert_truncated(event)


@pytest.mark.parametrize("depth", [3, 150])
def test_an_event_of_moderate_depth_is_kept(depth: int) -> None:
    [event] = parse(envelope_of(event_text("one", nested(depth))))
    assert not event.truncated
    assert event.raw["x"] == json.loads(nested(depth))


@pytest.mark.parametrize(
    ("value", "is_truncated"),
    [
        (b"9" * 5000, True),  # Python refuses to convert such an integer
        (b"9" * 4000, False),
        (b'"' + b"\xff\xfe" + b'"', False),  # not UTF-8
        (b'"' + b"[{" * 5000 + b'\\""', False),  # brackets in a string are not nested
        (nested(300) + b', "y": "[[[\\"", "z": ' + nested(2000), True),
    ],
)
def test_an_extreme_value_costs_only_its_own_event(value: bytes, is_truncated: bool) -> None:
    events = parse(envelope_of(event_text("one", b"1"), event_text("odd", value)))
    assert [(event.id, event.truncated) for event in events] == [
        ("one", False),
        ("odd", is_truncated),
    ]


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"events": [' + b"[" * 5000 + b"]" * 4999])
def test_a_deep_text_that_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(EventInvalid, match="is not JSON"):
        parse(text)


def test_a_malformed_event_beside_a_large_one() -> None:
    body = envelope({"id": "wrong"}, push(id="large", references=LARGE), push(id="small"))
    with pytest.raises(EventInvalid, match=r"events\[0\]") as caught:
        parse(body)
    large, small = caught.value.events
    assert_truncated(large)
    assert (small.id, small.truncated) == ("small", False)


def zot_headers(kind: str) -> dict[str, str]:
    return {"ce-type": f"zotregistry.{kind}", "ce-id": "one", "ce-time": "2026-11-23T12:16:30Z"}


ZOT = {"name": "team/app", "reference": "v1", "digest": "sha256:" + "4b" * 32}


def test_zots_large_manifest() -> None:
    manifest = json.dumps({"layers": LARGE})
    body = json.dumps({**ZOT, "manifest": manifest}).encode()
    [event] = parse(body, zot_headers("image.updated"))
    assert_truncated(event)
    assert isinstance(event, ManifestPushed)
    assert (event.tag, event.size, event.digest) == ("v1", len(manifest), ZOT["digest"])


@pytest.mark.parametrize("depth", DEPTHS)
def test_zots_deep_values(depth: int) -> None:
    deep = nested(depth).decode()
    manifest = f'{{"layers": [{{"annotations": {deep}}}]}}'
    [event] = parse(
        json.dumps({**ZOT, "manifest": manifest}).encode(), zot_headers("image.updated")
    )
    assert_truncated(event)
    assert isinstance(event, ManifestPushed)
    assert event.size == len(manifest)
    body = json.dumps({**ZOT, "summary": {"count": 1, "x": 0}}).replace('"x": 0', f'"x": {deep}')
    [scanned] = parse(body.encode(), zot_headers("image.scanned"))
    assert_truncated(scanned)
    assert isinstance(scanned, ImageScanned)
    assert (scanned.repository, scanned.tag) == ("team/app", "v1")
    assert depth == 201 or scanned.summary == {}


class Expanding:
    """A plugin's parser, whose events may be larger than the body."""

    def __init__(self, function: Any) -> None:
        self._function = function

    @hookimpl
    def dockhand_event_parsers(self) -> list[Any]:
        return [self]

    def matches(self, headers: Mapping[str, str]) -> bool:
        return headers.get("content-type") == "text/x"

    def parse(self, headers: Mapping[str, str], body: bytes) -> Any:
        return self._function(body)


def plugin_parsers(function: Any) -> EventParsers:
    plugins = Plugins()
    plugins.register(Expanding(function), name="expanding")
    return EventParsers(plugins)


def make(name: str, **values: Any) -> ManifestPushed:
    fields = {"timestamp": "2026-11-23T12:16:30Z", "action": "push", "repository": "team/app"}
    return ManifestPushed(id=name, **{**fields, **values})


@pytest.mark.parametrize(
    "values",
    [
        {"raw": {"x": "y" * (MIB + 1)}},
        {"raw": {"x": "\0" * (MIB // 5)}},  # each is six bytes of JSON
        {"raw": {"x": [10**17] * 60_000}},
        {"references": LARGE},
        {"request_user_agent": "x" * (MIB + 1)},
    ],
    ids=lambda values: str(values)[:20],
)
def test_the_events_of_a_plugins_parser_are_truncated(values: dict[str, Any]) -> None:
    parsers = plugin_parsers(lambda _: [make("small", raw={"x": 1}), make("large", **values)])
    small, large = parsers.parse({"Content-Type": "text/x"}, b"")
    assert_truncated(large)
    assert large.request_user_agent is None
    assert (small.truncated, small.raw) == (False, {"x": 1})


class Scan(BaseModel):
    report: Any


class Scanned(ManifestPushed):
    """An event class of a plugin, with fields of other types than JSON's."""

    scan: Scan | None = None
    signature: bytes = b""
    labels: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    "values",
    [
        {"scan": Scan(report="x" * (MIB + 1))},
        {"scan": Scan(report=json.loads(nested(500)))},
        {"signature": b"x" * (MIB + 1)},
        {"labels": frozenset(f"{number:>30}" for number in range(40_000))},
    ],
    ids=["model", "deep model", "bytes", "set"],
)
def test_other_fields_of_a_plugins_events_are_truncated(values: dict[str, Any]) -> None:
    event = Scanned(**{**dict(make("one", raw={"x": 1})), **values})
    [truncated] = plugin_parsers(lambda _: [event]).parse({"Content-Type": "text/x"}, b"")
    assert_truncated(truncated)
    assert isinstance(truncated, Scanned)
    assert (truncated.scan, truncated.signature, truncated.labels) == (None, b"", frozenset())
    assert len(serialize(truncated)[1]) < 1000


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_plugins_parser_that_fails_at_nesting_gets_the_rest(depth: int) -> None:
    def parse_all(body: bytes) -> Iterator[ManifestPushed]:
        for each in json.loads(body):
            yield make(each["name"], raw=each)

    body = b'[{"name": "one"}, {"name": "deep", "x": %s}]' % nested(depth)
    one, deep = plugin_parsers(parse_all).parse({"Content-Type": "text/x"}, body)
    assert (one.truncated, one.raw) == (False, {"name": "one"})
    assert_truncated(deep)
    assert deep.id == "deep"


def test_circular_values_are_truncated() -> None:
    circular: dict[str, Any] = {}
    circular["x"] = circular
    [event] = plugin_parsers(lambda _: [make("one", raw=circular)]).parse(
        {"Content-Type": "text/x"}, b""
    )
    assert_truncated(event)


def test_a_wrong_object_among_a_plugins_events() -> None:
    with pytest.raises(EventInvalid, match="not an event") as caught:
        plugin_parsers(lambda _: [make("one"), 5, make("three")]).parse(
            {"Content-Type": "text/x"}, b""
        )
    assert [event.id for event in caught.value.events] == ["one", "three"]


def test_a_truncated_event_is_serialized_as_such() -> None:
    [event] = parse(envelope(push(references=LARGE)))
    again = SerializedEvent(*serialize(event)).deserialize()
    assert again == event
    assert again.truncated
    earlier = json.loads(serialize(make("one"))[1])
    del earlier["truncated"]  # an event that was stored before the attribute existed
    assert not SerializedEvent("ManifestPushed", json.dumps(earlier)).deserialize().truncated


class Handlers:
    def __init__(self) -> None:
        self.received: list[tuple[str, bool]] = []


class SyncHandlers(Handlers):
    @hookimpl
    def dockhand_manifest_pushed(self, event: ManifestPushed) -> None:
        self.received.append((event.id, event.truncated))


class AsyncHandlers(Handlers):
    @hookimpl
    async def dockhand_manifest_pushed(self, event: ManifestPushed) -> None:
        self.received.append((event.id, event.truncated))


@pytest.mark.parametrize("kind", [SyncHandlers, AsyncHandlers])
@pytest.mark.parametrize(
    "body",
    [
        envelope(push(id="one", references=LARGE), push(id="two")),
        envelope_of(event_text("one", nested(50_000)), event_text("two", b"1")),
    ],
    ids=["large", "deep"],
)
def test_handlers_get_truncated_events(receiver: Any, body: bytes, kind: type[Handlers]) -> None:
    handlers = kind()
    receiver.plugins.register(handlers, name="handlers")

    async def post_and_wait() -> None:
        receiver.create()
        async with receiver.app.lifespan():
            reply = await receiver.request(
                "POST", "/dockhand/notify", content=body, headers={"Content-Type": DISTRIBUTION}
            )
            assert reply.status_code == 202
            while receiver.app.counts().waiting:
                await asyncio.sleep(0.01)

    receiver.run(post_and_wait())
    assert handlers.received == [("one", True), ("two", False)]
    assert receiver.inbox.counts().dead_letters == 0
