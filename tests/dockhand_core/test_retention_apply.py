"""Application of plans: what has changed since is left alone, failures are told, runs resume."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dated_images import (
    REPOSITORY,
    digests_in,
    put,
    put_fallback_tag,
    put_image,
    put_index,
    refer,
    sign,
    tags_in,
)
from http_cassettes import BlockingAsyncClient

from dockhand_core import (
    BlobUnknown,
    ConnectionFailed,
    Denied,
    DockhandError,
    ManifestUnknown,
    RegistryClient,
    RegistryDriver,
    RetentionItem,
    RetentionPlan,
    RetentionPlanInvalid,
    RetentionPolicy,
    ServerError,
    Unsupported,
    connect,
)
from dockhand_core.operations.retention import apply


def plan(registry: RegistryClient, **rules: Any) -> RetentionPlan:
    return registry.plan_retention(REPOSITORY, RetentionPolicy(tags=["*"], **rules))


def manifests(registry: RegistryClient) -> set[str]:
    page = registry.run(registry.driver.manifest_page(REPOSITORY, limit=None, after=None))
    return set(page.items)


class Cut(Exception):
    """Raised by a test in the middle of an operation, as if the process was killed."""


def broken(
    registry: RegistryClient, monkeypatch: pytest.MonkeyPatch, name: str, *errors: Any
) -> list[str]:
    """Make an operation of the driver raise these errors, one a call; None lets a call through.

    Returns:
        the references of the calls.
    """
    real = getattr(registry.driver, name)
    calls: list[str] = []

    def operation(*arguments: Any, **options: Any) -> Any:
        calls.append(str(arguments[-1]))
        error = errors[min(len(calls), len(errors)) - 1]
        if error is not None:
            raise error
        return (yield from real(*arguments, **options))

    monkeypatch.setitem(vars(registry.driver), name, operation)
    return calls


def killed_after(stop: int) -> Any:
    """A progress function that ends the operation after some deletions."""

    def progress(done: int, _: int | None) -> None:
        if done == stop:
            raise Cut

    return progress


# -- the plan is what happens ------------------------------------------------------------------


def test_what_the_plan_says_is_what_happens(memory: RegistryClient) -> None:
    images = [put_image(memory, days=50, name=f"p{n}") for n in range(2)]
    index = put_index(memory, "v1", "v1.0", of=images)
    sbom = refer(memory, images[0])
    sign(memory, index)
    put_fallback_tag(memory, index, sbom)
    kept = put_image(memory, "v2", "v2.0", "latest", days=1)
    made = memory.plan_retention(
        REPOSITORY, RetentionPolicy(tags=["v*"], keep=["v2"], keep_last=None)
    )
    before = manifests(memory)
    seen: list[tuple[int, int | None]] = []
    done = memory.apply_retention(made, progress=lambda *step: seen.append(step))
    assert done.deleted == made.delete
    assert (done.changed, done.failed, done.gone) == ((), (), ())
    assert seen == [(n + 1, len(made.delete)) for n in range(len(made.delete))]
    assert list(memory.tags(REPOSITORY)) == ["latest", "v2"]
    assert manifests(memory) == {kept.digest}
    assert before - manifests(memory) == {d.digest for d in made.delete if not d.tags_only}


def test_a_plan_survives_json(memory: RegistryClient) -> None:
    put_image(memory, "old", days=50)
    put_image(memory, "undated")
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    again = RetentionPlan.from_json(made.to_json())
    assert again == made
    assert tags_in(memory.apply_retention(again).deleted) == ["old"]


def test_a_plan_of_another_registry_is_refused(memory: RegistryClient, tmp_path: Any) -> None:
    put_image(memory, "old", days=50)
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    for root in (":memory:", str(tmp_path)):
        with connect("", driver="embedded", root=root) as other:
            for tag in ("old", "new"):
                put_image(other, tag, days=50)
            with pytest.raises(RetentionPlanInvalid, match="made for"):
                other.apply_retention(made)
            assert list(other.tags(REPOSITORY)) == ["new", "old"]


def test_a_folder_is_the_same_registry_on_another_connection(tmp_path: Any) -> None:
    with connect("", driver="embedded", root=str(tmp_path)) as one:
        put_image(one, "old", days=50)
        put_image(one, "new", days=1)
        made = plan(one, keep_last=1).to_json()
    with BlockingAsyncClient("", driver="embedded", root=f"{tmp_path}/../{tmp_path.name}") as two:
        done = two.apply_retention(RetentionPlan.from_json(made))
        assert tags_in(done.deleted) == ["old"]


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("http://r.example", "HTTP://R.example:80/v2/", True),
        ("https://r.example/x", "https://r.example:443/x/", True),
        ("https://r.example", "http://r.example", False),
        ("https://r.example/x", "https://r.example/y", False),
        ("https://r.example", "https://r.example:5000", False),
        ("http://[::1]:5000", "http://[::1]:5000/v2", True),
    ],
)
def test_connections_name_their_registry(one: str, two: str, same: bool) -> None:
    with connect(one) as first, connect(two) as second:
        assert (first.driver.identity() == second.driver.identity()) == same


@pytest.mark.parametrize(
    "change",
    [
        lambda d: "",
        lambda d: "[]",
        lambda d: "{}",
        lambda d: "[" * 100_000,
        lambda d: json.dumps({**d, "version": 2}),
        lambda d: json.dumps({**d, "delete": [{**d["delete"][0], "digest": "sha256:12"}]}),
        lambda d: json.dumps({**d, "delete": [{**d["delete"][0], "digest": None}]}),
        lambda d: json.dumps({**d, "delete": [{**d["delete"][0], "tags": ["a/b"]}]}),
        lambda d: json.dumps({**d, "delete": [{**d["delete"][0], "what": 1}]}),
        lambda d: json.dumps({**d, "repository": "../x"}),
        lambda d: json.dumps({k: v for k, v in d.items() if k != "registry"}),
        lambda d: b"\xff",
        lambda d: None,
    ],
)
def test_a_plan_that_cannot_be_read_is_refused(change: Any) -> None:
    with connect("", driver="embedded", root=":memory:") as registry:
        put_image(registry, "old", days=50)
        put_image(registry, "new", days=1)
        document = json.loads(plan(registry, keep_last=1).to_json())
    with pytest.raises(RetentionPlanInvalid):
        RetentionPlan.from_json(change(document))
    assert issubclass(RetentionPlanInvalid, DockhandError)


def test_a_dict_is_no_plan(memory: RegistryClient) -> None:
    with pytest.raises(RetentionPlanInvalid, match="from_json"):
        memory.apply_retention({})  # type: ignore[arg-type]


# -- changes since the plan --------------------------------------------------------------------


def test_a_tag_that_moved_is_left_alone(memory: RegistryClient) -> None:
    old = put_image(memory, "old", "old-too", days=50)
    new = put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    put(memory, new, "old")
    done = memory.apply_retention(made)
    (item,) = done.changed
    assert (item.digest, done.deleted) == (old.digest, ())
    assert "moved" in item.reason
    assert list(memory.tags(REPOSITORY)) == ["new", "old", "old-too"]


def test_a_tag_moved_alone_is_left_alone(memory: RegistryClient) -> None:
    """The same for a tag that the plan deletes alone."""
    put_image(memory, "v1", "latest", days=50)
    made = memory.plan_retention(REPOSITORY, RetentionPolicy(tags=["v*"], keep=["x"]))
    new = put_image(memory, "v1", days=1)
    assert tags_in(memory.apply_retention(made).changed) == ["v1"]
    assert memory.manifest_head(REPOSITORY, "v1").digest == new.digest


@pytest.mark.parametrize("how", ["directly", "in an index", "in a nested index"])
def test_a_manifest_that_got_a_tag_is_left_alone_with_its_own(
    memory: RegistryClient, how: str
) -> None:
    """Nothing that a tag reaches by now is deleted, and neither are its referrers."""
    image = put_image(memory, "old", days=50)
    sbom = refer(memory, image)
    signature = sign(memory, image)
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    if how == "directly":
        put(memory, image, "precious")
    else:
        index = put_index(memory, of=[image])
        put_index(memory, "precious", of=[index] if how == "in a nested index" else [image])
    before = manifests(memory)
    done = memory.apply_retention(made)
    assert digests_in(done.changed) == {image.digest, sbom.digest, signature.digest}
    assert "precious" in done.changed[0].reason
    assert manifests(memory) == before


def test_the_platforms_of_an_index_that_moved_are_left_alone(memory: RegistryClient) -> None:
    image = put_image(memory, days=50, name="p")
    index = put_index(memory, "old", of=[image])
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    put_image(memory, "old", days=0.5, name="moved")
    done = memory.apply_retention(made)
    assert digests_in(done.changed) == {index.digest, image.digest}
    assert {index.digest, image.digest} <= manifests(memory)


def test_changes_between_two_deletions_are_seen(memory: RegistryClient) -> None:
    """A tag moves onto a manifest while the plan is applied."""
    images = {tag: put_image(memory, tag, days=50) for tag in ("a", "b", "c")}
    put_image(memory, "new", "latest", days=1)
    made = memory.plan_retention(REPOSITORY, RetentionPolicy(tags=["a", "b", "c"], keep=["x"]))

    def progress(done: int, total: int | None) -> None:
        if done == 1:
            moves.append("latest")

    moves: list[str] = []
    told: list[tuple[str, RetentionItem]] = []
    real = memory.driver.tag_page

    def tag_page(repository: str, **options: Any) -> Any:
        if moves:
            tag = moves.pop()
            yield from memory.driver.put_manifest(repository, tag, images["b"], media_type=None)
        return (yield from real(repository, **options))

    vars(memory.driver)["tag_page"] = tag_page
    done = memory.apply_retention(
        made, progress=progress, item_done=lambda *outcome: told.append(outcome)
    )
    assert tags_in(done.changed) == ["b"]
    assert tags_in(done.deleted) == ["a", "c"]
    first, last = done.deleted
    assert told == [("deleted", first), ("changed", done.changed[0]), ("deleted", last)]


def test_a_referrer_that_came_since_stays(memory: RegistryClient) -> None:
    """The referrers tag moved to an index that lists one more, so it and its entries stay."""
    image = put_image(memory, "old", days=50)
    sbom = refer(memory, image)
    put_fallback_tag(memory, image, sbom)
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    more = refer(memory, image, name="more")
    put_fallback_tag(memory, image, sbom, more)
    done = memory.apply_retention(made)
    assert digests_in(done.deleted) == {image.digest}
    assert {sbom.digest, more.digest} <= manifests(memory)


# -- interruptions and failures ----------------------------------------------------------------


@pytest.fixture
def planned(memory: RegistryClient) -> RetentionPlan:
    """A plan with two indexes, platforms, referrers and a tag that goes alone."""
    for name in ("v1", "v2"):
        images = [put_image(memory, days=50, name=f"{name}-p{n}") for n in range(2)]
        index = put_index(memory, name, of=images)
        put_fallback_tag(memory, index, refer(memory, index, name=f"sbom of {name}"))
        sign(memory, images[0])
    put_image(memory, "v3", "latest", days=50)
    return memory.plan_retention(REPOSITORY, RetentionPolicy(tags=["v*"], keep=["x"]))


def test_a_plan_that_was_killed_anywhere_does_the_rest_when_it_runs_again(
    memory: RegistryClient, planned: RetentionPlan
) -> None:
    total = len(planned.delete)
    assert total == 13
    for stop in range(1, total):
        left = manifests(memory), list(memory.tags(REPOSITORY))
        with pytest.raises(Cut):
            memory.apply_retention(planned, progress=killed_after(stop))
        assert left != (manifests(memory), list(memory.tags(REPOSITORY)))  # one more is gone
    deleted = total - 1
    done = memory.apply_retention(planned)
    assert (len(done.gone), len(done.deleted)) == (deleted, total - deleted)
    assert not done.failed
    assert not done.changed
    assert list(memory.tags(REPOSITORY)) == ["latest"]
    assert len(manifests(memory)) == 1
    assert len(memory.apply_retention(planned).gone) == total


def test_the_images_of_an_index_that_cannot_be_deleted_stay(
    memory: RegistryClient, planned: RetentionPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = manifests(memory)
    error = ServerError("no", status=500)
    broken(memory, monkeypatch, "delete_manifest", error, None)
    done = memory.apply_retention(planned)
    first = planned.delete[0].digest
    assert done.failed[0].digest == first
    assert done.failed[0].error == "ServerError: no"
    # nothing of the first index was deleted, but all of the second
    depending = {first}
    for item in planned.delete:
        if depending & set(item.after):
            depending.add(item.digest)
    assert len(depending) == 6
    assert digests_in(done.failed) == depending
    assert depending <= manifests(memory) < before
    assert len(done.deleted) == len(planned.delete) - 6


@pytest.mark.parametrize("error", [Denied("no", status=403), BlobUnknown("?", status=500)])
def test_a_refused_deletion_does_not_stop_the_others(
    memory: RegistryClient, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for tag in ("a", "b", "c"):
        put_image(memory, tag, days=50)
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    if isinstance(error, Denied):
        broken(memory, monkeypatch, "delete_manifest", None, error, None)
        done = memory.apply_retention(made)
        assert len(done.failed) == 1
        assert len(done.deleted) == 2
    else:  # NotFound: somebody else was faster
        broken(memory, monkeypatch, "delete_manifest", ManifestUnknown("gone", status=404))
        done = memory.apply_retention(made)
        assert not done.failed


@pytest.mark.parametrize("error", [Unsupported("read-only", status=405), ConnectionFailed("down")])
def test_a_registry_that_deletes_nothing_is_asked_once(
    memory: RegistryClient,
    planned: RetentionPlan,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    calls = broken(memory, monkeypatch, "delete_manifest", error)
    before = manifests(memory)
    done = memory.apply_retention(planned)
    assert len(calls) == 1
    assert digests_in(done.failed) == digests_in(planned.delete)
    assert all(str(error) in (item.error or "") for item in done.failed)
    assert manifests(memory) == before


def test_a_plan_is_blocked_where_a_tag_cannot_be_deleted_alone(
    memory: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = broken(memory, monkeypatch, "deletes_tags", Denied("no", status=403))
    image = put_image(memory, "v1", "latest", days=50)
    platform = put_image(memory, "v1-amd64", days=50)
    put_index(memory, "stable", of=[platform])
    made = plan(memory, keep=["latest", "stable"])
    assert not made.delete
    reasons = {item.tags: item.reason for item in made.blocked}
    assert "'latest'" in reasons["v1",]
    assert "'stable'" in reasons["v1-amd64",]
    assert digests_in(made.blocked) == {image.digest, platform.digest}
    assert len(calls) == 1


def test_a_plan_without_lone_tags_does_not_ask_whether_tags_can_be_deleted(
    memory: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = broken(memory, monkeypatch, "deletes_tags", Denied("no", status=403))
    put_image(memory, "v1", days=50)
    put_image(memory, "v2", days=1)
    assert tags_in(plan(memory, keep_last=1).delete) == ["v1"]
    assert not calls


def test_by_default_a_random_tag_shows_whether_tags_can_be_deleted(
    memory: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(memory, "v1", days=50)
    assert memory.run(RegistryDriver.deletes_tags(memory.driver, REPOSITORY)) is True
    calls = broken(memory, monkeypatch, "delete_tag", Unsupported("no", status=400))
    assert memory.run(RegistryDriver.deletes_tags(memory.driver, REPOSITORY)) is False
    assert memory.run(RegistryDriver.deletes_tags(memory.driver, REPOSITORY)) is False
    assert len(set(calls)) == 2
    assert "v1" not in calls


def test_a_closed_client_is_an_error(memory: RegistryClient) -> None:
    put_image(memory, "old", days=50)
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    vars(memory.driver)["delete_manifest"] = _closed
    with pytest.raises(DockhandError, match="closed"):
        memory.apply_retention(made)


def _closed(*_: Any, **__: Any) -> Any:
    raise DockhandError("this client is closed")
    yield


def test_an_index_that_could_not_be_read_is_read_again(
    memory: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error while it is read must not make it an index that needs nothing."""
    for n in range(2):
        put_image(memory, f"old{n}", days=50 + n)
    child = put_image(memory, "old2", days=60)
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    put_index(memory, "since", of=[child])
    broken(memory, monkeypatch, "manifest", ServerError("busy", status=500), None)
    done = memory.apply_retention(made)
    assert len(done.failed) == 1
    assert tags_in(done.changed) == ["old2"]
    assert child.digest in manifests(memory)


def test_a_deletion_without_a_digest_is_refused(memory: RegistryClient) -> None:
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    odd = made.model_copy(update={"delete": (made.keep[0].model_copy(update={"digest": None}),)})
    with pytest.raises(RetentionPlanInvalid, match="without a digest"):
        memory.apply_retention(odd)
    assert tags_in(plan(memory, keep_last=1).keep) == ["new"]


# -- large repositories ------------------------------------------------------------------------


def test_a_long_look_serves_as_long_again(
    memory: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(6):
        put_image(memory, f"v{n}", days=50)
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    heads = broken(memory, monkeypatch, "manifest_head", None)
    monkeypatch.setattr(apply, "LONG_LOOK", 0.0)
    now = [0.0]

    def monotonic() -> float:
        now[0] += 1000
        return now[0]

    monkeypatch.setattr(apply, "monotonic", monotonic)
    done = memory.apply_retention(made)
    assert len(done.deleted) == 6
    # one look at all seven tags, then, with the tag of each deletion, looks at fewer
    assert len(heads) < 6 * 7


def test_each_deletion_looks_at_all_tags(
    memory: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        put_image(memory, f"v{n}", days=50)
    put_image(memory, "new", days=1)
    made = plan(memory, keep_last=1)
    heads = broken(memory, monkeypatch, "manifest_head", None)
    memory.apply_retention(made)
    # the tags that are left, and after each deletion once its own
    assert len([head for head in heads if head == "new"]) == 3
    assert len(heads) == (4 + 1) + (3 + 1) + (2 + 1)
