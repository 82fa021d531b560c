"""Referrers of a manifest, by the API and by the fallback tag."""

from __future__ import annotations

from dockhand_core import Digest, ImageManifest, RegistryClient
from dockhand_core.models import media
from dockhand_testing.abilities import Abilities
from dockhand_testing.contracts.needs import needs
from dockhand_testing.contracts.samples import push_blob, push_image
from dockhand_testing.rules import rule

SIGNATURE = "application/vnd.example.signature"
SBOM = "application/vnd.example.sbom"

__all__ = ["ReferrerContract"]


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


class ReferrerContract:
    """Referrers of a manifest, by the API and by the fallback tag.

    The tests use the fixtures `registry`, `repository` and `abilities`.
    """

    @needs("referrers")
    @rule(
        "The referrers of a manifest are listed, all or those of one type.",
        why="signatures and SBOMs are found by it",
        where="RegistryClient.referrers",
    )
    def test_referrers(
        self, registry: RegistryClient, repository: str, abilities: Abilities
    ) -> None:
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
        assert registry.manifest_exists(repository, fallback) is not abilities.has_referrers

    @needs("referrers")
    @rule(
        "A referrer that is pushed twice is listed once.",
        why="verifiers would count it twice",
        where="RegistryClient.referrers",
    )
    def test_referrers_pushed_again(self, registry: RegistryClient, repository: str) -> None:
        image = push_image(registry, repository, "v1")
        attach(registry, repository, image, SIGNATURE)
        attach(registry, repository, image, SIGNATURE)
        assert len(registry.referrers(repository, image.digest).manifests) == 1

    @needs("referrers", "delete_manifest")
    @rule(
        "A deleted referrer is not listed.",
        why="verifiers would look for it",
        where="RegistryClient.referrers",
    )
    def test_referrers_after_deletion(self, registry: RegistryClient, repository: str) -> None:
        image = push_image(registry, repository, "v1")
        signature = attach(registry, repository, image, SIGNATURE)
        sbom = attach(registry, repository, image, SBOM)
        registry.delete_manifest(repository, signature.digest)
        left = registry.referrers(repository, image.digest).manifests
        assert [d.digest for d in left] == [sbom.digest]

    @needs("referrers")
    @rule(
        "A subject may be pushed after its referrers, or never.",
        why="copies push in any order",
        where="OCI Distribution Specification, Pushing Manifests with Subject",
    )
    def test_subject_that_is_not_there(self, registry: RegistryClient, repository: str) -> None:
        """A manifest's subject may be pushed later than the manifest, or never."""
        image = push_image(registry, repository, "v1")
        absent = image.model_copy(update={"annotations": {"never": "pushed"}})
        signature = attach(registry, repository, absent, SIGNATURE)
        assert [d.digest for d in registry.referrers(repository, absent.digest).manifests] == [
            signature.digest
        ]
        assert registry.referrers(repository, Digest.of(b"nothing")).manifests == ()
