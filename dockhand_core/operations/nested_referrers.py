"""The referrers of a manifest, and the referrers of these, and so on.

Follows: OCI Distribution Specification 1.1, "Listing Referrers".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ManifestInvalid, NameUnknown, NotFound, Unsupported
from dockhand_core.flow import Flow, parallel
from dockhand_core.models import Descriptor, Digest
from dockhand_core.operations.tag_patterns import signature_prefix

__all__ = ["ReferrerNode", "referrer_tree"]

DEPTH = 32  # levels of referrers
LIMIT = 10_000  # referrers
WORKERS = 8  # requests at a time
_SUFFIXES = (".sig", ".att", ".sbom")  # of the tags of cosign


@dataclass(slots=True)
class ReferrerNode:
    """A referrer.

    Attributes:
        descriptor: the referrer's descriptor.
        tag: the tag of cosign by which it was found; None if the registry lists it as a referrer.
        referrers: the referrers of this referrer.
    """

    descriptor: Descriptor
    tag: str | None = None
    referrers: list[ReferrerNode] = field(default_factory=list)


def referrer_tree(
    driver: RegistryDriver, repository: str, digest: Digest, artifact_type: str | None = None
) -> Flow[list[ReferrerNode]]:
    """List the referrers of a manifest, and those of each referrer, each referrer once.

    The signatures, attestations and SBOMs that cosign attaches by tags such as `sha256-….sig` are
    listed, too, unless a type is given.

    Args:
        driver: the registry driver.
        repository: the repository's name.
        digest: the manifest's digest.
        artifact_type: list only referrers of this type; None for all.

    Raises:
        ManifestInvalid: there are more than 10,000 referrers, or more than 32 levels of them.
    """
    root = ReferrerNode(Descriptor(media_type="", digest=digest, size=0))
    seen = {digest}
    level = [root]
    for _ in range(DEPTH):
        found = yield from parallel(
            (_listed(driver, repository, node.descriptor.digest, artifact_type) for node in level),
            limit=WORKERS,
        )
        if level == [root] and artifact_type is None:
            tags = [signature_prefix(digest) + suffix for suffix in _SUFFIXES]
            tagged = yield from parallel(
                (_tagged(driver, repository, tag) for tag in tags), limit=WORKERS
            )
            found = [[*found[0], *(node for node in tagged if node is not None)]]
        below = []
        for parent, nodes in zip(level, found, strict=True):
            for node in nodes:
                if node.descriptor.digest not in seen:
                    seen.add(node.descriptor.digest)
                    parent.referrers.append(node)
                    below.append(node)
        if not below:
            return root.referrers
        if len(seen) > LIMIT:
            raise ManifestInvalid(
                f"repository {repository}: more than {LIMIT} referrers of {digest}"
            )
        level = below
    raise ManifestInvalid(
        f"repository {repository}: referrers of {digest}, more than {DEPTH} levels deep"
    )


def _listed(
    driver: RegistryDriver, repository: str, digest: Digest, artifact_type: str | None
) -> Flow[list[ReferrerNode]]:
    try:
        index = yield from driver.referrers(repository, digest, artifact_type=artifact_type)
    except (NameUnknown, Unsupported):
        return []
    return [ReferrerNode(descriptor) for descriptor in index.manifests]


def _tagged(driver: RegistryDriver, repository: str, tag: str) -> Flow[ReferrerNode | None]:
    try:
        head = yield from driver.manifest_head(repository, tag)
    except NotFound:
        return None
    found = Descriptor(media_type=head.media_type, digest=head.digest, size=head.size)
    return ReferrerNode(found, tag)
