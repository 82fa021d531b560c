"""The bytes that a repository's tags need, and the tree of a manifest's referrers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from artifacts import MODES, memory_registry
from dockhand_testing.contracts.samples import push_blob, push_image, push_index

from dockhand_core import Descriptor, Digest, ImageIndex, ImageManifest, NameUnknown, RegistryClient
from dockhand_core.flow import Flow
from dockhand_core.models import media
from dockhand_core.operations import ReferrerNode, referrer_tree, repository_usage


@pytest.fixture(params=MODES)
def registry(request: pytest.FixtureRequest) -> Iterator[RegistryClient]:
    """Provide a client of an empty registry, a sync one and an async one."""
    with memory_registry(request.param) as client:
        yield client


def test_equal_tags_share_everything(registry: RegistryClient) -> None:
    image = push_image(registry, "app", "v1")
    registry.copy("app", "v1", to_reference="latest")
    steps: list[tuple[int, int | None]] = []
    usage = registry.run(repository_usage(registry.driver, "app", lambda *step: steps.append(step)))
    whole = image.size + len(image.raw)
    assert (usage.size, usage.manifests, usage.blobs) == (whole, 1, 2)
    sizes = {tag.tag: (tag.size, tag.shared_size, tag.unique_size) for tag in usage.tags}
    assert sizes == {"v1": (whole, whole, 0), "latest": (whole, whole, 0)}
    assert [done for done, _ in steps] == [1, 2, 3]
    assert steps[-1] == (3, 3)


def test_a_child_that_does_not_exist_has_no_bytes(registry: RegistryClient) -> None:
    index = push_index(registry, "app", "v1")
    lost = registry.image("app", "v1", platform="linux/arm64")
    registry.delete_manifest("app", lost.digest)
    usage = registry.run(repository_usage(registry.driver, "app"))
    kept = registry.image("app", "v1", platform="linux/amd64")
    assert usage.manifests == 2
    assert usage.size == len(index.raw) + len(kept.raw) + kept.size
    with pytest.raises(NameUnknown):
        registry.run(repository_usage(registry.driver, "nothing"))


def attach(registry: RegistryClient, subject: Descriptor, kind: str) -> ImageManifest:
    """Push a referrer of a type, and return it."""
    empty = push_blob(registry, "app", b"{}", media.OCI_EMPTY)
    referrer = ImageManifest(config=empty, artifact_type=kind, subject=subject)
    registry.put_manifest("app", referrer.digest, referrer)
    return referrer


def kinds(nodes: list[ReferrerNode]) -> dict[str, object]:
    """The tree as nested dictionaries by the artifact type, or by cosign's tag."""
    return {
        node.tag or node.descriptor.artifact_type or "": kinds(node.referrers) for node in nodes
    }


def test_referrers_of_referrers(registry: RegistryClient) -> None:
    image = push_image(registry, "app", "v1")
    sbom = attach(registry, image.descriptor(), "a/sbom")
    signature = attach(registry, sbom.descriptor(), "a/signature")
    attach(registry, signature.descriptor(), "a/note")
    attach(registry, image.descriptor(), "a/note")
    cosign = f"sha256-{image.digest.encoded}.att"
    push_image(registry, "app", cosign, architecture="arm64")
    whole = registry.run(referrer_tree(registry.driver, "app", image.digest))
    assert kinds(whole) == {"a/sbom": {"a/signature": {"a/note": {}}}, "a/note": {}, cosign: {}}
    notes = registry.run(referrer_tree(registry.driver, "app", image.digest, "a/note"))
    assert kinds(notes) == {"a/note": {}}
    assert registry.run(referrer_tree(registry.driver, "app", Digest.of(b"other"))) == []


def test_each_referrer_is_listed_once(registry: RegistryClient) -> None:
    """An index that a fallback tag holds may list what it likes, such as its own subject."""
    image = push_image(registry, "app", "v1")
    sbom = attach(registry, image.descriptor(), "a/sbom")
    listed = ImageIndex(manifests=(sbom.descriptor(), sbom.descriptor(), image.descriptor()))

    class Lying(type(registry.driver)):  # type: ignore[misc]
        def referrers(self, *_: object, **__: object) -> Flow[ImageIndex]:
            return listed
            yield

    found = registry.run(referrer_tree(Lying(registry.driver.settings), "app", image.digest))
    assert [node.descriptor.digest for node in found] == [sbom.digest]
