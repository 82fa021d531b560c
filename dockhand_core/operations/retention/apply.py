"""The deletions of a retention plan, each after another look at all tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TypeAlias

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import (
    ConfigError,
    ConnectionFailed,
    DockhandError,
    ManifestInvalid,
    NameUnknown,
    NotFound,
    PluginError,
    RetentionPlanInvalid,
    Unsupported,
)
from dockhand_core.flow import Flow, Progress
from dockhand_core.models import Digest, ImageIndex, ManifestHead, media
from dockhand_core.operations.retention.plan import RetentionItem, RetentionPlan, RetentionResult
from dockhand_core.operations.retention.survey import Survey
from dockhand_core.operations.tag_patterns import signature_prefix, signed_by_tag
from dockhand_core.text import printable

__all__ = ["ItemDone", "apply_retention"]

ItemDone: TypeAlias = Callable[[str, RetentionItem], object]

# Seconds. If a look at all tags takes longer, it also serves for the deletions in a following time
# of the same length: its first tags were seen as long ago in any case.
LONG_LOOK = 1.0


def apply_retention(
    driver: RegistryDriver,
    plan: RetentionPlan,
    progress: Progress | None = None,
    item_done: ItemDone | None = None,
) -> Flow[RetentionResult]:
    """Make the deletions of a plan; `ImageClient.apply_retention` describes the arguments."""
    if not isinstance(plan, RetentionPlan):
        raise RetentionPlanInvalid(
            f"apply_retention needs a RetentionPlan, not {type(plan).__name__}; "
            "RetentionPlan.from_json reads one"
        )
    if any(item.digest is None for item in plan.delete):
        raise RetentionPlanInvalid("the retention plan has a deletion without a digest")
    if plan.registry != driver.identity():
        raise RetentionPlanInvalid(
            f"the retention plan was made for {printable(plan.registry)[:300]}, but this "
            f"connection is to {driver.identity()}; nothing was deleted"
        )
    return (yield from _Applier(driver, plan).apply(progress, item_done))


class _Applier:
    """The application of one plan."""

    def __init__(self, driver: RegistryDriver, plan: RetentionPlan) -> None:
        self._driver, self._plan = driver, plan
        self._survey = Survey(driver, plan.repository)
        self._results: dict[str, list[RetentionItem]] = {
            name: [] for name in ("deleted", "changed", "failed", "gone")
        }
        self._left: dict[Digest, str] = {}  # manifests that were not deleted, with the result
        self._planned = {
            (tag, item.digest): item.digest
            for item in plan.delete
            for tag in item.tags
            if item.digest is not None
        }
        self._subjects = {
            signature_prefix(item.digest)
            for item in plan.delete
            if item.digest is not None and not item.tags_only
        }
        self._children: dict[Digest, tuple[Digest, ...]] = {}
        self._heads: dict[str, ManifestHead] = {}  # of the last look at all tags
        self._serves_until = 0.0  # time until which that look serves
        self._stop: DockhandError | None = None

    def apply(self, progress: Progress | None, item_done: ItemDone | None) -> Flow[RetentionResult]:
        """Delete the items in the order of the plan."""
        total = len(self._plan.delete)
        for done, item in enumerate(self._plan.delete, 1):
            name, outcome = yield from self._outcome(item)
            self._results[name].append(outcome)
            if name in ("changed", "failed") and item.digest is not None:
                self._left[item.digest] = name
            if item_done is not None:
                item_done(name, outcome)
            if progress is not None:
                progress(done, total)
        return RetentionResult(**{name: tuple(items) for name, items in self._results.items()})

    def _outcome(self, item: RetentionItem) -> Flow[tuple[str, RetentionItem]]:
        if self._stop is not None:
            return "failed", item.because("not tried after an earlier failure", self._stop)
        for digest in item.after:
            if digest in self._left:
                reason = f"{digest}, on which it depends, was not deleted"
                return self._left[digest], item.because(reason)
        assert item.digest is not None
        try:
            return (yield from self._delete(item, item.digest))
        except (ConfigError, PluginError):
            raise
        except DockhandError as error:
            if type(error) is DockhandError:  # such as that the client is closed
                raise
            if isinstance(error, ConnectionFailed) or (
                isinstance(error, Unsupported) and not item.tags_only
            ):
                self._stop = error
            return "failed", item.because("the deletion failed", error)

    def _delete(self, item: RetentionItem, digest: Digest) -> Flow[tuple[str, RetentionItem]]:
        heads = yield from self._look(item)
        for tag in item.tags:
            if tag in heads and heads[tag].digest != digest:
                return "changed", item.because(f"the tag {tag!r} has moved to {heads[tag].digest}")
        present = [tag for tag in item.tags if tag in heads]
        deleted = False
        if not item.tags_only:
            keeper = (yield from self._reached(heads)).get(digest)
            if keeper is not None:
                return "changed", item.because(f"the tag {keeper!r} reaches it now")
            try:
                yield from self._driver.delete_manifest(self._plan.repository, digest)
                deleted = True
            except NotFound:
                pass  # deleted before; its tags may still be there
            if present:
                # The registry of `crane registry serve` keeps the tags of a deleted manifest.
                left = yield from self._survey.heads(present)
                present = [tag for tag, head in left.items() if head and head.digest == digest]
        for tag in present:
            try:
                yield from self._driver.delete_tag(self._plan.repository, tag)
                deleted = True
            except NotFound:
                pass
        return ("deleted" if deleted else "gone"), item

    def _look(self, item: RetentionItem) -> Flow[dict[str, ManifestHead]]:
        """List all tags again, and fetch their heads.

        If a look at all tags takes longer than `LONG_LOOK`, then for as long again only the heads
        of this item's tags and of new tags are fetched.
        """
        start = monotonic()
        try:
            names = yield from self._survey.tags()
        except NameUnknown:  # some registries forget a repository without tags
            names = []
        serves = start < self._serves_until
        known = {tag: self._heads[tag] for tag in names if serves and tag in self._heads}
        asked = [tag for tag in names if tag not in known or tag in item.tags]
        found = yield from self._survey.heads(asked)
        heads = {**known, **{tag: head for tag, head in found.items() if head is not None}}
        for tag in asked:
            if found[tag] is None:
                heads.pop(tag, None)
        self._heads = heads
        if not serves:
            end = monotonic()
            length = end - start
            self._serves_until = end + length if length > LONG_LOOK else 0.0
        return heads

    def _reached(self, heads: Mapping[str, ManifestHead]) -> Flow[dict[Digest, str]]:
        """The manifests that tags outside the plan reach, directly or through indexes."""
        reached: dict[Digest, str] = {}
        for tag, head in heads.items():
            planned = self._planned.get((tag, head.digest))
            if planned is not None and planned not in self._left:
                continue
            if planned is None and signed_by_tag(tag) in self._subjects:
                continue  # a signature shares the fate of its subject
            waiting = [head.digest]
            if head.media_type not in media.INDEXES:
                self._children.setdefault(head.digest, ())
            while waiting:
                digest = waiting.pop()
                if digest not in reached:
                    reached[digest] = tag
                    waiting += yield from self._listed(digest)
        return reached

    def _listed(self, digest: Digest) -> Flow[tuple[Digest, ...]]:
        """The manifests that an index lists; it is read only once."""
        if digest in self._children:
            return self._children[digest]
        try:
            document = yield from self._driver.manifest(self._plan.repository, digest)
        except NotFound:
            self._children[digest] = ()
            return ()
        except ManifestInvalid as error:
            hint = "this index cannot be read, so the manifests that it needs are not known"
            raise error.with_hint(hint) from error
        if isinstance(document, ImageIndex):
            for entry in document.manifests:
                if entry.media_type in media.MANIFESTS:
                    self._children.setdefault(entry.digest, ())
            self._children[digest] = tuple(entry.digest for entry in document.manifests)
        return self._children.setdefault(digest, ())
