"""Plans: the decision about each tag, and the manifests that go and stay with it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from dated_images import (
    REPOSITORY,
    ago,
    digests_in,
    put,
    put_fallback_tag,
    put_image,
    put_index,
    refer,
    sign,
    tags_in,
    whole,
)

from dockhand_core import (
    ImageIndex,
    ManifestInvalid,
    NameInvalid,
    NameUnknown,
    RegistryClient,
    RegistryDriver,
    RetentionLimitExceeded,
    RetentionPlan,
    RetentionPolicy,
    Unsupported,
)


def plan(registry: RegistryClient, *tags: str, **rules: Any) -> RetentionPlan:
    policy = RetentionPolicy(tags=tags or ["*"], **rules)
    return registry.plan_retention(REPOSITORY, policy)


# -- decisions about tags ----------------------------------------------------------------------


def test_each_rule_keeps_its_tags(memory: RegistryClient) -> None:
    images = {f"b{n}": put_image(memory, f"b{n}", days=n * 10) for n in range(1, 8)}
    put_image(memory, "latest", days=900)
    put_image(memory, "other", days=900)
    made = plan(
        memory,
        *("b*", "latest"),
        keep=["latest"],
        keep_last=2,
        keep_newer_than="35d",
        protect=[images["b6"].digest],
    )
    assert tags_in(made.delete) == ["b4", "b5", "b7"]
    reasons = {tag: item.reason for item in made.keep for tag in item.tags}
    assert set(reasons) == {"b1", "b2", "b3", "b6", "latest"}  # `other` is no candidate
    assert "newest" in reasons["b2"]
    assert "35d" in reasons["b3"]
    assert "protect" in reasons["b6"]
    assert "latest" in reasons["latest"]
    assert not made.unknown
    assert not made.blocked
    (item,) = [each for each in made.delete if each.tags == ("b4",)]
    head = memory.manifest_head(REPOSITORY, "b4")
    assert (item.digest, item.size) == (head.digest, images["b4"].size + head.size)
    assert item.created is not None
    assert item.created.isoformat()[:10] == ago(40)[:10]


def test_keep_last_counts_distinct_digests_that_keep_does_not_match(
    memory: RegistryClient,
) -> None:
    put_image(memory, *("a", "a-again", "a-more"), days=1)
    put_image(memory, "b", days=2)
    put_image(memory, "c", days=3)
    put_image(memory, "stable", days=0.5)
    made = plan(memory, keep=["stable"], keep_last=2)
    assert tags_in(made.delete) == ["c"]
    assert tags_in(made.keep) == ["a", "a-again", "a-more", "b", "stable"]


def test_equal_ages_have_an_order(memory: RegistryClient) -> None:
    when = ago(5)
    for tag in ("v1", "v3", "v2"):
        put_image(memory, tag, created=when)
    assert tags_in(plan(memory, keep_last=1).keep) == ["v3"]


@pytest.mark.parametrize(
    "created",
    ["", "1970-01-01T00:00:00Z", "1980-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "nonsense", None],
)
def test_a_tag_without_a_usable_age_is_unknown_and_kept(
    memory: RegistryClient, created: str | None
) -> None:
    put_image(memory, "dated", days=50)
    put_image(memory, "undated", created=created)
    made = plan(memory, keep_newer_than="1d")
    assert tags_in(made.unknown) == ["undated"]
    assert "age" in made.unknown[0].reason
    assert tags_in(made.delete) == ["dated"]


def test_a_time_in_the_future_is_no_age(memory: RegistryClient) -> None:
    """The clock of the machine that built the image is wrong, or that of this machine is."""
    put_image(memory, "tomorrow", days=-1)
    put_image(memory, "soon", days=-1 / 24 / 60)
    put_image(memory, "new", days=1)
    put_image(memory, "old", days=2)
    made = plan(memory, keep_last=1)
    assert tags_in(made.unknown) == ["soon", "tomorrow"]
    assert tags_in(made.keep) == ["new"]
    assert tags_in(made.delete) == ["old"]


def test_unknown_tags_that_a_rule_keeps_are_kept_by_it(memory: RegistryClient) -> None:
    protected = put_image(memory, "protected")
    put_image(memory, "stable")
    put_image(memory, "new", days=1)
    made = plan(memory, keep=["stable"], keep_last=1, protect=[protected.digest])
    assert tags_in(made.keep) == ["new", "protected", "stable"]
    assert not made.unknown


def test_signature_tags_are_no_candidates_and_keep_nothing_alive(memory: RegistryClient) -> None:
    image = put_image(memory, "old", days=50)
    sign(memory, image)
    put(memory, image, f"sha256-{'0' * 64}.sig")  # of a manifest that does not exist
    put_image(memory, "new", days=1)
    made = plan(memory, "*", "sha256-*", keep_last=1)
    assert tags_in(made.keep) == ["new"]
    assert not made.unknown
    # the tag whose subject is unknown stays, and so does the manifest that it points to
    assert whole(made.delete) == set()
    assert tags_in(made.delete) == ["old"]


# -- the manifests that go with a tag ----------------------------------------------------------


def test_a_digest_with_a_kept_tag_loses_only_its_other_tags(memory: RegistryClient) -> None:
    """Two tags of one digest, of which one is kept."""
    image = put_image(memory, *("v1", "latest"), days=50)
    made = plan(memory, "v*", keep=["none"])
    (item,) = made.delete
    assert (item.tags, item.digest, item.tags_only) == (("v1",), image.digest, True)
    assert made.freed == 0


def test_a_kept_index_keeps_its_platforms(memory: RegistryClient) -> None:
    """The index is kept, its platforms have no tags of their own, and a nested index neither."""
    images = [put_image(memory, days=50, name=f"p{n}") for n in range(2)]
    nested = put_index(memory, of=images)
    put_index(memory, "keep", of=[nested])
    old = put_index(memory, "old", of=[*images, put_image(memory, days=50, name="gone")])
    made = plan(memory, keep=["keep"])
    assert tags_in(made.delete) == ["old"]
    assert whole(made.delete) == {old.digest, old.manifests[2].digest}


def test_a_platform_with_a_tag_of_its_own_in_a_kept_index_stays(memory: RegistryClient) -> None:
    image = put_image(memory, "v1-amd64", days=50)
    put_index(memory, "v1", of=[image])
    made = plan(memory, keep=["v1"])
    (item,) = made.delete
    assert (item.tags, item.digest, item.tags_only) == (("v1-amd64",), image.digest, True)


def test_a_platform_with_a_kept_tag_of_its_own_stays(memory: RegistryClient) -> None:
    kept = put_image(memory, "v1-amd64", days=50)
    other = put_image(memory, days=50, name="arm64")
    index = put_index(memory, "v1", of=[kept, other])
    made = plan(memory, "v1", keep=["none"])
    assert whole(made.delete) == {index.digest, other.digest}


def test_the_order_is_index_platforms_referrers(memory: RegistryClient) -> None:
    images = [put_image(memory, days=50, name=f"p{n}") for n in range(2)]
    index = put_index(memory, "v1", of=images)
    attestation = refer(memory, images[0], name="attestation")
    sbom = refer(memory, index, name="sbom")
    of_sbom = refer(memory, sbom, name="signature of the sbom")
    signature = sign(memory, index)
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    order = [item.digest for item in made.delete]
    assert set(order) == {
        *(index.digest, images[0].digest, images[1].digest),
        *(attestation.digest, sbom.digest, of_sbom.digest, signature.digest),
    }
    assert order[0] == index.digest
    assert order.index(images[0].digest) < order.index(attestation.digest)
    assert order.index(sbom.digest) < order.index(of_sbom.digest)
    after = {item.digest: item.after for item in made.delete}
    assert after[images[0].digest] == (index.digest,)
    assert after[of_sbom.digest] == (sbom.digest,)
    assert all(item.reason for item in made.delete)


def test_the_fallback_tag_goes_before_the_referrers(memory: RegistryClient) -> None:
    image = put_image(memory, "v1", days=50)
    sbom = refer(memory, image)
    tag = put_fallback_tag(memory, image, sbom)
    put_image(memory, "new", days=1)
    order = [item.digest for item in plan(memory, keep_last=1).delete]
    assert order == [image.digest, tag.digest, sbom.digest]


def test_referrers_and_signatures_of_what_stays_stay(memory: RegistryClient) -> None:
    kept = put_image(memory, "kept", days=50)
    sbom = refer(memory, kept, "sbom-of-kept", days=50)
    sign(memory, kept)
    put_fallback_tag(memory, kept, sbom)
    made = plan(memory, keep=["kept"])
    # the tag of the SBOM goes; the SBOM stays, since its subject does
    (item,) = made.delete
    assert (item.tags, item.tags_only) == (("sbom-of-kept",), True)


def test_a_referrer_with_a_kept_tag_outlives_its_subject(memory: RegistryClient) -> None:
    image = put_image(memory, "old", days=50)
    sbom = refer(memory, image, "sbom")
    made = plan(memory, "old", keep=["none"])
    assert digests_in(made.delete) == {image.digest}
    assert sbom.digest != image.digest


def test_a_referrer_that_an_index_of_a_kept_tag_lists_stays(memory: RegistryClient) -> None:
    image = put_image(memory, "old", days=50)
    sbom = refer(memory, image)
    put_index(memory, "all-sboms", of=[sbom])
    assert digests_in(plan(memory, "old", keep=["none"]).delete) == {image.digest}


def test_signatures_that_two_subjects_share_stay_with_the_other(memory: RegistryClient) -> None:
    old, kept = (put_image(memory, tag, days=50) for tag in ("old", "kept"))
    empty = put_index(memory, of=[])
    for each in (old, kept):
        put(memory, empty, f"sha256-{each.digest.encoded}")
    made = plan(memory, keep=["kept"])
    assert whole(made.delete) == {old.digest}
    (lone,) = [item for item in made.delete if item.tags_only]
    assert lone.tags == (f"sha256-{old.digest.encoded}",)
    assert lone.after == (old.digest,)


def test_a_protected_platform_stays_without_its_index(memory: RegistryClient) -> None:
    images = [put_image(memory, days=50, name=f"p{n}") for n in range(2)]
    index = put_index(memory, "v1", of=images)
    made = plan(memory, protect=[images[0].digest])
    assert whole(made.delete) == {index.digest, images[1].digest}


def test_a_protected_index_without_a_tag_keeps_its_platforms(memory: RegistryClient) -> None:
    image = put_image(memory, "old", days=50)
    index = put_index(memory, of=[image])
    made = plan(memory, protect=[index.digest, f"sha256:{'0' * 64}"])
    assert whole(made.delete) == set()
    assert tags_in(made.delete) == ["old"]


def test_a_referrer_of_a_referrer_without_a_tag_of_a_kept_manifest_stays(
    memory: RegistryClient,
) -> None:
    kept, old = put_image(memory, "new", days=1), put_image(memory, "old", days=50)
    signature = refer(memory, refer(memory, kept), "signature", name="signature", days=50)
    chain = refer(memory, refer(memory, old), "chain", name="chain", days=50)
    made = plan(memory, keep_last=1)
    assert tags_in(made.delete) == ["chain", "old", "signature"]
    assert signature.digest not in whole(made.delete)
    assert {old.digest, chain.digest} <= whole(made.delete)


def test_an_index_that_lists_its_own_subject_goes(memory: RegistryClient) -> None:
    image = put_image(memory, "v1", days=50)
    circle = put_index(memory, of=[image], subject=image.descriptor())
    made = plan(memory, keep=["none"])
    assert [item.digest for item in made.delete] == [circle.digest, image.digest]


def test_an_index_that_lists_what_was_never_pushed(memory: RegistryClient) -> None:
    image = put_image(memory, days=50, name="p")
    lost = put_image(memory, days=50, name="lost")
    index = put_index(memory, "v1", of=[image, lost])
    memory.delete_manifest(REPOSITORY, lost.digest)
    assert whole(plan(memory, keep=["none"]).delete) == {index.digest, image.digest}


def test_a_kept_index_that_cannot_be_read_stops_the_plan(
    memory: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(memory, "old", days=50)
    index = put_index(memory, "kept", of=[])
    real = memory.driver.manifest

    def manifest(repository: str, reference: Any) -> Any:
        if str(reference) == index.digest:
            raise ManifestInvalid("not readable")
        return (yield from real(repository, reference))

    monkeypatch.setattr(memory.driver, "manifest", manifest)
    with pytest.raises(ManifestInvalid, match="not known"):
        plan(memory, "old", keep=["none"])


def test_freed_counts_blobs_that_nothing_else_has(memory: RegistryClient) -> None:
    shared = b"a layer that both have"
    old = put_image(memory, "old", days=50, layer=shared)
    put_image(memory, "new", days=1, layer=shared)
    made = plan(memory, keep_last=1)
    assert made.freed == old.config.size + len(old.raw)


# -- limits, errors, progress ------------------------------------------------------------------


def test_a_plan_with_too_many_deletions_is_refused(memory: RegistryClient) -> None:
    for n in range(4):
        put_image(memory, f"v{n}", days=n + 1)
    assert len(plan(memory, keep_last=1, max_delete=3).delete) == 3
    with pytest.raises(RetentionLimitExceeded, match="3 deletions") as refused:
        plan(memory, keep_last=1, max_delete=2)
    assert len(refused.value.plan.delete) == 3
    assert len(list(memory.tags(REPOSITORY))) == 4


def test_nothing_to_do_is_an_empty_plan(memory: RegistryClient) -> None:
    put_image(memory, "v1", days=1)
    made = plan(memory, "x*", keep_last=1)
    assert (made.delete, made.keep, made.unknown, made.blocked, made.freed) == ((), (), (), (), 0)


def test_an_unknown_repository_is_an_error(memory: RegistryClient) -> None:
    with pytest.raises(NameUnknown):
        plan(memory, keep_last=1)
    with pytest.raises(NameInvalid):
        memory.plan_retention("No/Name", RetentionPolicy(tags=["*"], keep_last=1))


def test_progress_rises_to_its_total(memory: RegistryClient) -> None:
    for n in range(5):
        put_image(memory, f"v{n}", f"w{n}", days=n + 1)
    put_index(memory, "index", of=[put_image(memory, days=3, name="p")])
    seen: list[tuple[int, int | None]] = []
    policy = RetentionPolicy(tags=["*"], keep_last=1)
    memory.plan_retention(REPOSITORY, policy, progress=lambda *step: seen.append(step))
    done = [step[0] for step in seen]
    assert done == sorted(done)
    assert seen[-1] == (22, 22)


def test_each_manifest_and_config_is_read_once(
    memory: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A HEAD for a tag; a GET for a manifest, and one for a config; referrers of deletions."""
    for n in range(4):
        put_image(memory, f"v{n}", f"w{n}", f"x{n}", days=50 + n)
    images = [put_image(memory, days=60, name=f"p{n}") for n in range(2)]
    for tag in ("index", "index-too"):
        put_index(memory, tag, of=images, name=tag)
    calls: Counter[str] = Counter()
    for name in ("manifest_head", "manifest", "image_config", "referrers", "tag_page"):
        _count(memory, monkeypatch, name, calls)
    made = plan(memory, keep_last=2)
    assert len(whole(made.delete)) == 2 + 2 + 2
    assert calls == {
        "tag_page": 1,
        "manifest_head": 4 * 3 + 2,
        "manifest": 4 + 2 + 2,
        "image_config": 4 + 2,
        "referrers": 6,
    }


def _count(
    registry: RegistryClient, monkeypatch: pytest.MonkeyPatch, name: str, calls: Counter[str]
) -> None:
    real = getattr(registry.driver, name)

    def operation(*arguments: Any, **options: Any) -> Any:
        calls[name] += 1
        return (yield from real(*arguments, **options))

    monkeypatch.setitem(vars(registry.driver), name, operation)


# -- manifests without tags --------------------------------------------------------------------


def test_old_manifests_without_tags_go(memory: RegistryClient) -> None:
    put_image(memory, "v1", days=90)
    lost = put_image(memory, days=50, name="lost")
    image = put_image(memory, days=50, name="in an index")
    index = put_index(memory, of=[image])
    young = put_image(memory, days=0.5, name="young")
    undated = put_image(memory, name="undated")
    of_young = refer(memory, young, days=50)
    of_lost = refer(memory, lost, days=1)
    kept = put_image(memory, days=90, name="in a kept index")
    put_index(memory, "kept", of=[kept])
    orphan = put_image(memory, days=90, name="x")
    of_orphan = refer(memory, orphan, name="orphan", days=50)
    memory.delete_manifest(REPOSITORY, orphan.digest)
    protected = put_image(memory, days=90, name="protected")
    made = plan(
        memory, *("none",), keep_last=1, untagged_older_than="2d", protect=[protected.digest]
    )
    assert whole(made.delete) == {
        *(lost.digest, index.digest, image.digest, of_lost.digest, of_orphan.digest)
    }
    assert digests_in(made.unknown) == {undated.digest}
    assert of_young.digest not in digests_in(made.delete)
    order = [item.digest for item in made.delete]
    assert order.index(lost.digest) < order.index(of_lost.digest)


def test_a_driver_that_cannot_list_manifests_refuses(
    memory: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def manifest_page(*_: str, **options: Any) -> Any:
        return RegistryDriver.manifest_page(memory.driver, "x", limit=None, after=None)

    put_image(memory, "v1", days=3)
    monkeypatch.setitem(vars(memory.driver), "manifest_page", manifest_page)
    with pytest.raises(Unsupported, match="cannot list manifests"):
        plan(memory, keep_last=1, untagged_older_than="1d")


def test_indexes_are_as_old_as_their_newest_image(memory: RegistryClient) -> None:
    for tag, ages in {"old": (40, 50), "new": (90, 2)}.items():
        images = [put_image(memory, days=d, name=f"{tag}{d}") for d in ages]
        put_index(memory, tag, of=images)
    assert tags_in(plan(memory, keep_newer_than="30d").delete) == ["old"]


def test_an_index_without_images_has_no_age(memory: RegistryClient) -> None:
    put(memory, ImageIndex(), "empty")
    assert tags_in(plan(memory, keep_last=1).unknown) == ["empty"]
