"""Referrers of a manifest, by the API and by the fallback tag."""

from __future__ import annotations

from typing import Any

from images import push_blob, push_image

from dockhand_core import Digest, ImageManifest, RegistryClient
from dockhand_core.models import media

SIGNATURE = "application/vnd.example.signature"
SBOM = "application/vnd.example.sbom"


def attach(
    registry: RegistryClient, repository: str, subject: ImageManifest, kind: str
) -> ImageManifest:
    """Push an artifact of the type `kind` that refers to `subject`, and return its manifest."""
    config = push_blob(registry, repository, b"{}", media.OCI_EMPTY)
    artifact = ImageManifest(
        artifact_type=kind,
        config=config,
        layers=(config,),
        subject=subject.descriptor(),
        annotations={"kind": kind},
    )
    registry.put_manifest(repository, artifact.digest, artifact)
    return artifact


def test_referrers(registry: RegistryClient, repository: str, target: Any) -> None:
    image = push_image(registry, repository, "v1")
    assert registry.referrers(repository, image.digest).manifests == ()
    signature = attach(registry, repository, image, SIGNATURE)
    sbom = attach(registry, repository, image, SBOM)
    found = registry.referrers(repository, image.digest)
    assert found.is_index
    assert {d.digest for d in found.manifests} == {signature.digest, sbom.digest}
    only = registry.referrers(repository, image.digest, artifact_type=SBOM).manifests
    assert [(d.digest, d.artifact_type, d.annotations) for d in only] == [
        (sbom.digest, SBOM, {"kind": SBOM})
    ]
    assert only[0].size == len(sbom.raw)
    fallback = image.digest.replace(":", "-")
    assert registry.manifest_exists(repository, fallback) is not target.can.has_referrers


def test_referrers_pushed_again(registry: RegistryClient, repository: str) -> None:
    image = push_image(registry, repository, "v1")
    attach(registry, repository, image, SIGNATURE)
    attach(registry, repository, image, SIGNATURE)
    assert len(registry.referrers(repository, image.digest).manifests) == 1


def test_referrers_after_deletion(registry: RegistryClient, repository: str) -> None:
    image = push_image(registry, repository, "v1")
    signature = attach(registry, repository, image, SIGNATURE)
    sbom = attach(registry, repository, image, SBOM)
    registry.delete_manifest(repository, signature.digest)
    left = registry.referrers(repository, image.digest).manifests
    assert [d.digest for d in left] == [sbom.digest]


def test_subject_that_is_not_there(registry: RegistryClient, repository: str) -> None:
    """A manifest's subject may be pushed later than the manifest, or never."""
    image = push_image(registry, repository, "v1")
    absent = image.model_copy(update={"annotations": {"never": "pushed"}})
    signature = attach(registry, repository, absent, SIGNATURE)
    assert [d.digest for d in registry.referrers(repository, absent.digest).manifests] == [
        signature.digest
    ]
    assert registry.referrers(repository, Digest.of(b"nothing")).manifests == ()
