"""The list of all manifests of a repository, tagged or not, in pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from dated_images import REPOSITORY, put_image, put_index
from registries import embedded

from dockhand_core import NameInvalid, NameUnknown, RegistryClient, Unsupported, connect


def digests(registry: RegistryClient, size: int | None = None) -> list[str]:
    return list(
        registry.walk(
            lambda after: registry.driver.manifest_page(REPOSITORY, limit=size, after=after)
        )
    )


@pytest.mark.parametrize("place", ["memory", "folder"])
def test_all_manifests_are_listed_in_order(place: str, tmp_path: Path) -> None:
    root = ":memory:" if place == "memory" else str(tmp_path)
    with connect("", driver="embedded", root=root) as registry:
        images = [put_image(registry, days=1, name=f"p{n}") for n in range(3)]
        index = put_index(registry, "v1", of=images)
        put_image(registry, "v2", days=1)
        found = digests(registry)
        assert found == sorted(found)
        assert {*(image.digest for image in images), index.digest} < set(found)
        assert len(found) == 5
        assert digests(registry, 2) == digests(registry, 1) == digests(registry, 5) == found
        page = registry.run(registry.driver.manifest_page(REPOSITORY, limit=2, after=found[1]))
        assert list(page.items) == found[2:4]
        registry.delete_manifest(REPOSITORY, index.digest)
        assert digests(registry) == [each for each in found if each != index.digest]


def test_the_list_of_an_unknown_repository_is_an_error() -> None:
    with connect("", driver="embedded", root=":memory:") as registry:
        with pytest.raises(NameUnknown):
            digests(registry)
        with pytest.raises(NameInvalid):
            registry.run(registry.driver.manifest_page("No", limit=None, after=None))


def test_the_list_is_only_asked_by_the_embedded_driver(tmp_path: Path) -> None:
    with embedded(tmp_path) as url, connect(url) as registry, pytest.raises(Unsupported):
        registry.run(registry.driver.manifest_page("a/b", limit=None, after=None))
