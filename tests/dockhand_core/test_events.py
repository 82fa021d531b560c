"""Notifications of real registries become events; malformed ones raise `EventInvalid`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notifications import DISTRIBUTION, envelope, push, recorded
from pydantic import ValidationError

from dockhand_core import EventInvalid, PluginConflict, Plugins, hookimpl, hookspecs
from dockhand_core import events as ev

HEADERS = {"Content-Type": DISTRIBUTION}
# The class of a recorded event, by the first words of the recording's name.
CLASS_BY_CASE = {
    "blob push": "BlobPushed",
    "manifest push": "ManifestPushed",
    "manifest re-push": "ManifestPushed",
    "index push": "ManifestPushed",
    "list push": "ManifestPushed",
    "helm push": "ManifestPushed",
    "cosign signature push": "ManifestPushed",
    "OCI 1.1 artifact": "ManifestPushed",
    "GET blob": "BlobPulled",
    "HEAD blob": "BlobPulled",
    "GET": "ManifestPulled",
    "HEAD": "ManifestPulled",
    "mount": "BlobMounted",
    "DELETE tag": "TagDeleted",
    "DELETE blob": "ManifestDeleted",  # Distribution reports a deleted manifest
    "DELETE untagged": "ManifestDeleted",
}
RECORDED = [
    pytest.param(each, id=f"{name}: {each.case}")
    for name in ("distribution-2.8.2", "distribution-3.1.1")
    for each in recorded(name)
]


@pytest.fixture(scope="module")
def parsers() -> ev.EventParsers:
    return ev.EventParsers(Plugins())


def parse_one(parsers: ev.EventParsers, headers: Mapping[str, str], body: bytes) -> Any:
    [event] = parsers.parse(headers, body)
    return event


@pytest.mark.parametrize("sent", RECORDED)
def test_notifications_recorded_from_distribution(parsers: ev.EventParsers, sent: Any) -> None:
    event = parse_one(parsers, sent.headers, sent.body)
    [raw] = json.loads(sent.body)["events"]
    kinds = {CLASS_BY_CASE[begin] for begin in CLASS_BY_CASE if sent.case.startswith(begin)}
    if sent.case.startswith(("DELETE manifest", "DELETE index")):
        kinds = {"TagDeleted" if raw["target"].get("tag") else "ManifestDeleted"}
    assert type(event).__name__ == max(kinds, key=lambda kind: kind.startswith("Blob"))
    target, request = raw["target"], raw["request"]
    assert (event.id, event.action, event.raw) == (raw["id"], raw["action"], raw)
    assert event.repository == target["repository"]
    assert event.digest == (target.get("digest") or None)
    assert event.timestamp.tzinfo is not None
    assert f"{event.timestamp:%Y-%m-%dT%H:%M:%S.%f}" == raw["timestamp"][:26]
    assert (event.request_id, event.request_addr) == (request["id"], request["addr"])
    assert (event.request_host, event.request_method) == (request["host"], request["method"])
    assert event.request_user_agent == (request["useragent"] or None)
    assert event.actor_name == "alice"
    assert event.source_addr == raw["source"]["addr"]
    assert event.source_instance_id == raw["source"]["instanceID"]
    assert event.connection is None
    if isinstance(event, ev.RegistryEvent):
        assert (event.media_type, event.size) == (target["mediaType"], target["size"])
        assert (event.url, event.tag) == (target["url"], target.get("tag"))
        assert list(event.references) == target.get("references", [])
    if isinstance(event, ev.BlobMounted):
        assert event.from_repository == "team/app"
    if isinstance(event, ev.TagDeleted):
        assert event.tag == target["tag"]


def test_recordings_of_distribution_cover_its_classes(parsers: ev.EventParsers) -> None:
    seen = Counter(
        type(event).__name__
        for sent in recorded("distribution-3.1.1")
        for event in parsers.parse(sent.headers, sent.body)
    )
    assert set(seen) == {
        "ManifestPushed", "ManifestPulled", "BlobPushed", "BlobPulled", "BlobMounted",
        "ManifestDeleted", "TagDeleted",
    }  # fmt: skip


def test_notifications_recorded_from_zot(parsers: ev.EventParsers) -> None:
    seen: dict[str, Any] = {}
    for sent in recorded("zot"):
        event = parse_one(parsers, sent.headers, sent.body)
        raw = json.loads(sent.body)
        assert event.id == sent.headers["Ce-Id"]
        assert f"zotregistry.{event.action}" == sent.headers["Ce-Type"]
        assert f"{event.timestamp:%Y-%m-%dT%H:%M:%S}" == sent.headers["Ce-Time"][:19]
        assert (event.repository, event.raw) == (raw["name"], raw)
        assert event.digest == raw.get("digest")
        assert event.actor_name == raw.get("actor", {}).get("name")
        assert event.request_method == raw.get("request", {}).get("method")
        seen[sent.case] = event
    kinds = Counter(type(event).__name__ for event in seen.values())
    assert set(kinds) == {
        "RepositoryCreated", "ManifestPushed", "TagDeleted", "ManifestDeleted",
        "ImageLintFailed", "ImageScanned",
    }  # fmt: skip
    pushed = seen["manifest pushed by tag"]
    assert (pushed.tag, pushed.size) == ("v1", 417)
    assert pushed.media_type == "application/vnd.oci.image.manifest.v1+json"
    assert [entry["size"] for entry in pushed.references] == [300, 11]
    assert seen["other manifest pushed by digest"].tag is None
    assert (seen["tag deleted"].tag, type(seen["tag deleted"])) == ("bykey", ev.TagDeleted)
    assert type(seen["index deleted by digest"]) is ev.ManifestDeleted
    assert seen["image scanned 1"].summary["maxSeverity"] == "CRITICAL"
    assert seen["image scanned in background"].tag is None
    assert seen["anonymous push 1"].actor_name is None
    assert seen["anonymous push 1"].request_user_agent is None


def test_blobs_are_told_from_manifests(parsers: ev.EventParsers) -> None:
    def kind(**target: Any) -> str:
        return type(parse_one(parsers, HEADERS, envelope(push(**target)))).__name__

    assert kind(mediaType="application/x.custom") == "ManifestPushed"
    assert kind(mediaType="application/x.custom", url="", tag="") == "ManifestPushed"
    assert kind(mediaType="application/octet-stream") == "ManifestPushed"  # recognized by its URL
    octets = {"mediaType": "application/octet-stream", "tag": ""}
    assert kind(**octets, url="http://h/v2/a/manifests/b/blobs/sha256:0?x=/manifests/") == (
        "BlobPushed"
    )
    assert kind(**octets, url=None) == "BlobPushed"
    assert kind(**octets, url=None, references=[{"digest": "d"}]) == "ManifestPushed"


def test_deletions_of_repositories_blobs_and_tags(parsers: ev.EventParsers) -> None:
    def deleted(**target: Any) -> Any:
        event = {**push(), "action": "delete", "target": target}
        return parse_one(parsers, HEADERS, envelope(event))

    assert type(deleted(repository="a", mediaType="", digest="", size=0)) is ev.RepositoryDeleted
    digest = "sha256:" + "0" * 64
    blob = {"repository": "a", "digest": digest}
    assert type(deleted(**blob, url=f"http://h/v2/a/blobs/{digest}")) is ev.BlobDeleted
    assert type(deleted(**blob, mediaType="application/octet-stream")) is ev.BlobDeleted
    both = deleted(**blob, tag="v1")
    assert (type(both), both.tag, both.digest) == (ev.TagDeleted, "v1", digest)
    assert not isinstance(both, ev.RegistryEvent)


def test_events_are_immutable_hashable_and_serialisable(parsers: ev.EventParsers) -> None:
    body = envelope(push(id="1"))
    event = parse_one(parsers, HEADERS, body)
    with pytest.raises(ValidationError):
        event.id = "2"
    assert event == parse_one(parsers, HEADERS, body)
    assert len({event, parse_one(parsers, HEADERS, body)}) == 1
    again = type(event).model_validate_json(event.model_dump_json())
    assert again == event
    assert event.timestamp == datetime(2026, 11, 23, 12, 16, 30, 389133, UTC)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no list of events"),
        (b'{"events": {}}', "no list of events"),
        (b'{"events": [1]}', r"events\[0\]: is not a JSON object"),
        (envelope({**push(), "action": "stroke"}), "push, pull, mount, delete"),
        (envelope({**push(), "action": ["push"]}), "push, pull, mount, delete"),
        (envelope({**push(), "target": "x"}), "target is not a JSON object"),
        (envelope({**push(), "id": ""}), "id: "),
        (envelope({**push(), "timestamp": "yesterday"}), "timestamp: "),
        (envelope(push(repository="")), "repository: "),
        (envelope(push(digest="sha256:short")), "is not a sha256 digest"),
        (envelope(push(references=[1])), "references.0: "),
        (envelope(push(size="large")), "size: "),
    ],
)
def test_malformed_notifications_are_invalid(
    parsers: ev.EventParsers, body: bytes, message: str
) -> None:
    with pytest.raises(EventInvalid, match=message) as caught:
        parsers.parse(HEADERS, body)
    assert caught.value.events == ()


def test_error_keeps_the_well_formed_events(parsers: ev.EventParsers) -> None:
    body = envelope(push(id="1"), {**push(), "action": "?"}, push(id="3"))
    with pytest.raises(EventInvalid, match=r"events\[1\]") as caught:
        parsers.parse(HEADERS, body)
    assert [event.id for event in caught.value.events] == ["1", "3"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"content-type": "application/json"}, {"Ce-Type": "com.example.pushed", "Ce-Id": "1"}],
)
def test_an_unknown_format_is_invalid(parsers: ev.EventParsers, headers: dict[str, str]) -> None:
    with pytest.raises(EventInvalid, match="no parser"):
        parsers.parse(headers, b"{}")


def test_an_unknown_event_type_of_zot_is_invalid(parsers: ev.EventParsers) -> None:
    with pytest.raises(EventInvalid, match="'image.painted' is not known"):
        parsers.parse({"Ce-Type": "zotregistry.image.painted", "Ce-Id": "1"}, b"{}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = st.sampled_from(["id", "timestamp", "action", "target", "request", "actor", "source"])
INNER = st.sampled_from(["mediaType", "digest", "size", "repository", "url", "tag", "references"])


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=2), st.dictionaries(INNER, JSON, max_size=2))
def test_any_json_gives_events_or_event_invalid(
    outer: dict[str, Any], inner: dict[str, Any]
) -> None:
    parsers = ev.EventParsers(Plugins())
    event = {**push(**inner), **outer}
    for headers in (HEADERS, {"ce-type": "zotregistry.image.updated", "ce-id": "1"}):
        try:
            found = parsers.parse(headers, envelope(event))
        except EventInvalid:
            continue
        assert all(isinstance(each, ev.RegistryBaseEvent) for each in found)


class HarborParser:
    """A plugin that parses the format of another registry; `outcome` selects how it fails."""

    def __init__(self, outcome: Any = None) -> None:
        self.outcome = outcome

    def matches(self, headers: Mapping[str, str]) -> bool:
        if self.outcome == "matches":
            raise RuntimeError("broken")
        return headers.get("Content-Type") == "application/json" and "X-HARBOR" in headers

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[Any]:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome == "garbage":
            return ["pushed"]
        return [
            ev.ManifestPushed(id="h", timestamp=datetime.now(UTC), action="p", repository="a/b")
        ]

    @hookimpl
    def dockhand_event_parsers(self) -> list[HarborParser]:
        return [self]


HARBOR_HEADERS = {"content-type": "application/json", "x-harbor": "1"}


def parsers_with_harbor(outcome: Any = None) -> ev.EventParsers:
    plugins = Plugins()
    plugins.register(HarborParser(outcome), name="harbor")
    return ev.EventParsers(plugins)


def test_a_plugin_adds_a_format() -> None:
    assert parse_one(parsers_with_harbor(), HARBOR_HEADERS, b"{}").repository == "a/b"
    assert parse_one(parsers_with_harbor(), HEADERS, envelope(push(id="1"))).id == "1"


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (LookupError("no"), "plugin 'harbor' failed: LookupError: no"),
        (EventInvalid("mine"), "mine"),
        ("garbage", "plugin 'harbor' returned an object that is not an event"),
        ("matches", "no parser knows"),
    ],
)
def test_a_broken_parser_of_a_plugin_breaks_only_its_format(outcome: Any, message: str) -> None:
    parsers = parsers_with_harbor(outcome)
    with pytest.raises(EventInvalid, match=message):
        parsers.parse(HARBOR_HEADERS, b"{}")
    assert parse_one(parsers, HEADERS, envelope(push(id="1"))).id == "1"


class AuditPlugin:
    @hookimpl
    def dockhand_manifest_pushed(self, event: ev.ManifestPushed) -> None: ...

    @hookimpl
    async def dockhand_event(self, event: ev.RegistryBaseEvent) -> None: ...


def test_handlers_are_named_by_plugin_and_hook(parsers: ev.EventParsers) -> None:
    plugins = Plugins()
    plugins.register(AuditPlugin(), name="audit")
    plugins.register(AuditPlugin())
    handlers = ev.event_handlers(plugins)
    unnamed = f"{__name__}:AuditPlugin"
    assert set(handlers) == {
        "audit/dockhand_event",
        "audit/dockhand_manifest_pushed",
        f"{unnamed}/dockhand_event",
        f"{unnamed}/dockhand_manifest_pushed",
    }
    assert handlers["audit/dockhand_event"].is_async
    assert not handlers["audit/dockhand_manifest_pushed"].is_async
    pushed = parse_one(parsers, HEADERS, envelope(push()))
    deleted = parse_one(parsers, HEADERS, envelope({**push(), "action": "delete"}))
    assert [handler.subscribes_to(pushed) for handler in handlers.values()] == [True] * 4
    assert [h.name for h in handlers.values() if h.subscribes_to(deleted)] == [
        "audit/dockhand_event", f"{unnamed}/dockhand_event",
    ]  # fmt: skip


def test_two_handlers_of_one_name_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins()
    plugins.register(AuditPlugin(), name="audit")
    plugins.register(AuditPlugin(), name="other")
    monkeypatch.setitem(plugins._names, "other", "audit")  # two packages may use one name
    with pytest.raises(PluginConflict, match="two plugins named 'audit' handle dockhand_event"):
        ev.event_handlers(plugins)


def test_every_event_class_has_its_hook() -> None:
    hooks = [kind.hook for kind in ev.EVENTS.values()]
    assert len(set(hooks)) == len(hooks) == 12
    assert all(hook and hasattr(hookspecs, hook) for hook in hooks)
    assert ev.ManifestPushed.hook == "dockhand_manifest_pushed"
    assert ev.ImageLintFailed.hook == "dockhand_image_lint_failed"
    gone = {ev.ManifestDeleted, ev.BlobDeleted, ev.TagDeleted, ev.RepositoryDeleted}
    assert not any(issubclass(kind, ev.RegistryEvent) for kind in gone)
    assert issubclass(ev.BlobMounted, ev.RegistryEvent)


def test_headers_are_found_in_any_case() -> None:
    headers = ev.EventHeaders({"X-One": "1", "x-ONE": "2", "Authorization": "secret"})
    assert headers["x-one"] == headers.get("X-ONE") == "1"
    assert len(headers) == 2
    assert "secret" not in repr(headers)
