"""Lists of `crane registry serve`, which sends no `Link`, and whose catalog ignores `last`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from registries import crane_registry

from dockhand_core import ImageIndex, NameUnknown, RegistryClient, connect

pytestmark = pytest.mark.live

TAGS = [f"v{n}" for n in range(1, 10)]
REPOSITORIES = ["a", "a/b", "b", "c/d", "e"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryClient]:
    """Fill a registry, and connect a client to it."""
    folder: Path = tmp_path_factory.mktemp("registry")
    with (
        crane_registry(folder) as url,
        connect(url, logging={"driver": "null"}) as found,
    ):
        for repository in REPOSITORIES:
            for tag in TAGS:
                found.put_manifest(repository, tag, ImageIndex())
        yield found


@pytest.mark.parametrize("size", [None, *range(1, 12)])
def test_lists(client: RegistryClient, size: int | None) -> None:
    assert list(client.tags("a/b", page_size=size)) == TAGS
    assert sorted(client.repositories(page_size=size)) == REPOSITORIES


@pytest.mark.parametrize("size", range(1, 12))
def test_pages(client: RegistryClient, size: int) -> None:
    tags: list[str] = []
    page = client.tag_page("a/b", limit=size)
    while True:
        tags += page.items
        assert page.has_more == (len(tags) < len(TAGS))
        if not page.has_more:
            break
        page = client.tag_page("a/b", limit=size, after=page.next)
    assert tags == TAGS
    repositories: list[str] = []
    page = client.repository_page(limit=size)
    while True:
        repositories += page.items
        assert page.has_more == (len(repositories) < len(REPOSITORIES))
        if not page.has_more:
            break
        page = client.repository_page(limit=size, after=page.next)
    assert sorted(repositories) == REPOSITORIES


def test_an_unknown_repository(client: RegistryClient) -> None:
    with pytest.raises(NameUnknown):
        list(client.tags("no/such"))
