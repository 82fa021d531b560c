"""The bytes that a repository's tags need in the registry, each manifest and blob counted once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from dockhand_core.driver import RegistryDriver
from dockhand_core.flow import Flow, Progress
from dockhand_core.models import Digest
from dockhand_core.operations.retention.survey import Steps, Survey

__all__ = ["RepositoryUsage", "TagUsage", "repository_usage"]


@dataclass(frozen=True, slots=True)
class TagUsage:
    """The bytes that a tag needs.

    Attributes:
        tag: the tag.
        digest: the digest of its manifest or index.
        size: the bytes of all manifests and blobs that it needs.
        unique_size: the bytes that no other tag of the repository needs.
    """

    tag: str
    digest: Digest
    size: int
    unique_size: int

    @property
    def shared_size(self) -> int:
        """The bytes that other tags of the repository need, too."""
        return self.size - self.unique_size


@dataclass(frozen=True, slots=True)
class RepositoryUsage:
    """The bytes that the tags of a repository need.

    Attributes:
        size: the bytes of all manifests and blobs, each counted once.
        manifests: the number of manifests and indexes.
        blobs: the number of configs and layers.
        tags: the tags, in the registry's order.
        broken: the tags whose manifest does not exist.
    """

    size: int
    manifests: int
    blobs: int
    tags: tuple[TagUsage, ...]
    broken: tuple[str, ...]


def repository_usage(
    driver: RegistryDriver, repository: str, progress: Progress | None = None
) -> Flow[RepositoryUsage]:
    """Compute how many bytes the tags of a repository need, as their manifests state it.

    Each tag takes a HEAD request, and each manifest a GET request. Manifests without a tag are not
    counted, except those that an index lists: few registries list them. A blob that several
    repositories have is stored once by most registries.

    Args:
        driver: the registry driver.
        repository: the repository's name.
        progress: called with the number of finished steps and their total number.

    Raises:
        NameUnknown: the repository does not exist.
        ManifestInvalid: an index cannot be read.
    """
    survey = Survey(driver, repository)
    names = yield from survey.tags()
    steps = Steps(progress, 2 * len(names))
    heads = yield from survey.heads(names, steps)
    digests = {tag: head.digest for tag, head in heads.items() if head is not None}
    roots = set(digests.values())
    steps.total = len(names) + len(roots)

    def done(digest: Digest) -> None:
        if digest in roots:
            steps.add()

    yield from survey.read(roots, done)
    contents = {digest: survey.contents([digest]) for digest in roots}
    needed = Counter(part for digest in digests.values() for part in contents[digest])
    everything = {part: size for parts in contents.values() for part, size in parts.items()}
    tags = tuple(
        TagUsage(
            tag,
            digest,
            sum(contents[digest].values()),
            sum(size for part, size in contents[digest].items() if needed[part] == 1),
        )
        for tag, digest in digests.items()
        if survey.nodes[digest].exists
    )
    manifests = sum(1 for part in everything if part in survey.nodes)
    known = {tag.tag for tag in tags}
    return RepositoryUsage(
        size=sum(everything.values()),
        manifests=manifests,
        blobs=len(everything) - manifests,
        tags=tags,
        broken=tuple(name for name in names if name not in known),
    )
