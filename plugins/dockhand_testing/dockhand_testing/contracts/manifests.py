"""Manifests, indexes, image configurations and deletions."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from dockhand_core import (
    DigestInvalid,
    DigestMismatch,
    ImageIndex,
    ImageManifest,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NotFound,
    Platform,
    PlatformNotFound,
    RegistryClient,
    TagInvalid,
    Unsupported,
)
from dockhand_core.models import media
from dockhand_testing.abilities import Abilities
from dockhand_testing.contracts.needs import needs
from dockhand_testing.contracts.samples import push_image, push_index
from dockhand_testing.rules import rule

MISSING = "sha256:" + "0" * 64

__all__ = ["ManifestContract"]


class ManifestContract:
    """Manifests, indexes, image configurations and deletions.

    The tests use the fixtures `registry`, `repository` and `abilities`.
    """

    @rule(
        "A manifest is read by tag, digest and descriptor, with the bytes that were pushed.",
        why="its digest covers every byte",
        where="RegistryClient.manifest",
    )
    def test_manifest(self, registry: RegistryClient, repository: str) -> None:
        pushed = push_image(registry, repository, "v1")
        by_tag = registry.manifest(repository, "v1")
        by_digest = registry.manifest(repository, pushed.digest)
        by_descriptor = registry.manifest(repository, pushed.descriptor())
        assert isinstance(by_tag, ImageManifest)
        assert by_tag.raw == by_digest.raw == by_descriptor.raw == pushed.raw
        assert by_tag.digest == pushed.digest
        assert not by_tag.is_index
        assert by_tag.media_type == media.OCI_MANIFEST
        assert by_tag.annotations == {"made": "by a test"}
        assert by_tag.size == by_tag.config.size + by_tag.layers[0].size

    @rule(
        "Digest, size and media type are known without reading the manifest.",
        why="checks for new versions cost little",
        where="RegistryClient.manifest_head, manifest_exists",
    )
    def test_manifest_head(self, registry: RegistryClient, repository: str) -> None:
        pushed = push_image(registry, repository, "v1")
        head = registry.manifest_head(repository, "v1")
        assert head.digest == pushed.digest
        assert head.size == len(pushed.raw)
        assert head.media_type == media.OCI_MANIFEST
        assert registry.manifest_exists(repository, pushed.digest)
        assert not registry.manifest_exists(repository, "other")
        with pytest.raises(ManifestUnknown) as caught:
            registry.manifest_head(repository, "other")
        assert caught.value.status == 404

    @rule(
        "A missing manifest is ManifestUnknown, with the repository's name.",
        why="programs tell a missing tag from a failure by it",
        where="ManifestUnknown",
    )
    def test_manifest_unknown(self, registry: RegistryClient, repository: str) -> None:
        push_image(registry, repository, "v1")
        with pytest.raises(ManifestUnknown) as caught:
            registry.manifest(repository, "other")
        assert caught.value.code == "MANIFEST_UNKNOWN"
        assert caught.value.repository == repository
        with pytest.raises(ManifestUnknown):
            registry.manifest(repository, MISSING)
        with pytest.raises(NotFound):
            registry.manifest(f"{repository}/none", "v1")

    @rule(
        "An index is read as an index, and finds the manifest of a platform.",
        why="images for several platforms are pulled by it",
        where="RegistryClient.manifest, ImageIndex.find",
    )
    def test_index(self, registry: RegistryClient, repository: str) -> None:
        pushed = push_index(registry, repository, "v1")
        index = registry.manifest(repository, "v1")
        assert isinstance(index, ImageIndex)
        assert index.is_index
        assert index.raw == pushed.raw
        assert index.find(Platform(os="linux", architecture="arm64")) == pushed.manifests[1]
        with pytest.raises(PlatformNotFound, match=r"windows/amd64.*linux/amd64, linux/arm64/v8"):
            index.find("windows/amd64")

    @rule(
        "image() chooses the manifest of a platform.",
        why="the caller wants an image, not an index",
        where="RegistryClient.image",
    )
    def test_image(self, registry: RegistryClient, repository: str) -> None:
        index = push_index(registry, repository, "v1")
        image = registry.image(repository, "v1", platform="linux/arm64/v8")
        assert image.digest == index.manifests[1].digest
        assert registry.image(repository, "v1").digest == index.manifests[0].digest
        assert registry.image(repository, "amd64").digest == index.manifests[0].digest
        with pytest.raises(PlatformNotFound):
            registry.image(repository, "v1", platform="linux/s390x")

    @rule(
        "White space, the order of fields and unknown fields are kept.",
        why="the digest covers them",
        where="RegistryClient.put_manifest",
    )
    def test_put_bytes_unchanged(self, registry: RegistryClient, repository: str) -> None:
        """White space, the order of fields and unknown fields are kept: the digest covers them."""
        body = json.loads(push_image(registry, repository, "v1").raw)
        odd = json.dumps({"x-unknown": [1, None], **body}, indent=3).encode()
        result = registry.put_manifest(repository, "odd", odd)
        got = registry.manifest(repository, "odd")
        assert got.raw == odd
        assert got.digest == result.digest
        assert f"/v2/{repository}/manifests/" in result.location
        assert (got.model_extra or {})["x-unknown"] == [1, None]

    @rule(
        "A dict is pushed as a manifest, with the media type of its kind.",
        why="programs make manifests by hand",
        where="RegistryClient.put_manifest",
    )
    def test_put_dict(self, registry: RegistryClient, repository: str) -> None:
        body = json.loads(push_image(registry, repository, "v1").raw)
        del body["mediaType"]
        result = registry.put_manifest(repository, "v2", body)
        got = registry.manifest(repository, "v2")
        assert got.digest == result.digest
        assert got.media_type == media.OCI_MANIFEST

    @rule(
        "A manifest pushed by digest is that of the digest, else DigestMismatch.",
        why="a reference by digest must not lie",
        where="RegistryClient.put_manifest",
    )
    def test_put_by_digest(self, registry: RegistryClient, repository: str) -> None:
        manifest = push_image(registry, repository, "v1")
        other = manifest.model_copy(update={"annotations": {"another": "one"}})
        result = registry.put_manifest(repository, other.digest, other)
        assert result.digest == other.digest != manifest.digest
        assert registry.manifest(repository, other.digest).raw == other.raw
        with pytest.raises(DigestMismatch):
            registry.put_manifest(repository, manifest.digest, other)

    @rule(
        "Docker's manifests are pushed and read as they are.",
        why="most images have them",
        where="RegistryClient.put_manifest",
    )
    def test_put_docker(self, registry: RegistryClient, repository: str) -> None:
        manifest = push_image(registry, repository, "v1")
        docker = manifest.model_copy(
            update={
                "media_type": media.DOCKER_MANIFEST,
                "config": manifest.config.model_copy(update={"media_type": media.DOCKER_CONFIG}),
                "annotations": {},
            }
        )
        registry.put_manifest(repository, "docker", docker)
        got = registry.manifest(repository, "docker")
        assert (got.media_type, got.raw) == (media.DOCKER_MANIFEST, docker.raw)

    @rule(
        "The refusal of a manifest with a missing blob is a typed error that names the blob.",
        why="the caller must know what to push",
        where="RegistryClient.put_manifest, ManifestBlobUnknown",
    )
    def test_put_with_missing_blob(
        self, registry: RegistryClient, repository: str, abilities: Abilities
    ) -> None:
        manifest = push_image(registry, repository, "v1")
        layer = manifest.layers[0].model_copy(update={"digest": MISSING})
        broken = manifest.model_copy(update={"layers": (layer,)})
        if not abilities.checks_manifests:
            assert registry.put_manifest(repository, "broken", broken).digest == broken.digest
            assert registry.manifest_exists(repository, "broken")
            return
        if not abilities.names_missing_blobs:
            with pytest.raises(ManifestInvalid):
                registry.put_manifest(repository, "broken", broken)
            assert not registry.manifest_exists(repository, "broken")
            return
        with pytest.raises(NotFound) as caught:
            registry.put_manifest(repository, "broken", broken)
        assert isinstance(caught.value, ManifestBlobUnknown) or caught.value.code == "BLOB_UNKNOWN"
        assert caught.value.status in (400, 404)
        assert MISSING in str(caught.value.detail)
        assert not registry.manifest_exists(repository, "broken")

    @rule(
        "What is no manifest is ManifestInvalid.",
        why="the registry would keep it",
        where="RegistryClient.put_manifest",
    )
    def test_put_nonsense(self, registry: RegistryClient, repository: str) -> None:
        for nonsense in (b"{}", b"[1]", b"no json", b""):
            with pytest.raises(ManifestInvalid):
                registry.put_manifest(repository, "v1", nonsense)

    @rule(
        "Malformed names, tags and digests are refused before a URL is built.",
        why="a name such as ../etc would lead to another path",
        where="RegistryDriver",
    )
    def test_malformed_names(self, registry: RegistryClient, repository: str) -> None:
        """Malformed names, tags and digests are refused before a URL is built."""
        for name in ("UPPER", "a//b", "../etc", "a/../b", "a b", "", "a\n", "a" * 256, "a?x=1"):
            with pytest.raises(NameInvalid):
                registry.manifest(name, "v1")
        for tag in ("", ".v1", "a/b", "a b", "v1\n", "x" * 129, "v1?x"):
            with pytest.raises(TagInvalid):
                registry.manifest(repository, tag)
        for digest in ("sha256:abc", "sha256:" + "G" * 64, ":", "sha256:" + "a" * 64 + "/.."):
            with pytest.raises(DigestInvalid):
                registry.manifest(repository, digest)

    @rule(
        "The configuration of an image is read from its manifest or descriptor.",
        why="platform, labels and creation time are in it",
        where="RegistryClient.image_config",
    )
    def test_image_config(self, registry: RegistryClient, repository: str) -> None:
        manifest = push_image(registry, repository, "v1", architecture="arm64")
        config = registry.image_config(repository, manifest)
        assert config == registry.image_config(repository, manifest.config)
        assert str(config.platform) == "linux/arm64"
        assert config.created == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
        assert config.env == {"PATH": "/bin", "A": "b=c"}
        assert config.entrypoint == ["/run"]
        assert config.history is not None
        assert config.history[0].created_by == "test"

    @needs("delete_tag")
    @rule(
        "Only the tag is deleted. If the registry cannot do that: Unsupported; nothing changes.",
        why="a deleted manifest takes other tags along",
        where="RegistryClient.delete_tag",
    )
    def test_delete_tag(
        self, registry: RegistryClient, repository: str, abilities: Abilities
    ) -> None:
        manifest = push_image(registry, repository, "v1")
        registry.put_manifest(repository, "v2", manifest)
        if abilities.deletes_tags:
            registry.delete_tag(repository, "v1")
            assert list(registry.tags(repository)) == ["v2"]
            with pytest.raises(ManifestUnknown):
                registry.delete_tag(repository, "v1")
        else:
            with pytest.raises(Unsupported):
                registry.delete_tag(repository, "v1")
            assert sorted(registry.tags(repository)) == ["v1", "v2"]
        assert registry.manifest(repository, manifest.digest).raw == manifest.raw

    @needs("delete_manifest")
    @rule(
        "The manifest is deleted, with its tags where the registry does that, and others stay.",
        why="clean-ups must not take more",
        where="RegistryClient.delete_manifest",
    )
    def test_delete_manifest(
        self, registry: RegistryClient, repository: str, abilities: Abilities
    ) -> None:
        manifest = push_image(registry, repository, "v1")
        registry.put_manifest(repository, "v2", manifest)
        kept = push_image(registry, repository, "kept", architecture="arm64")
        registry.delete_manifest(repository, manifest.digest)
        assert not registry.manifest_exists(repository, manifest.digest)
        assert set(registry.tags(repository)) == {
            "kept",
            *(() if abilities.untags else ("v1", "v2")),
        }
        assert registry.manifest(repository, "kept").digest == kept.digest
        with pytest.raises(ManifestUnknown):
            registry.delete_manifest(repository, manifest.digest)
        with pytest.raises(DigestInvalid):
            registry.delete_manifest(repository, "kept:")
