"""Retention on real registries: what a plan says is what happens, and what tags reach stays."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dated_images
import pytest
from dated_images import (
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
from http_cassettes import BlockingAsyncClient
from registries import Clients, crane_registry, distribution, embedded, zot

from dockhand_core import (
    NotFound,
    RegistryClient,
    RetentionPlan,
    RetentionPlanInvalid,
    RetentionPolicy,
    connect,
)

pytestmark = pytest.mark.live

QUIET = {"driver": "null"}


@dataclass(frozen=True)
class Server:
    """A real registry.

    Attributes:
        name: its name in the ids of tests.
        driver: the driver of its clients.
        lone_tags: whether it can delete a tag alone.
        options: settings of its storage or extensions.
    """

    name: str
    driver: str = "distribution"
    lone_tags: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def start(self, folder: Path) -> AbstractContextManager[str]:
        """Run the registry."""
        if self.driver == "zot":
            return zot(folder, **self.options)
        if self.name == "crane":
            return crane_registry(folder)
        if self.name == "embedded":
            return embedded(folder)
        version, *disabled = self.name.split()
        storage: dict[str, Any] = {"filesystem": {"rootdirectory": str(folder / "data")}}
        if not disabled:
            storage["delete"] = {"enabled": True}
        return distribution(version, folder, storage=storage)


SERVERS = [
    Server("2.8", lone_tags=False),
    Server("3.1"),
    Server("zot", "zot"),
    Server("zot-search", "zot", options={"search": {"enable": True}}),
    Server("crane"),
    Server("embedded"),
]


@pytest.fixture(scope="module", params=SERVERS, ids=lambda server: server.name)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, str]]:
    server: Server = request.param
    with server.start(tmp_path_factory.mktemp("registry")) as url:
        yield server, url


@pytest.fixture
def server(running: tuple[Server, str]) -> Server:
    return running[0]


@pytest.fixture(params=["sync", "async"])
def registry(
    running: tuple[Server, str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RegistryClient]:
    make: Any = connect if request.param == "sync" else BlockingAsyncClient
    # a repository of its own for each test
    monkeypatch.setattr(dated_images, "REPOSITORY", f"team/{uuid.uuid4().hex}")
    with make(running[1], driver=running[0].driver, logging=QUIET) as client:
        yield client


def _tags(client: RegistryClient) -> list[str]:
    try:
        return sorted(client.tags(dated_images.REPOSITORY))
    except NotFound:
        return []


def exists(client: RegistryClient, manifest: Any) -> bool:
    return client.manifest_exists(dated_images.REPOSITORY, manifest.digest)


def plan(client: RegistryClient, *tags: str, **rules: Any) -> RetentionPlan:
    policy = RetentionPolicy(tags=tags or ["*"], **rules)
    return client.plan_retention(dated_images.REPOSITORY, policy)


def test_an_image_goes_with_all_that_belongs_to_it(
    server: Server, registry: RegistryClient
) -> None:
    """Platforms, attestations, SBOMs by the API or the fallback tag, cosign's signatures."""
    images = [put_image(registry, days=50, name=f"p{n}") for n in range(2)]
    index = put_index(registry, "v1", "v1.0", of=images)
    sbom = refer(registry, index, name="sbom")
    gone = [
        *images,
        index,
        sbom,
        refer(registry, images[0], name="attestation"),
        refer(registry, sbom, name="signature of the sbom"),
        sign(registry, index),
        sign(registry, images[1], ".att"),
    ]
    shared = put_image(registry, "v2-amd64", days=50)
    kept = [put_index(registry, "v2", of=[shared]), shared, put_image(registry, "new", days=1)]
    kept += [refer(registry, kept[0], name="sbom of v2"), sign(registry, shared)]
    before = _tags(registry)
    made = plan(registry, "v1*", keep=["v2*"])
    assert {each.digest for each in gone} <= whole(made.delete)
    assert not {each.digest for each in kept} & digests_in(made.delete)
    made = RetentionPlan.from_json(made.to_json())
    done = registry.apply_retention(made)
    assert not done.failed, done.failed
    assert not done.changed
    assert done.deleted == made.delete
    assert [
        each for each in gone if registry.manifest_exists(dated_images.REPOSITORY, each.digest)
    ] == []
    assert [
        each for each in kept if not registry.manifest_exists(dated_images.REPOSITORY, each.digest)
    ] == []
    assert _tags(registry) == sorted(set(before) - set(tags_in(made.delete)))
    assert {
        entry.digest
        for entry in registry.referrers(dated_images.REPOSITORY, kept[0].digest).manifests
    } == {kept[3].digest}
    assert not plan(registry, "v1*", keep=["v2*"]).delete
    again = registry.apply_retention(made)
    assert again.gone == made.delete


def test_a_fallback_tag_goes_before_its_entries(registry: RegistryClient) -> None:
    """zot refuses to delete what an index lists (405), and a fallback tag is such an index.

    Without the referrers API, `delete_manifest` of a referrer would write the tag again.
    """
    image = put_image(registry, "v1", "v1.0", days=50)
    sboms = [refer(registry, image, name=f"sbom {n}") for n in range(3)]
    tag = put_fallback_tag(registry, image, *sboms)
    put_image(registry, "new", days=1)
    made = plan(registry, "v*", keep=["new"])
    assert [item.digest for item in made.delete][:2] == [image.digest, tag.digest]
    done = registry.apply_retention(made)
    assert done.deleted == made.delete
    assert _tags(registry) == ["new"]
    assert not exists(registry, image)
    assert not exists(registry, tag)
    assert not any(exists(registry, each) for each in sboms)


def test_a_tag_whose_manifest_stays_goes_alone_or_is_blocked(
    server: Server, registry: RegistryClient
) -> None:
    image = put_image(registry, "build-1", "latest", days=50)
    platform = put_image(registry, "v1-amd64", days=50)
    put_index(registry, "v1", of=[platform])
    before = _tags(registry)
    made = plan(registry, keep=["latest", "v1"])
    expected = ["build-1", "v1-amd64"]
    assert tags_in(made.delete if server.lone_tags else made.blocked) == expected
    assert len(made.delete) == (2 if server.lone_tags else 0)
    done = registry.apply_retention(made)
    assert not done.failed
    assert _tags(registry) == (["latest", "v1"] if server.lone_tags else before)
    for each in (image, platform):
        assert exists(registry, each)


def test_ages_come_from_the_push_or_the_build(server: Server, registry: RegistryClient) -> None:
    """zot knows when a tag was pushed; elsewhere the image's own time counts."""
    for n in range(4):
        put_image(registry, f"v{n}", days=n * 100)
    put_image(registry, "undated")
    made = plan(registry, keep_newer_than="30d")
    if server.options:
        assert tags_in(made.keep) == ["undated", "v0", "v1", "v2", "v3"]
        assert tags_in(plan(registry, keep_last=2).keep) == ["undated", "v3"]
    else:
        assert tags_in(made.delete) == ["v1", "v2", "v3"]
        assert tags_in(made.unknown) == ["undated"]
        assert tags_in(plan(registry, keep_last=2).keep) == ["v0", "v1"]


def test_what_changed_since_the_plan_stays(registry: RegistryClient) -> None:
    images = {tag: put_image(registry, tag, days=50) for tag in ("a", "b", "c")}
    new = put_image(registry, "new", days=1)
    made = plan(registry, keep=["new"])
    put(registry, new, "a")
    put(registry, images["b"], "precious")
    done = registry.apply_retention(made)
    assert digests_in(done.changed) == {images["a"].digest, images["b"].digest}
    assert digests_in(done.deleted) == {images["c"].digest}
    assert registry.manifest_exists(dated_images.REPOSITORY, "precious")


@pytest.mark.parametrize("name", ["2.8", "3.1", "zot"])
def test_signatures_of_cosign_go_with_their_image(name: str, tmp_path: Path) -> None:
    """In cosign's own tags and as referrers; those of the image that stays still verify."""
    clients = Clients(tmp_path / "home", COSIGN_PASSWORD="x", COSIGN_EXPERIMENTAL="1")
    clients.run("cosign", "generate-key-pair")
    (clients.home / "predicate.json").write_text("{}")
    options = ("--tlog-upload=false", "--allow-http-registry", "--yes", "--key", "cosign.key")
    (server,) = [each for each in SERVERS if each.name == name]
    with (
        server.start(tmp_path / "registry") as url,
        connect(url, driver=server.driver, logging=QUIET) as registry,
    ):
        old, new = put_image(registry, "v1", days=50), put_image(registry, "v2", days=1)
        image = f"{url.removeprefix('http://')}/{dated_images.REPOSITORY}"
        for each in (old, new):
            named = f"{image}@{each.digest}"
            clients.run("cosign", "sign", *options, named)
            clients.run("cosign", "sign", *options, "--registry-referrers-mode=oci-1-1", named)
            clients.run("cosign", "attest", *options, "--predicate", "predicate.json", named)
        (before,) = registry.referrers(dated_images.REPOSITORY, old.digest).manifests
        made = plan(registry, "v*", keep_last=1)
        done = registry.apply_retention(made)
        assert done.deleted == made.delete
        assert {old.digest, before.digest} <= digests_in(done.deleted)
        tags = _tags(registry)
        assert "v2" in tags
        assert f"sha256-{new.digest.encoded}.sig" in tags
        assert not [tag for tag in tags if tag == "v1" or old.digest.encoded in tag]
        assert not registry.manifest_exists(dated_images.REPOSITORY, before.digest)
        assert registry.referrers(dated_images.REPOSITORY, new.digest).manifests
        verify = ("--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry")
        clients.run("cosign", "verify", *verify, f"{image}:v2")


@pytest.mark.parametrize("version", ["2.8 disabled", "3.1 disabled", "2.8 read-only"])
def test_a_registry_that_deletes_nothing_loses_nothing(version: str, tmp_path: Path) -> None:
    name, state = version.split()
    storage: dict[str, Any] = {"filesystem": {"rootdirectory": str(tmp_path / "data")}}
    with (
        distribution(name, tmp_path / "a", storage=storage) as url,
        connect(url, logging=QUIET) as client,
    ):
        put_image(client, "old", "latest", days=50)
        put_image(client, "older", days=60)
    if state == "read-only":
        storage |= {
            "delete": {"enabled": True},
            "maintenance": {"readonly": {"enabled": True}},
        }
    with (
        distribution(name, tmp_path / "b", storage=storage) as url,
        connect(url, logging=QUIET) as client,
    ):
        made = plan(client, "old*", keep=["latest"])
        assert tags_in(made.blocked) == ["old"]
        assert tags_in(made.delete) == ["older"]
        done = client.apply_retention(made)
        assert tags_in(done.failed) == ["older"]
        assert "Unsupported" in (done.failed[0].error or "")
        assert _tags(client) == ["latest", "old", "older"]


def test_a_plan_is_refused_by_another_server(registry: RegistryClient, tmp_path: Path) -> None:
    put_image(registry, "old", days=50)
    made = plan(registry, keep=["new"])
    with (
        connect("http://127.0.0.1:9", logging=QUIET) as other,  # nothing is asked there
        pytest.raises(RetentionPlanInvalid, match="made for http://127.0.0.1"),
    ):
        other.apply_retention(made)
    assert _tags(registry) == ["old"]
