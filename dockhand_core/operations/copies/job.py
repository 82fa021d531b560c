"""The copy of one image or index: its manifests, the order of their pushes, and its result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dockhand_core.errors import (
    DigestInvalid,
    DockhandError,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NotFound,
    RegistryError,
    Unsupported,
)
from dockhand_core.flow import Flow, Progress
from dockhand_core.models import (
    BlobState,
    CopyResult,
    Descriptor,
    Digest,
    ImageIndex,
    ImageManifest,
    Platform,
    check_digest,
    media,
)
from dockhand_core.operations.copies.blob_transfer import (
    BlobTransfer,
    Outcome,
    Route,
    is_distributable,
)
from dockhand_core.operations.copies.conversion import to_oci
from dockhand_core.operations.copies.referrers import ReferrerSearch
from dockhand_core.operations.copies.task_pool import Shared, TaskPool
from dockhand_core.operations.image_tree import ImageTree, select_platforms, walk_tree
from dockhand_core.operations.images import image
from dockhand_core.operations.transfers import BlobFunction, TransferProgress

__all__ = ["CopyJob", "CopyOptions", "CopyRun"]

_UNSETTLED = (DigestInvalid, ManifestBlobUnknown, ManifestUnknown)
_STATES: dict[Outcome, BlobState] = {
    Outcome.SKIPPED: "skipped",
    Outcome.MOUNTED: "mounted",
    Outcome.COPIED: "copied",
    Outcome.LEFT_OUT: "skipped",
}
_DOCKER_TYPES = frozenset({media.DOCKER_LIST, media.DOCKER_MANIFEST})


@dataclass(frozen=True)
class CopyOptions:
    """The options that all copies of a run have in common.

    Attributes:
        platforms: the platforms to copy from an index, normalised; empty for all.
        platform: the platform of the image to copy from an index, or None.
        referrers: whether to copy referrers.
        oci: whether to convert Docker's manifests.
    """

    platforms: tuple[Platform, ...] = ()
    platform: Platform | None = None
    referrers: bool = False
    oci: bool = False


class CopyRun:
    """The state that the copies of one call share, so that nothing is sent twice.

    Args:
        route: both ends.
        options: the options of all copies.
        limit: number of blobs and manifests at a time.
        progress: the progress function of all blobs, or None.
        blob_progress: the progress function of single blobs, or None.

    Attributes:
        keeps_going: whether the failure of one copy leaves the others alone.
    """

    def __init__(
        self,
        route: Route,
        options: CopyOptions,
        limit: int,
        progress: Progress | None,
        blob_progress: BlobFunction | None,
        *,
        keeps_going: bool = False,
    ) -> None:
        self.route, self.options, self.keeps_going = route, options, keeps_going
        self.pool = TaskPool(limit, self.stop)
        self.limit = limit
        self.shared = Shared()
        self.progress = TransferProgress(progress, blob_progress)
        self.stopped = False
        self.search = ReferrerSearch(route.source.driver, route.from_repository, limit)
        self.blobs = BlobTransfer(route, lambda: self.stopped)

    def stop(self) -> None:
        """Make transfers give up at their next block."""
        self.stopped = True


@dataclass
class _Node:
    """A manifest to push when all that it needs is there.

    Attributes:
        document: the manifest or index.
        reference: the tag or digest to push it as.
        waiting: number of blobs and manifests that are not there.
        parents: the manifests that wait for this one.
    """

    document: ImageManifest | ImageIndex
    reference: str
    waiting: int = 0
    parents: list[_Node] = field(default_factory=list)

    def needs(self, other: _Node) -> bool:
        """Whether this manifest waits for another one."""
        above, seen = list(other.parents), {id(other)}
        while above:
            node = above.pop()
            if node is self:
                return True
            if id(node) not in seen:
                seen.add(id(node))
                above += node.parents
        return False


class CopyJob:
    """The copy of one image or index.

    Args:
        run: the run that the copy belongs to.
        reference: a tag, a digest or a descriptor, at the source.
        to_reference: a tag or digest at the target; None for the digest of the copy.
        priority: the place among the jobs of the run.
        ended: called when the copy has succeeded or failed.

    Attributes:
        error: the error of a failed copy, or None.
    """

    def __init__(
        self,
        run: CopyRun,
        reference: str | Descriptor,
        to_reference: str | None,
        *,
        priority: int = 0,
        ended: Callable[[CopyJob], object] = lambda _: None,
    ) -> None:
        self._run, self._route = run, run.route
        self._reference, self._to_reference = reference, to_reference
        self._priority, self._ended = priority, ended
        self.error: DockhandError | None = None
        self._open = 0  # tasks that have not ended
        self._planned = False
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        self._waiting: dict[Digest, list[_Node]] = {}
        self._blobs: dict[Digest, Descriptor] = {}
        self._outcomes: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self._manifests = self._bytes = 0
        self._dropped: list[Descriptor] = []
        self._digest: Digest | None = None

    def add(self) -> None:
        """Add the copy to the pool of its run."""
        self._add(self._begin())

    def result(self) -> CopyResult:
        """The result, after the end."""
        tag = self._to_reference
        return CopyResult(
            digest=self._digest,
            manifests=self._manifests,
            blobs_copied=self._outcomes[Outcome.COPIED],
            blobs_mounted=self._outcomes[Outcome.MOUNTED],
            blobs_skipped=self._outcomes[Outcome.SKIPPED],
            bytes_copied=self._bytes,
            dropped=tuple(self._dropped),
            tag=None if tag is None or ":" in tag else tag,
            error=self.error,
        )

    def _add(self, flow: Flow[None]) -> None:
        with self._lock:
            self._open += 1
        self._run.pool.add(self._task(flow), self._priority)

    def _task(self, flow: Flow[None]) -> Flow[None]:
        try:
            if self.error is None:
                yield from flow
        except DockhandError as error:
            with self._lock:
                self.error = self.error or error
            if not self._planned:
                self._planned = True
                self._run.progress.plan(())
            if not self._run.keeps_going:
                raise
        finally:
            flow.close()
            with self._lock:
                self._open -= 1
                last = not self._open
        if last:
            self._ended(self)

    # -- planning --------------------------------------------------------------------------

    def _begin(self) -> Flow[None]:
        """Read all manifests, and add a task for each blob."""
        route, options = self._route, self._run.options
        source, repository = route.source.driver, route.from_repository
        root: ImageManifest | ImageIndex
        if options.platform is not None:
            root = yield from image(source, repository, self._reference, options.platform)
            original: ImageManifest | ImageIndex = root
        else:
            original = root = yield from source.manifest(repository, self._reference)
            if options.platforms:
                root = yield from select_platforms(source, repository, root, options.platforms)
        if route.same_repository and not options.oci:
            tree = ImageTree(root)  # all that it needs is there
        else:
            tree = yield from walk_tree(source, repository, root, limit=self._run.limit)
        before = {document.digest for document in tree.documents()}
        if options.oci:
            tree = to_oci(tree)
        self._digest = tree.root.digest
        if self._to_reference is not None and ":" in self._to_reference:
            subject = f"repository {route.to_repository}: the copy"
            check_digest(Digest(self._to_reference), tree.root.digest, subject)
        kept = {document.digest for document in tree.documents()}
        node = self._plan_tree(tree, self._to_reference or tree.root.digest)
        if options.referrers:
            if not route.same_repository:
                yield from self._plan_referrers(node, [*kept & before])
            replaced = [*dict.fromkeys([original.digest, *before]).keys() - kept]
            dropped = yield from self._run.search.direct(replaced)
            self._dropped += [referrer.named() for referrer in dropped]
        self._start()

    def _plan_referrers(self, root: _Node, digests: Sequence[Digest]) -> Flow[None]:
        """Plan the pushes of all referrers of some manifests, before that of the root."""
        found = yield from self._run.search.below(digests)
        self._dropped += found.missing
        for tag, tree in found.trees:
            node = self._plan_tree(tree, tag or tree.root.digest)
            if node is not root and not node.needs(root) and not root.needs(node):
                node.parents.append(root)
                root.waiting += 1

    def _plan_tree(self, tree: ImageTree, reference: str) -> _Node:
        """Plan the push of a tree, and return the node of its root."""
        documents = list(tree.documents())
        for document in documents[:-1]:
            self._plan_document(document, document.digest, tree)
        return self._plan_document(documents[-1], reference, tree)

    def _plan_document(
        self, document: ImageManifest | ImageIndex, reference: str, tree: ImageTree
    ) -> _Node:
        if reference in self._nodes:
            return self._nodes[reference]
        node = self._nodes[reference] = _Node(document, reference)
        if self._route.same_repository:
            needed: list[Descriptor] = []
        elif isinstance(document, ImageManifest):
            needed = [document.config, *filter(is_distributable, document.layers)]
        else:
            needed = [tree.blobs[d.digest] for d in document.manifests if d.digest in tree.blobs]
        for digest, blob in {blob.digest: blob for blob in needed}.items():
            self._blobs.setdefault(digest, blob)
            self._waiting.setdefault(digest, []).append(node)
            node.waiting += 1
        if isinstance(document, ImageIndex):
            for digest in dict.fromkeys(entry.digest for entry in document.manifests):
                child = self._nodes.get(digest)
                if child is not None and child is not node:
                    child.parents.append(node)
                    node.waiting += 1
        return node

    def _start(self) -> None:
        """Add the tasks."""
        self._planned = True
        self._run.progress.plan(self._blobs.values())
        ready = [node for node in self._nodes.values() if not node.waiting]
        for blob in self._blobs.values():
            self._add(self._bring(blob))
        for node in ready:
            self._add(self._push(node))

    # -- tasks -----------------------------------------------------------------------------

    def _bring(self, blob: Descriptor) -> Flow[None]:
        """Bring a blob to the target, then push the manifests that waited for it alone."""
        run, outcome = self._run, Outcome.SKIPPED

        def work(sent: Callable[[int], None]) -> Flow[BlobState]:
            nonlocal outcome
            outcome = yield from run.blobs.bring(blob, sent)
            return _STATES[outcome]

        yield from run.shared.once(blob.digest, lambda: run.progress.transfer(blob, work))
        with self._lock:
            self._outcomes[outcome] += 1
            if outcome is Outcome.COPIED:
                self._bytes += blob.size
        yield from self._arrived(self._waiting[blob.digest])

    def _arrived(self, nodes: list[_Node]) -> Flow[None]:
        for node in nodes:
            with self._lock:
                node.waiting -= 1
                ready = not node.waiting
            if ready:
                yield from self._push(node)

    def _push(self, node: _Node) -> Flow[None]:
        """Push a manifest, then those that waited for it alone."""
        if self._run.stopped:
            return
        pushed = yield from self._run.shared.once(
            ("manifest", node.reference), lambda: self._put(node)
        )
        with self._lock:
            self._manifests += pushed
        yield from self._arrived(node.parents)

    def _put(self, node: _Node) -> Flow[None]:
        route = self._route
        attempts = route.target.driver.retry.attempts()
        while True:
            try:
                yield from self._put_once(node)
                return
            except _UNSETTLED as error:
                # All that the manifest names is there. But Distribution rewrites its files in place
                # when another copy pushes the same content, and so misses it for a moment.
                yield from attempts.wait_after(error)

    def _put_once(self, node: _Node) -> Flow[None]:
        route, document = self._route, node.document
        driver, repository = route.target.driver, route.to_repository
        try:
            yield from route.there(
                driver.put_manifest(
                    repository, node.reference, document, media_type=document.media_type
                )
            )
        except RegistryError as error:
            if (error.status or 0) >= 500:
                raise
            if ":" not in node.reference and (yield from self._has_tag(node)):
                return  # the registry refuses to write a tag again
            refused = isinstance(error, ManifestInvalid | Unsupported) or error.status == 415
            if refused and document.media_type in _DOCKER_TYPES:
                raise error.with_hint(
                    f"the manifest has Docker's media type {document.media_type}; if the registry "
                    "accepts only those of OCI, convert='oci' converts it, with another digest"
                ) from error
            raise

    def _has_tag(self, node: _Node) -> Flow[bool]:
        """Whether the tag at the target is already that of the manifest."""
        route = self._route
        try:
            head = yield from route.there(
                route.target.driver.manifest_head(route.to_repository, node.reference)
            )
        except (NotFound, RegistryError):
            return False
        return head.digest == node.document.digest
