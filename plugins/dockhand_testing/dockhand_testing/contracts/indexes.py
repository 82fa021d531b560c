"""Indexes that are made of images in a repository."""

from __future__ import annotations

import pytest

from dockhand_core import (
    Descriptor,
    ImageIndex,
    ImageManifest,
    ManifestUnknown,
    Platform,
    RegistryClient,
)
from dockhand_core.models import media
from dockhand_testing.contracts.samples import config_of, push_blob, push_image, push_index
from dockhand_testing.rules import rule

__all__ = ["IndexContract"]


class IndexContract:
    """Indexes that are made of images in a repository.

    The tests use the fixtures `registry`, `repository` and `abilities`.
    """

    @rule(
        "An index is made of tags, digests and descriptors, with their configurations' platforms.",
        why="images of several builders become one",
        where="RegistryClient.put_index",
    )
    def test_put_index(self, registry: RegistryClient, repository: str) -> None:
        """Platforms come from the configs; a tag, a digest and a descriptor can be sources."""
        amd64 = push_image(registry, repository, "v1-amd64")
        arm64 = push_image(registry, repository, "v1-arm64", architecture="arm64")
        arm = push_image(registry, repository, "v1-arm", architecture="arm")
        stated = arm.descriptor().model_copy(
            update={"platform": Platform("linux", "arm", "v6"), "annotations": {"a": "b"}}
        )
        result = registry.put_index(
            repository, "v1", ["v1-amd64", arm64.digest, stated, "v1-amd64"], annotations={"c": "d"}
        )
        index = registry.manifest(repository, "v1")
        assert isinstance(index, ImageIndex)
        assert (index.digest, index.media_type) == (result.digest, media.OCI_INDEX)
        assert index.annotations == {"c": "d"}
        assert [entry.digest for entry in index.manifests] == [
            amd64.digest,
            arm64.digest,
            arm.digest,
        ]
        assert [str(entry.platform) for entry in index.manifests] == [
            "linux/amd64",
            "linux/arm64",
            "linux/arm/v6",
        ]
        assert index.manifests[2] == stated
        assert registry.image(repository, "v1", platform="linux/arm64") == arm64

    @rule(
        "The entries of an index keep their platforms, and its attestations come along.",
        why="an index in an index cannot be pulled",
        where="RegistryClient.put_index",
    )
    def test_put_index_flattens_indexes(self, registry: RegistryClient, repository: str) -> None:
        """The entries of an index keep their platforms; its attestations come along."""
        inner = push_index(registry, repository, "inner")
        config = push_blob(registry, repository, config_of("unknown"), media.OCI_CONFIG)
        statement = push_blob(registry, repository, b"{}", "application/vnd.in-toto+json")
        attestation = ImageManifest(config=config, layers=(statement,))
        registry.put_manifest(repository, "attestation", attestation)
        attached = attestation.descriptor().model_copy(
            update={
                "platform": Platform("unknown", "unknown"),
                "annotations": {
                    "vnd.docker.reference.digest": inner.manifests[0].digest,
                    "vnd.docker.reference.type": "attestation-manifest",
                },
            }
        )
        registry.put_manifest(
            repository, "attested", ImageIndex(manifests=(*inner.manifests, attached))
        )
        other = push_image(registry, repository, "other", architecture="s390x")
        registry.put_index(repository, "v1", ["attested", "other", "inner", other.descriptor()])
        index = registry.manifest(repository, "v1")
        assert isinstance(index, ImageIndex)
        assert index.manifests[:3] == (*inner.manifests, attached)
        assert [entry.digest for entry in index.manifests[3:]] == [other.digest]
        assert str(index.manifests[3].platform) == "linux/s390x"

    @rule(
        "A missing source is named, and nothing is pushed.",
        why="half an index would be pulled",
        where="RegistryClient.put_index",
    )
    def test_put_index_without_a_source(self, registry: RegistryClient, repository: str) -> None:
        """A source that is missing is named, and nothing is pushed."""
        image = push_image(registry, repository, "amd64")
        missing = Descriptor(media_type=media.OCI_MANIFEST, digest=f"sha256:{'ab' * 32}", size=100)
        for source in ("missing", missing):
            named = source if isinstance(source, str) else source.digest
            with pytest.raises(
                ManifestUnknown, match=f"push {named} to repository {repository} first"
            ):
                registry.put_index(repository, "v1", ["amd64", source])
        assert not registry.manifest_exists(repository, "v1")
        assert registry.manifest(repository, "amd64") == image
