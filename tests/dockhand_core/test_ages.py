"""The ages of tags: push times, builds and annotations."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dockhand_core import Descriptor, ImageIndex, ImageManifest, RegistryClient, connect
from dockhand_core.flow import Flow
from dockhand_core.models import TagDetails, media
from dockhand_core.operations.ages import tag_ages, usable_time

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def made(days: float) -> str:
    return (NOW - days * DAY).isoformat()


def put(
    registry: RegistryClient, tag: str, config: dict[str, Any], annotation: str | None = None
) -> ImageManifest:
    """Push an image with this config, and this time in an annotation."""
    data = json.dumps({"os": "linux", "architecture": "amd64", **config}).encode()
    blob = registry.upload_blob("app", data)
    manifest = ImageManifest(
        config=Descriptor(media_type=media.OCI_CONFIG, digest=blob.digest, size=len(data)),
        annotations={"org.opencontainers.image.created": annotation} if annotation else {},
    )
    registry.put_manifest("app", tag, manifest)
    return manifest


def ages(registry: RegistryClient, *tags: str) -> list[float | None]:
    """The ages of tags in days."""
    found = registry.run(tag_ages(registry.driver, "app", tags))
    return [
        None if time is None else round((NOW - time) / DAY, 3) for time in (found[t] for t in tags)
    ]


@pytest.fixture
def registry() -> Any:
    with connect("", driver="embedded", root=":memory:") as client:
        yield client


def test_the_config_decides_before_the_annotation(registry: RegistryClient) -> None:
    put(registry, "config", {"created": made(3)}, made(9))
    put(registry, "annotation", {}, made(9))
    put(registry, "invalid", {"created": "yesterday"}, made(8))
    put(registry, "epoch", {"created": "1970-01-01T00:00:00Z"}, made(7))
    put(registry, "none", {})
    put(registry, "only-epoch", {"created": "1980-12-31T23:59:59Z"})
    put(registry, "future", {"created": made(-1)}, made(7))
    put(registry, "naive", {"created": "2020-01-01T00:00:00"})
    put(registry, "bad", {}, "soon")
    assert ages(registry, "config", "annotation", "invalid", "epoch") == [3, 9, 8, 7]
    assert ages(registry, "none", "only-epoch", "future", "bad") == [None] * 4
    assert ages(registry, "naive")[0] is not None


def test_an_index_is_as_old_as_its_newest_image(registry: RegistryClient) -> None:
    images = [put(registry, f"p{n}", {"created": made(n)}) for n in (5, 3, 9)]
    future = put(registry, "future", {"created": made(-2)})
    none = put(registry, "none", {})
    lost = ImageManifest(config=images[0].config, annotations={"never": "pushed"})
    index = ImageIndex(manifests=tuple(each.descriptor() for each in [*images, none, lost]))
    registry.put_manifest("app", "index", index)
    with_future = ImageIndex(manifests=tuple(each.descriptor() for each in [*images, future]))
    registry.put_manifest("app", "with-future", with_future)
    annotated = ImageIndex(
        manifests=(none.descriptor(),),
        annotations={"org.opencontainers.image.created": made(4)},
    )
    registry.put_manifest("app", "annotated", annotated)
    nested = ImageIndex(manifests=(index.descriptor(),))
    registry.put_manifest("app", "nested", nested)
    assert ages(registry, "index", "with-future", "annotated", "nested") == [3, None, 4, 3]


def test_push_times_of_the_driver_come_first(
    registry: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put(registry, "old", {"created": made(100)})
    built = put(registry, "built", {"created": made(50)})
    moved = put(registry, "moved", {"created": made(40)})

    def tag_details(repository: str) -> Flow[dict[str, TagDetails]]:
        assert repository == "app"
        return {
            "old": TagDetails(digest=old.digest, pushed_at=NOW - 2 * DAY),
            "older-tag": TagDetails(digest=old.digest, pushed_at=NOW - 6 * DAY),
            "built": TagDetails(digest=built.digest, pushed_at=None),
            "moved": TagDetails(digest=built.digest, pushed_at=NOW + DAY),
        }
        yield

    monkeypatch.setattr(registry.driver, "tag_details", tag_details)
    assert moved.digest != built.digest
    assert ages(registry, "old", "built", "moved") == [2, 50, 40]


def test_a_tag_that_does_not_exist_is_left_out(registry: RegistryClient) -> None:
    put(registry, "a", {"created": made(1)})
    assert set(registry.run(tag_ages(registry.driver, "app", ["a", "gone"]))) == {"a"}


def test_times_at_the_ends_of_the_calendar_are_none() -> None:
    assert usable_time(datetime.max, NOW) is None
    assert usable_time(datetime.min, NOW) is None
    assert usable_time(NOW, NOW) == NOW
    east = datetime.fromisoformat("0001-01-01T00:00:00+14:00")
    assert usable_time(east, NOW) is None
