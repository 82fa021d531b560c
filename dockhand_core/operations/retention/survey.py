"""The tags and manifests of a repository, which retention reads, each manifest and config once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from datetime import datetime

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import (
    ManifestInvalid,
    NameUnknown,
    NotFound,
    RegistryError,
    SizeInvalid,
    Unsupported,
)
from dockhand_core.flow import Flow, Progress, parallel
from dockhand_core.models import (
    Descriptor,
    Digest,
    ImageIndex,
    ManifestHead,
    check_repository,
    media,
)
from dockhand_core.operations.ages import CREATED, built_at, newest_build, usable_time
from dockhand_core.operations.page_cursor import all_tags

__all__ = ["Node", "Steps", "Survey"]

WORKERS = 16  # requests at a time


@dataclass(slots=True)
class Node:
    """The properties of a manifest that retention needs; far smaller than the manifest.

    Attributes:
        digest: the digest.
        children: the manifests that an index lists.
        subject: the subject's digest, or None.
        blobs: the sizes of the config and the layers, by digest.
        size: size of the manifest itself in bytes.
        config: the descriptor of the config; None for an index.
        annotated: the annotation `org.opencontainers.image.created`.
        exists: False if the registry does not have the manifest.
    """

    digest: Digest
    children: tuple[Digest, ...] = ()
    subject: Digest | None = None
    blobs: Mapping[Digest, int] = field(default_factory=dict)
    size: int = 0
    config: Descriptor | None = None
    annotated: Mapping[str, str] = field(default_factory=dict)
    exists: bool = True


class Steps:
    """A count of steps for a progress function, which may be called from several threads."""

    def __init__(self, progress: Progress | None, total: int | None = None) -> None:
        self._progress, self.total = progress, total
        self._done = 0
        self._lock = threading.Lock()

    def add(self, count: int = 1) -> None:
        """Count steps, and call the progress function; the count never falls."""
        with self._lock:
            self._done += count
            if self._progress is not None:
                self._progress(self._done, self.total)


class Survey:
    """The tags and manifests of a repository, as far as they were read.

    Args:
        driver: the registry driver.
        repository: the repository's name.

    Attributes:
        nodes: the manifests that were read, by digest.
    """

    def __init__(self, driver: RegistryDriver, repository: str) -> None:
        self.driver, self.repository = driver, check_repository(repository)
        self.nodes: dict[Digest, Node] = {}
        self._configs: dict[Digest, datetime | None] = {}

    # -- tags ------------------------------------------------------------------------------

    def tags(self) -> Flow[list[str]]:
        """List all tags of the repository."""
        return (yield from all_tags(self.driver, self.repository))

    def heads(
        self, tags: Iterable[str], steps: Steps | None = None
    ) -> Flow[dict[str, ManifestHead | None]]:
        """Fetch the heads of tags, with one request each; None for a tag without a manifest."""

        def head(tag: str) -> Flow[ManifestHead | None]:
            try:
                found: ManifestHead | None
                found = yield from self.driver.manifest_head(self.repository, tag)
            except NotFound:
                found = None
            if steps is not None:
                steps.add()
            return found

        names = list(tags)
        heads = yield from parallel((head(tag) for tag in names), limit=_workers(names))
        return dict(zip(names, heads, strict=True))

    # -- manifests -------------------------------------------------------------------------

    def read(
        self, digests: Iterable[Digest], done: Callable[[Digest], None] | None = None
    ) -> Flow[None]:
        """Read manifests and, of indexes, all that they list, with one request each.

        Args:
            digests: the digests of the manifests.
            done: called with each digest of a manifest that was read.
        """

        def read(digest: Digest) -> Flow[Node]:
            node = yield from self._read(digest)
            if done is not None:
                done(digest)
            return node

        wanted = {digest: None for digest in digests if digest not in self.nodes}
        while wanted:
            found = yield from parallel((read(digest) for digest in wanted), limit=_workers(wanted))
            self.nodes.update(zip(wanted, found, strict=True))
            wanted = {
                child: None for node in found for child in node.children if child not in self.nodes
            }

    def _read(self, digest: Digest) -> Flow[Node]:
        try:
            document = yield from self.driver.manifest(self.repository, digest)
        except NotFound:
            return Node(digest, exists=False)  # an index may list what was never pushed
        except (ManifestInvalid, SizeInvalid) as error:
            return (yield from self._read_unknown(digest, error))
        subject = document.subject.digest if document.subject else None
        annotated = {k: v for k, v in document.annotations.items() if k == CREATED}
        size = len(document.raw)
        if isinstance(document, ImageIndex):
            children = tuple(dict.fromkeys(entry.digest for entry in document.manifests))
            return Node(digest, children, subject, {}, size, None, annotated)
        blobs = {blob.digest: blob.size for blob in (document.config, *document.layers)}
        return Node(digest, (), subject, blobs, size, document.config, annotated)

    def _read_unknown(self, digest: Digest, error: RegistryError) -> Flow[Node]:
        """A manifest of a kind that has no children, such as Docker's first; it stays.

        Raises:
            ManifestInvalid: it is an index, so it is not known which manifests it needs.
        """
        head = yield from self.driver.manifest_head(self.repository, digest)
        if head.media_type in media.INDEXES:
            raise error.with_hint(
                "this index cannot be read, so the manifests that it needs are not known"
            ) from error
        return Node(digest, size=head.size)

    def referrers(self, digests: Sequence[Digest]) -> Flow[dict[Digest, tuple[Digest, ...]]]:
        """Fetch the digests of the referrers of manifests, with one or more requests each."""

        def ask(digest: Digest) -> Flow[tuple[Digest, ...]]:
            try:
                index = yield from self.driver.referrers(
                    self.repository, digest, artifact_type=None
                )
            except (NameUnknown, Unsupported):
                return ()
            return tuple(dict.fromkeys(entry.digest for entry in index.manifests))

        found = yield from parallel((ask(digest) for digest in digests), limit=_workers(digests))
        return dict(zip(digests, found, strict=True))

    # -- ages and sizes --------------------------------------------------------------------

    def read_configs(self, digests: Iterable[Digest]) -> Flow[None]:
        """Read the configs of images, and of all images of indexes, each config once."""
        nodes = [self.nodes[digest] for digest in self.below(digests)]
        wanted = {
            node.config.digest: node.config
            for node in nodes
            if node.config is not None and node.config.digest not in self._configs
        }
        times = yield from parallel(
            (built_at(self.driver, self.repository, config, {}) for config in wanted.values()),
            limit=_workers(wanted),
        )
        self._configs.update(zip(wanted, times, strict=True))

    def below(self, digests: Iterable[Digest]) -> list[Digest]:
        """The manifests that were read among some digests, and all manifests that they list."""
        found: dict[Digest, None] = {}
        waiting = list(digests)
        while waiting:
            digest = waiting.pop()
            if digest not in found and digest in self.nodes:
                found[digest] = None
                waiting += self.nodes[digest].children
        return list(found)

    def created(self, digest: Digest, now: datetime) -> datetime | None:
        """The usable time of the build of a manifest; `read_configs` has read its configs."""
        return usable_time(self._built(digest, {}), now)

    def _built(self, digest: Digest, known: dict[Digest, datetime | None]) -> datetime | None:
        """The time of the build, found without recursion: an index may be nested deeply."""
        waiting = [digest]
        while waiting:
            node = self.nodes[waiting[-1]]
            pending = [child for child in node.children if child not in known]
            if pending:
                waiting += pending
                continue
            waiting.pop()
            if node.config is not None:
                own = self._configs.get(node.config.digest)
                known[node.digest] = newest_build(node.annotated, [own])
            else:
                known[node.digest] = newest_build(node.annotated, [known[c] for c in node.children])
        return known[digest]

    def size(self, digest: Digest) -> int:
        """The bytes of a manifest and of all that it needs, each blob once."""
        return sum(self.contents([digest]).values())

    def contents(self, digests: Iterable[Digest], *, whole: bool = True) -> dict[Digest, int]:
        """The sizes of manifests and blobs by digest; if `whole`, also of listed manifests."""
        found: dict[Digest, int] = {}
        for digest in self.below(digests) if whole else digests:
            node = self.nodes[digest]
            if node.exists:
                found[digest] = node.size
                found.update(node.blobs)
        return found


def _workers(items: Sized) -> int:
    return min(WORKERS, max(1, len(items)))
