"""The search for the referrers to copy, which include the manifests of cosign's tags.

Follows: OCI Distribution Specification 1.1, "Listing Referrers".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ManifestInvalid, NameUnknown, NotFound
from dockhand_core.flow import Flow, parallel
from dockhand_core.models import Descriptor, Digest
from dockhand_core.operations.image_tree import ImageTree, walk_tree
from dockhand_core.operations.page_cursor import all_tags
from dockhand_core.operations.tag_patterns import signature_prefix

__all__ = ["FoundReferrers", "Referrer", "ReferrerSearch"]

LIMIT = 10_000  # referrers of one image that are copied at most
_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Referrer:
    """A referrer of a manifest.

    Attributes:
        descriptor: its descriptor.
        tag: the tag of cosign that names it; None if it is listed as a referrer.
    """

    descriptor: Descriptor
    tag: str | None = None

    def named(self) -> Descriptor:
        """The descriptor, with the tag as the annotation `org.opencontainers.image.ref.name`."""
        if self.tag is None:
            return self.descriptor
        return self.descriptor.model_copy(update={"annotations": {_NAME: self.tag}})


@dataclass
class FoundReferrers:
    """The referrers of some manifests, and the referrers of these, and so on.

    Attributes:
        trees: the tag, or None for a referrer without one, and the manifest with those below it.
        missing: referrers that are listed, but do not exist.
    """

    trees: list[tuple[str | None, ImageTree]] = field(default_factory=list)
    missing: list[Descriptor] = field(default_factory=list)


class ReferrerSearch:
    """The search for the referrers of manifests in a repository.

    Args:
        driver: the registry driver.
        repository: the repository's name.
        limit: number of requests at a time.
    """

    def __init__(self, driver: RegistryDriver, repository: str, limit: int) -> None:
        self._driver, self._repository, self._limit = driver, repository, limit
        self._tags: dict[str, list[str]] | None = None

    def below(self, digests: Sequence[Digest]) -> Flow[FoundReferrers]:
        """Find the referrers of some manifests, and the referrers of these, and so on."""
        found = FoundReferrers()
        seen: set[Digest] = set(digests)
        level = list(digests)
        while level:
            referrers = yield from self.direct(level)
            if len(found.trees) + len(referrers) > LIMIT:
                raise ManifestInvalid(
                    f"repository {self._repository}: more than {LIMIT} referrers of one image"
                )
            trees = yield from parallel((self._tree(each) for each in referrers), limit=self._limit)
            level = []
            for referrer, tree in zip(referrers, trees, strict=True):
                if tree is None:
                    found.missing.append(referrer.named())
                    continue
                found.trees.append((referrer.tag, tree))
                fresh = [d.digest for d in tree.documents() if d.digest not in seen]
                seen.update(fresh)
                level += fresh
        return found

    def direct(self, digests: Sequence[Digest]) -> Flow[list[Referrer]]:
        """List the referrers of some manifests, each once."""
        if not digests:
            return []
        tags = yield from self._signature_tags()
        names = [tag for digest in digests for tag in tags.get(signature_prefix(digest), ())]
        indexes = yield from parallel(
            (
                self._driver.referrers(self._repository, digest, artifact_type=None)
                for digest in digests
            ),
            limit=self._limit,
        )
        tagged = yield from parallel((self._tagged(tag) for tag in names), limit=self._limit)
        found = {d.digest: Referrer(d) for index in indexes for d in index.manifests}
        return [*found.values(), *(referrer for referrer in tagged if referrer is not None)]

    def _tree(self, referrer: Referrer) -> Flow[ImageTree | None]:
        driver, repository = self._driver, self._repository
        try:
            root = yield from driver.manifest(repository, referrer.tag or referrer.descriptor)
            return (yield from walk_tree(driver, repository, root, limit=self._limit))
        except NotFound:
            return None

    def _tagged(self, tag: str) -> Flow[Referrer | None]:
        try:
            head = yield from self._driver.manifest_head(self._repository, tag)
        except NotFound:
            return None
        found = Descriptor(media_type=head.media_type, digest=head.digest, size=head.size)
        return Referrer(found, tag)

    def _signature_tags(self) -> Flow[dict[str, list[str]]]:
        """The tags with a suffix such as `.sig`, by the part before it; listed once."""
        if self._tags is None:
            found: dict[str, list[str]] = {}
            try:
                tags = yield from all_tags(self._driver, self._repository)
            except NameUnknown:
                tags = []
            for tag in tags:
                prefix, dot, _ = tag.partition(".")
                if dot:
                    found.setdefault(prefix, []).append(tag)
            self._tags = found
        return self._tags
