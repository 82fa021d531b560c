"""Ping, API version, and lists of repositories and tags."""

from __future__ import annotations

import pytest

from dockhand_core import NameUnknown, PaginationNumberInvalid, RegistryClient
from dockhand_testing.abilities import Abilities
from dockhand_testing.contracts.needs import needs
from dockhand_testing.contracts.samples import push_image
from dockhand_testing.rules import rule

__all__ = ["ListContract"]


class ListContract:
    """Ping, API version, and lists of repositories and tags.

    The tests use the fixtures `registry`, `repository` and `abilities`.
    """

    @rule(
        "A registry that lets the connection in answers ping().",
        why="health checks use it",
        where="RegistryClient.ping, is_online",
    )
    def test_ping(self, registry: RegistryClient) -> None:
        registry.ping()
        assert registry.is_online() is True

    @rule(
        "The version of the API is 2.0.",
        why="other versions have other operations",
        where="RegistryClient.api_version",
    )
    def test_api_version(self, registry: RegistryClient) -> None:
        version = registry.api_version()
        assert (version.major, version.minor) == (2, 0)
        assert str(version) == "registry/2.0"

    @needs("repository_page")
    @rule(
        "All repositories are listed, whatever the size of a page.",
        why="a catalog that is cut hides repositories",
        where="RegistryClient.repositories",
    )
    def test_repositories(self, registry: RegistryClient, repository: str) -> None:
        names = [f"{repository}/{name}" for name in ("a", "b", "c")]
        for name in names:
            push_image(registry, name, "v1")
        assert set(names) <= set(registry.repositories())
        assert set(names) <= set(registry.repositories(page_size=1))

    @needs("repository_page")
    @rule(
        "A page has at most `limit` names, and the next begins after it.",
        why="user interfaces show pages",
        where="RegistryClient.repository_page",
    )
    def test_repository_page(self, registry: RegistryClient, repository: str) -> None:
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

    @needs("tag_page")
    @rule(
        "All tags are listed, whatever the size of a page.",
        why="a list that is cut hides tags",
        where="RegistryClient.tags",
    )
    def test_tags(self, registry: RegistryClient, repository: str) -> None:
        manifest = push_image(registry, repository, "b")
        for tag in ("a", "c", "latest"):
            registry.put_manifest(repository, tag, manifest)
        assert sorted(registry.tags(repository)) == ["a", "b", "c", "latest"]
        assert sorted(registry.tags(repository, page_size=2)) == ["a", "b", "c", "latest"]

    @needs("tag_page")
    @rule(
        "A page has at most `limit` tags, in order, and the next begins after it.",
        why="pages are the same for every registry",
        where="RegistryClient.tag_page",
    )
    def test_tag_page(self, registry: RegistryClient, repository: str) -> None:
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

    @needs("tag_page")
    @rule(
        "The tags of an unknown repository are NameUnknown, which names it.",
        why="an empty list would hide a wrong name",
        where="RegistryClient.tags, NameUnknown",
    )
    def test_tags_of_unknown_repository(self, registry: RegistryClient, repository: str) -> None:
        with pytest.raises(NameUnknown) as caught:
            list(registry.tags(repository))
        assert caught.value.status == 404
        assert caught.value.code == "NAME_UNKNOWN"
        assert repository in str(caught.value)

    @needs("tag_page")
    @rule(
        "A repository without tags has an empty list or is unknown.",
        why="registries differ; other errors are failures",
        where="RegistryClient.tags",
    )
    def test_tags_of_blobs_only(self, registry: RegistryClient, repository: str) -> None:
        """A repository without tags has an empty list or is unknown, depending on the registry."""
        registry.upload_blob(repository, b"only a blob")
        try:
            assert list(registry.tags(repository)) == []
        except NameUnknown as error:
            assert error.status == 404

    @needs("tag_page", "delete_manifest")
    @rule(
        "An empty list of tags is an empty list, however the registry writes it.",
        why="some registries send null",
        where="RegistryClient.tags",
    )
    def test_tags_after_deletion(
        self, registry: RegistryClient, repository: str, abilities: Abilities
    ) -> None:
        """Distribution 2.8 sends `null`."""
        manifest = push_image(registry, repository, "v1")
        registry.delete_manifest(repository, manifest.digest)
        assert list(registry.tags(repository)) == ([] if abilities.untags else ["v1"])
