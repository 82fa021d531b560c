"""Harbor's notifications become events; the bodies are written from its source, not recorded."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from dockhand_harbor.notifications import HarborEvent, HarborParser
from dockhand_testing import EventParserContract
from fake_harbor import DIGEST, REPOSITORY, cloud, data, default

from dockhand_core import EventInvalid
from dockhand_core.events import (
    EventHeaders,
    ImageScanned,
    ManifestDeleted,
    ManifestPulled,
    ManifestPushed,
    RegistryBaseEvent,
)

DEFAULT = {"Content-Type": "application/json"}
CLOUD = {"Content-Type": "application/cloudevents+json"}


def parse(body: bytes, headers: dict[str, str] = DEFAULT) -> list[RegistryBaseEvent]:
    parser = HarborParser()
    assert parser.matches(EventHeaders(headers), "harbor")
    events = parser.parse(EventHeaders(headers), body)
    assert events is not None
    return events


class TestDefault(EventParserContract):
    """The contract, with a notification in the format Default."""

    parser = HarborParser
    headers: ClassVar = DEFAULT
    body = default("PUSH_ARTIFACT", data())
    kinds: ClassVar = [ManifestPushed]
    malformed: ClassVar = [
        default("PUSH_ARTIFACT", {"repository": REPOSITORY}),
        body.replace(b"team/deep", b"../deep"),
    ]


class TestCloudEvents(EventParserContract):
    """The contract, with a notification in the format CloudEvents."""

    parser = HarborParser
    headers: ClassVar = CLOUD
    body = cloud("harbor.artifact.pulled", data())
    kinds: ClassVar = [ManifestPulled]


def test_both_formats_say_the_same() -> None:
    fields = {"repository", "digest", "tag", "timestamp", "action", "actor_name"}
    [event] = parse(default("PUSH_ARTIFACT", data()))
    [other] = parse(cloud("harbor.artifact.pushed", data()), CLOUD)
    assert isinstance(event, ManifestPushed)
    assert isinstance(other, ManifestPushed)
    assert event.model_dump(include=fields) == other.model_dump(include=fields)
    assert (event.repository, event.tag, event.digest) == ("team/deep/app", "v1", DIGEST)
    assert event.timestamp == datetime(2024, 1, 31, 12, tzinfo=UTC)
    assert (event.action, event.actor_name) == ("PUSH_ARTIFACT", "robot$team+ci")
    assert other.id == "4b2f89a6-548d-4c12-9993-a1f5790b97d2"
    assert other.request_id == "2eedfab8-61d3-4f3c-8ec3-8f82d1ec4c84"
    assert other.source_addr == "/projects/1/webhook/policies/3"


def test_digest_in_place_of_a_tag() -> None:
    """An artifact without a tag: Harbor repeats its digest there."""
    [event] = parse(default("PULL_ARTIFACT", data(tag=DIGEST)))
    assert isinstance(event, ManifestPulled)
    assert event.tag is None


def test_deletion() -> None:
    [event] = parse(default("DELETE_ARTIFACT", data()))
    assert type(event) is ManifestDeleted
    assert event.digest == DIGEST


def test_scan() -> None:
    overview = {"application/vnd.security.vulnerability.report; version=1.1": {"severity": "High"}}
    [event] = parse(default("SCANNING_COMPLETED", data(scan_overview=overview)))
    assert isinstance(event, ImageScanned)
    assert event.summary == overview
    bill = {**data(sbom_overview={"scan_status": "Success"}), "scan": {"scan_type": "sbom"}}
    [event] = parse(default("SCANNING_COMPLETED", bill))
    assert type(event) is HarborEvent


@pytest.mark.parametrize(
    ("kind", "cloud_kind", "event_data", "repository"),
    [
        ("SCANNING_FAILED", "harbor.scan.failed", data(), "team/deep/app"),
        ("SCANNING_STOPPED", "harbor.scan.stopped", data(), "team/deep/app"),
        ("QUOTA_EXCEED", "harbor.quota.exceeded", data(), "team/deep/app"),
        (
            "QUOTA_WARNING",
            "harbor.quota.warned",
            {"repository": REPOSITORY, "custom_attributes": {"Details": "85%"}},
            "team/deep/app",
        ),
        (
            "REPLICATION",
            "harbor.replication.status.changed",
            {"replication": {"src_resource": {"namespace": "team"}, "dest_resource": {}}},
            "team",
        ),
        (
            "TAG_RETENTION",
            "harbor.tag_retention.finished",
            {"retention": {"total": 2, "retained": 1, "project_name": "team"}},
            "team",
        ),
    ],
)
def test_events_of_harbor_only(
    kind: str, cloud_kind: str, event_data: dict[str, Any], repository: str
) -> None:
    for body, headers in (
        (default(kind, event_data), DEFAULT),
        (cloud(cloud_kind, event_data), CLOUD),
    ):
        [event] = parse(body, headers)
        assert type(event) is HarborEvent
        assert (event.action, event.repository, event.data) == (kind, repository, event_data)


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        json.dumps({"type": "PUSH_ARTIFACT"}).encode(),
        default("UNHEARD_OF", data()),
        cloud("com.example.pushed", data()),
        json.dumps({"events": []}).encode(),
    ],
)
def test_other_bodies_are_declined(body: bytes) -> None:
    assert HarborParser().parse(EventHeaders(DEFAULT), body) is None


def test_several_resources_have_different_ids() -> None:
    several = data()
    several["resources"] *= 2
    first, second = parse(default("PUSH_ARTIFACT", several))
    assert second.id == f"{first.id}/1"


def test_wrong_field_is_named() -> None:
    with pytest.raises(EventInvalid, match=r"PUSH_ARTIFACT.*digest"):
        parse(default("PUSH_ARTIFACT", data(digest="no digest")))
