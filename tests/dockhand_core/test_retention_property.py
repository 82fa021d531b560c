"""Random repositories: nothing that a kept tag reaches is deleted; the plan is what happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dated_images import REPOSITORY, put, put_image
from hypothesis import given, settings
from hypothesis import strategies as st

from dockhand_core import (
    Descriptor,
    ImageIndex,
    ImageManifest,
    RegistryClient,
    RetentionPlan,
    RetentionPolicy,
    connect,
)
from dockhand_core.operations.tag_patterns import is_signature_tag

TAGS = ["latest", "stable", "v1", "v2", "v3", "pr-1", "pr-2"]
AGES = [None, -1.0, 0.2, 3.0, 3.0, 10.0, 40.0, 400.0]  # days; None is absent, -1 in the future


@dataclass
class Spec:
    """A manifest to push: an image of an age, or an index of earlier manifests.

    Attributes:
        children: the positions of the manifests that it lists, if it is an index.
        subject: the position of its subject, or None.
        tags: its tags; later manifests may take them over.
        signature_of: positions of manifests whose signature tag points to it.
    """

    age: float | None
    children: list[int] | None
    subject: int | None
    tags: list[str]
    signature_of: list[tuple[int, str]]


@st.composite
def repositories(draw: st.DrawFn) -> list[Spec]:
    specs: list[Spec] = []
    for position in range(draw(st.integers(1, 9))):
        earlier = st.integers(0, position - 1) if position else st.nothing()
        children = None
        if position and draw(st.integers(0, 2)) == 0:
            children = draw(st.lists(earlier, max_size=4, unique=True))
        subject = draw(st.none() | earlier) if position and draw(st.booleans()) else None
        suffixes = st.sampled_from(["", ".sig", ".att"])
        signed = st.lists(st.tuples(earlier, suffixes), max_size=2) if position else st.just([])
        specs.append(
            Spec(
                age=draw(st.sampled_from(AGES)),
                children=children,
                subject=subject,
                tags=draw(st.lists(st.sampled_from(TAGS), max_size=2, unique=True)),
                signature_of=draw(signed) if draw(st.booleans()) else [],
            )
        )
    return specs


PATTERNS = st.lists(
    st.sampled_from(["*", "v*", "pr-*", "latest", "re:v[12]", "stable"]), max_size=2, unique=True
)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    rules = {
        "tags": draw(PATTERNS) or ["*"],
        "keep": draw(PATTERNS.map(lambda found: [each for each in found if each != "*"])),
        "keep_last": draw(st.none() | st.integers(1, 3)),
        "keep_newer_than": draw(st.none() | st.sampled_from(["1d", "5d", "8w"])),
        "untagged_older_than": draw(st.none() | st.sampled_from(["1d", "30d"])),
    }
    if not (rules["keep"] or rules["keep_last"] or rules["keep_newer_than"]):
        rules["keep_last"] = 1
    return rules


@dataclass
class State:
    """The tags and manifests of the repository, read independently of retention."""

    tags: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, ImageManifest | ImageIndex] = field(default_factory=dict)

    @classmethod
    def read(cls, registry: RegistryClient) -> State:
        page = registry.run(registry.driver.manifest_page(REPOSITORY, limit=None, after=None))
        tags = list(registry.tags(REPOSITORY))
        return cls(
            {tag: registry.manifest_head(REPOSITORY, tag).digest for tag in tags},
            {digest: registry.manifest(REPOSITORY, digest) for digest in page.items},
        )

    def reached(self, roots: set[str]) -> set[str]:
        """The manifests that some lead to: through indexes, and as referrers and signatures."""
        found: set[str] = set()
        waiting = set(roots) & set(self.manifests)
        while waiting:
            digest = waiting.pop()
            found.add(digest)
            document = self.manifests[digest]
            following = {
                other
                for other, each in self.manifests.items()
                if each.subject is not None and each.subject.digest == digest
            }
            if isinstance(document, ImageIndex):
                following |= {entry.digest for entry in document.manifests}
            prefix = digest.replace(":", "-")
            following |= {d for tag, d in self.tags.items() if tag.startswith(prefix)}
            waiting |= (following & set(self.manifests)) - found
        return found


def build(registry: RegistryClient, specs: list[Spec]) -> None:
    documents: list[ImageManifest | ImageIndex] = []
    for position, spec in enumerate(specs):
        subject = documents[spec.subject].descriptor() if spec.subject is not None else None
        made: ImageManifest | ImageIndex
        if spec.children is None:
            made = put_image(registry, days=spec.age, name=f"image {position}")
            if subject is not None:
                registry.delete_manifest(REPOSITORY, made.digest)
        else:
            entries: tuple[Descriptor, ...] = tuple(
                documents[child].descriptor() for child in spec.children
            )
            made = ImageIndex(manifests=entries, annotations={"position": str(position)})
        if subject is not None:
            made = made.model_copy(update={"subject": subject})
        put(registry, made)
        for tag in spec.tags:
            put(registry, made, tag)
        for signed, suffix in spec.signature_of:
            put(registry, made, f"sha256-{documents[signed].digest.encoded}{suffix}")
        documents.append(made)


def kept_tags(state: State, plan: RetentionPlan) -> dict[str, str]:
    going = {tag for item in plan.delete for tag in item.tags}
    return {
        tag: digest
        for tag, digest in state.tags.items()
        if tag not in going and not is_signature_tag(tag)
    }


def check_decisions(state: State, plan: RetentionPlan, policy: RetentionPolicy) -> None:
    """Each candidate has one decision, and no rule that keeps it is broken."""
    candidates = {
        tag
        for tag in state.tags
        if not is_signature_tag(tag) and policy.candidates.match(tag) is not None
    }
    decided = [
        tag
        for items in (plan.delete, plan.keep, plan.unknown, plan.blocked)
        for item in items
        for tag in item.tags
        if not is_signature_tag(tag)
    ]
    assert sorted(decided) == sorted(candidates)
    for item in plan.delete:
        for tag in candidates & set(item.tags):
            assert policy.kept.match(tag) is None
            assert item.created is not None
            assert item.created <= datetime.now(UTC)
            if policy.newest is not None:
                assert datetime.now(UTC) - item.created > policy.newest - timedelta(seconds=60)


class Cut(Exception):
    """Raised in the middle of an application, as if the process was killed."""


def cut_after(count: int) -> Any:
    def progress(done: int, _: int | None) -> None:
        if done == count:
            raise Cut

    return progress


@settings(max_examples=100)
@given(specs=repositories(), rules=policies(), cut=st.integers(0, 6), lone=st.booleans())
def test_random_repositories(
    specs: list[Spec], rules: dict[str, Any], cut: int, lone: bool
) -> None:
    policy = RetentionPolicy(**rules)
    with connect("", driver="embedded", root=":memory:", logging={"driver": "null"}) as registry:
        build(registry, specs)
        if not lone:  # a registry that cannot delete a tag alone
            vars(registry.driver)["deletes_tags"] = _no
        before = State.read(registry)
        plan = registry.plan_retention(REPOSITORY, policy)
        assert State.read(registry) == before
        check_decisions(before, plan, policy)
        if cut and cut < len(plan.delete):
            with pytest.raises(Cut):
                registry.apply_retention(plan, progress=cut_after(cut))
            plan = RetentionPlan.from_json(plan.to_json())
        done = registry.apply_retention(plan)
        after = State.read(registry)

        assert (done.changed, done.failed) == ((), ())
        assert {*done.deleted, *done.gone} == set(plan.delete)
        # what the plan said is what happened
        whole = {item.digest for item in plan.delete if not item.tags_only}
        assert set(before.manifests) - set(after.manifests) == whole
        going = {tag for item in plan.delete for tag in item.tags}
        assert after.tags == {t: d for t, d in before.tags.items() if t not in going}
        # nothing that a kept tag reaches is deleted, and none of its referrers and signatures
        kept = kept_tags(before, plan)
        assert set(kept.items()) <= set(after.tags.items())
        assert before.reached(set(kept.values())) <= set(after.manifests)
        if policy.untagged is not None:  # all manifests were read, so nothing that stays lacks any
            assert before.reached(set(after.manifests)) <= set(after.manifests)
        # all tags of a deleted manifest were in the plan
        assert not set(after.tags.values()) - set(after.manifests)
        if not lone:
            assert not any(item.tags_only for item in plan.delete)
        # a second plan has no other tags to delete
        again = registry.plan_retention(REPOSITORY, policy)
        assert {t for item in again.delete for t in item.tags if not is_signature_tag(t)} == set()


def _no(repository: str) -> Any:
    return False
    yield
