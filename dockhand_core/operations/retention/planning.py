"""Plans of retention: which tags and manifests of a repository are deleted, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import Denied, RetentionLimitExceeded, Unauthorized
from dockhand_core.flow import Flow, Progress
from dockhand_core.models import Digest
from dockhand_core.operations.ages import push_times
from dockhand_core.operations.page_cursor import all_pages
from dockhand_core.operations.retention.graph import Graph
from dockhand_core.operations.retention.plan import RetentionItem, RetentionPlan
from dockhand_core.operations.retention.policy import RetentionPolicy
from dockhand_core.operations.retention.survey import Steps, Survey
from dockhand_core.operations.tag_patterns import is_signature_tag

__all__ = ["plan_retention"]


def plan_retention(
    driver: RegistryDriver,
    repository: str,
    policy: RetentionPolicy,
    progress: Progress | None = None,
) -> Flow[RetentionPlan]:
    """Decide what a policy deletes in a repository, and delete nothing.

    `ImageClient.plan_retention` describes the arguments and errors.
    """
    return (yield from _Planner(driver, repository, policy, progress).plan())


class _Planner:
    """The making of one plan."""

    def __init__(
        self,
        driver: RegistryDriver,
        repository: str,
        policy: RetentionPolicy,
        progress: Progress | None,
    ) -> None:
        self._driver, self._policy, self._progress = driver, policy, progress
        self._survey = Survey(driver, repository)
        self._now = datetime.now(UTC)
        self._tags: dict[str, Digest] = {}
        self._times: dict[Digest, datetime] = {}
        # the candidates by decision, each with the reason
        self._keep: dict[str, str] = {}
        self._unknown: dict[str, str] = {}
        self._going: dict[str, str] = {}
        # manifests without tags
        self._old: dict[Digest, str] = {}
        self._young: dict[Digest, str] = {}
        self._undated: list[Digest] = []

    def plan(self) -> Flow[RetentionPlan]:
        """Read the repository, and decide."""
        tags = yield from self._survey.tags()
        steps = Steps(self._progress, 2 * len(tags))
        heads = yield from self._survey.heads(tags, steps)
        self._tags = {tag: head.digest for tag, head in heads.items() if head is not None}
        candidates = [
            tag for tag in tags if self._policy.candidates.match(tag) and not is_signature_tag(tag)
        ]
        lost = [tag for tag in dict.fromkeys(candidates) if tag not in self._tags]
        steps.add(len(tags) - len(self._tags))
        weights = Counter(self._tags.values())
        yield from self._survey.read(weights, lambda digest: steps.add(weights.get(digest, 0)))
        yield from self._decide([tag for tag in candidates if tag in self._tags])
        if self._policy.untagged is not None:
            yield from self._decide_untagged(self._policy.untagged)
        delete, blocked, freed = yield from self._deletions()
        unknown = self._items(self._unknown)
        unknown += [self._item(d, (), "no tag and no usable age") for d in self._undated]
        unknown += [
            RetentionItem(tags=(tag,), digest=None, reason="the tag points to no manifest")
            for tag in lost
        ]
        plan = RetentionPlan(
            registry=self._driver.identity(),
            repository=self._survey.repository,
            made_at=self._now,
            delete=tuple(delete),
            keep=tuple(self._items(self._keep)),
            unknown=tuple(unknown),
            blocked=tuple(blocked),
            freed=freed,
        )
        limit = self._policy.max_delete
        if limit is not None and len(delete) > limit:
            raise RetentionLimitExceeded(
                f"repository {plan.repository}: the plan has {len(delete)} deletions, more than "
                f"max_delete, which is {limit}; nothing was deleted",
                plan=plan,
            )
        return plan

    # -- decisions about tags --------------------------------------------------------------

    def _decide(self, candidates: list[str]) -> Flow[None]:
        """Decide for each candidate whether it is kept, unknown or going."""
        if not candidates:
            return
        self._times = yield from push_times(self._driver, self._survey.repository, self._now)
        digests = {self._tags[tag]: None for tag in candidates}
        yield from self._survey.read_configs(d for d in digests if d not in self._times)
        policy = self._policy
        pool: dict[Digest, str] = {}  # the digests that keep_last counts, with their last tags
        for tag in candidates:
            pattern = policy.kept.match(tag)
            if pattern is not None:
                self._keep[tag] = f"it matches {pattern!r} in keep"
            else:
                pool[self._tags[tag]] = max(tag, pool.get(self._tags[tag], tag))
        newest = self._newest(pool)
        for tag in candidates:
            if tag not in self._keep:
                self._decide_by_digest(tag, self._tags[tag], newest)

    def _newest(self, pool: Mapping[Digest, str]) -> frozenset[Digest]:
        dated = [
            (age, tag, digest)
            for digest, tag in pool.items()
            if (age := self._age(digest)) is not None
        ]
        dated.sort(reverse=True)
        return frozenset(digest for _, _, digest in dated[: self._policy.keep_last or 0])

    def _decide_by_digest(self, tag: str, digest: Digest, newest: frozenset[Digest]) -> None:
        policy = self._policy
        age = self._age(digest)
        if digest in policy.protected:
            self._keep[tag] = "its digest is in protect"
        elif digest in newest:
            self._keep[tag] = f"it is among the {policy.keep_last} newest"
        elif age is None:
            self._unknown[tag] = "it has no usable age: no time, one before 1981 or in the future"
        elif policy.newest is not None and self._now - age < policy.newest:
            self._keep[tag] = f"it is newer than {policy.keep_newer_than}"
        else:
            self._going[tag] = f"no rule keeps it; its time is {age:%Y-%m-%d %H:%M} UTC"

    def _age(self, digest: Digest) -> datetime | None:
        pushed = self._times.get(digest)
        return pushed if pushed is not None else self._survey.created(digest, self._now)

    # -- decisions about manifests without tags --------------------------------------------

    def _decide_untagged(self, older_than: timedelta) -> Flow[None]:
        """Decide for manifests without tags whether they are old, young or undated."""
        driver, survey = self._driver, self._survey
        listed = yield from all_pages(
            lambda after: driver.manifest_page(survey.repository, limit=None, after=after),
            driver.list_limit,
        )
        manifests = {Digest(digest): None for digest in listed}
        yield from survey.read(manifests)
        nodes = survey.nodes
        needed = {child for node in nodes.values() for child in node.children}
        needed |= set(self._tags.values())
        roots = [
            digest
            for digest in manifests
            if digest not in needed
            and nodes[digest].exists
            and nodes[digest].subject not in manifests
        ]
        yield from survey.read_configs(roots)
        for digest in roots:
            age = survey.created(digest, self._now)
            if age is None:
                self._undated.append(digest)
            elif self._now - age > older_than and digest not in self._policy.protected:
                self._old[digest] = f"no tag reaches it; its time is {age:%Y-%m-%d %H:%M} UTC"
            else:
                self._young[digest] = "no tag reaches it, and it is not old enough"

    # -- deletions -------------------------------------------------------------------------

    def _deletions(self) -> Flow[tuple[list[RetentionItem], list[RetentionItem], int]]:
        """Decide about manifests, and return the deletions, the blocked tags, and `freed`."""
        graph = Graph(self._survey, self._tags)
        staying = {
            tag: digest
            for tag, digest in self._tags.items()
            if tag not in self._going and not is_signature_tag(tag)
        }
        direct = set(staying.values())
        going = [self._tags[tag] for tag in self._going if self._tags[tag] not in direct]
        doomed = yield from graph.closure([*going, *self._old])
        if doomed:
            yield from self._read_what_may_keep(doomed)
        roots = {digest: f"the tag {tag!r}" for tag, digest in reversed(staying.items())}
        for digest in self._policy.protect:
            roots.setdefault(Digest(digest), "protect")
        for digest in [*self._young, *self._undated]:
            roots.setdefault(digest, "a manifest without tags that stays")
        for tag in graph.orphaned_tags(doomed):
            roots.setdefault(self._tags[tag], f"the tag {tag!r}")
        alive = graph.alive(roots)
        dead = {digest: None for digest in doomed if digest not in alive}
        items = [
            self._item(
                digest,
                graph.tags_of.get(digest, ()),
                self._reason(digest, graph.tags_of.get(digest, ()), graph.cause(digest, before)),
                after=before,
            )
            for digest, before in graph.order(dead)
        ]
        lone = self._lone_tags(graph, dead)
        blocked = []
        if lone:
            refusal = yield from self._refusal()
            if refusal is None:
                items += lone
            else:
                blocked = [self._blocked(item, alive, refusal) for item in lone]
        survey = self._survey
        others = survey.contents([d for d in survey.nodes if d not in dead], whole=False)
        contents = survey.contents(dead, whole=False)
        return items, blocked, sum(size for d, size in contents.items() if d not in others)

    def _read_what_may_keep(self, doomed: Iterable[Digest]) -> Flow[None]:
        """Read the protected manifests, and the subjects of manifests that may go.

        A subject without a tag may itself refer to a manifest that stays.
        """
        nodes = self._survey.nodes
        yield from self._survey.read(map(Digest, self._policy.protect))
        waiting = list(doomed)
        while waiting:
            subjects = {s: None for d in waiting if (s := nodes[d].subject) is not None}
            waiting = [subject for subject in subjects if subject not in nodes]
            yield from self._survey.read(waiting)

    def _lone_tags(self, graph: Graph, dead: Mapping[Digest, None]) -> list[RetentionItem]:
        """The deletions of tags whose manifests stay."""
        lone: dict[Digest, list[str]] = {}
        after: dict[Digest, dict[Digest, None]] = {}
        for tag in self._going:
            if self._tags[tag] not in dead:
                lone.setdefault(self._tags[tag], []).append(tag)
        for subject in dead:
            for tag in graph.signature_tags(subject):
                if self._tags[tag] not in dead:
                    lone.setdefault(self._tags[tag], []).append(tag)
                    after.setdefault(self._tags[tag], {})[subject] = None
        return [
            self._item(
                digest,
                tags,
                self._reason(digest, tags, "its subject is deleted"),
                after=tuple(after.get(digest, ())),
                tags_only=True,
            )
            for digest, tags in lone.items()
        ]

    def _refusal(self) -> Flow[str | None]:
        """The reason why a tag cannot be deleted alone; None if it can."""
        try:
            if (yield from self._driver.deletes_tags(self._survey.repository)):
                return None
        except (Denied, Unauthorized) as error:
            return f"these credentials may not delete a tag ({error})"
        return "the registry cannot delete a tag alone"

    def _blocked(
        self, item: RetentionItem, alive: Mapping[Digest, tuple[str, bool]], refusal: str
    ) -> RetentionItem:
        assert item.digest is not None
        keeper, itself = alive.get(item.digest, ("another tag", True))
        relation = "points to" if itself else "reaches"
        return item.because(f"{keeper}, which stays, {relation} its manifest, and {refusal}")

    # -- items -----------------------------------------------------------------------------

    def _reason(self, digest: Digest, tags: Iterable[str], otherwise: str) -> str:
        reasons = dict.fromkeys(self._going[tag] for tag in tags if tag in self._going)
        return "; ".join(reasons) or self._old.get(digest) or otherwise

    def _items(self, reasons: Mapping[str, str]) -> list[RetentionItem]:
        groups: dict[tuple[Digest, str], list[str]] = {}
        for tag, reason in reasons.items():
            groups.setdefault((self._tags[tag], reason), []).append(tag)
        return [self._item(digest, tags, reason) for (digest, reason), tags in groups.items()]

    def _item(
        self,
        digest: Digest,
        tags: Iterable[str],
        reason: str,
        *,
        after: tuple[Digest, ...] = (),
        tags_only: bool = False,
    ) -> RetentionItem:
        return RetentionItem(
            tags=tuple(sorted(tags)),
            digest=digest,
            created=self._age(digest),
            size=self._survey.size(digest),
            reason=reason,
            after=after,
            tags_only=tags_only,
        )
