"""Ping, API version, and lists of repositories and tags."""

from __future__ import annotations

from typing import Any

import pytest
from images import push_image

from dockhand_core import NameUnknown, PaginationNumberInvalid, RegistryClient


def test_ping(registry: RegistryClient) -> None:
    registry.ping()
    assert registry.is_online() is True


def test_api_version(registry: RegistryClient) -> None:
    version = registry.api_version()
    assert (version.major, version.minor) == (2, 0)
    assert str(version) == "registry/2.0"


def test_repositories(registry: RegistryClient, repository: str) -> None:
    names = [f"{repository}/{name}" for name in ("a", "b", "c")]
    for name in names:
        push_image(registry, name, "v1")
    assert set(names) <= set(registry.repositories())
    assert set(names) <= set(registry.repositories(page_size=1))


def test_repository_page(registry: RegistryClient, repository: str) -> None:
    for name in ("a", "b"):
        push_image(registry, f"{repository}/{name}", "v1")
    first = registry.repository_page(limit=1)
    assert len(first.items) == 1
    assert first.has_more
    second = registry.repository_page(limit=1, after=first.next)
    assert len(second.items) == 1
    assert second.items > first.items
    with pytest.raises(PaginationNumberInvalid):
        registry.repository_page(limit=0)


def test_tags(registry: RegistryClient, repository: str) -> None:
    manifest = push_image(registry, repository, "b")
    for tag in ("a", "c", "latest"):
        registry.put_manifest(repository, tag, manifest)
    assert sorted(registry.tags(repository)) == ["a", "b", "c", "latest"]
    assert sorted(registry.tags(repository, page_size=2)) == ["a", "b", "c", "latest"]


def test_tag_page(registry: RegistryClient, repository: str) -> None:
    """Pages are the same for every registry, even for Distribution 2.8, which has no pages."""
    manifest = push_image(registry, repository, "v3")
    for tag in ("v1", "v2"):
        registry.put_manifest(repository, tag, manifest)
    first = registry.tag_page(repository, limit=2)
    assert first.items == ("v1", "v2")
    assert first.has_more
    second = registry.tag_page(repository, limit=2, after=first.next)
    assert second.items == ("v3",)
    assert not second.has_more
    # After an exactly full page, a registry may announce another page, which is empty.
    whole = registry.tag_page(repository, limit=3)
    assert whole.items == ("v1", "v2", "v3")
    if whole.has_more:
        assert registry.tag_page(repository, limit=3, after=whole.next).items == ()


def test_tags_of_unknown_repository(registry: RegistryClient, repository: str) -> None:
    with pytest.raises(NameUnknown) as caught:
        list(registry.tags(repository))
    assert caught.value.status == 404
    assert caught.value.code == "NAME_UNKNOWN"
    assert repository in str(caught.value)


def test_tags_of_blobs_only(registry: RegistryClient, repository: str, target: Any) -> None:
    """A repository without tags has an empty list or is unknown, depending on the registry."""
    registry.upload_blob(repository, b"only a blob")
    try:
        assert list(registry.tags(repository)) == []
    except NameUnknown:
        assert not target.name.startswith("embedded")


def test_tags_after_deletion(registry: RegistryClient, repository: str, target: Any) -> None:
    """Distribution 2.8 sends `null` for an empty list of tags, which is read as an empty list."""
    manifest = push_image(registry, repository, "v1")
    registry.delete_manifest(repository, manifest.digest)
    assert list(registry.tags(repository)) == ([] if target.can.untags else ["v1"])
