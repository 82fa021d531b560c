"""Copies of images, indexes and artifacts between registries, and of many tags."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dockhand_testing.blocking import BlockingLoop, as_blocking
from dockhand_testing.contracts.samples import config_of, push_blob, push_image, push_index
from watched_registry import WatchedRegistry, watched_registry

from dockhand_core import (
    Descriptor,
    DigestMismatch,
    DockhandError,
    ImageIndex,
    ImageManifest,
    ManifestUnknown,
    NameInvalid,
    Platform,
    PlatformNotFound,
    RegistryClient,
    TagInvalid,
    TagPatternInvalid,
    async_connect,
    connect,
)
from dockhand_core.models import media

MakeClient = Callable[..., RegistryClient]
QUIET = {"logging": {"driver": "null"}}


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    """Provide a function that makes a sync or an async client."""
    loop = BlockingLoop()
    clients: list[Any] = []

    def client(url: str = ":memory:", **settings: Any) -> RegistryClient:
        settings |= QUIET | ({"driver": "embedded"} if url == ":memory:" else {})
        if request.param == "sync":
            clients.append(connect(url, **settings))
        else:
            clients.append(as_blocking(loop, async_connect(url, **settings)))
        return clients[-1]  # type: ignore[no-any-return]

    yield client
    for each in clients:
        each.close()
    loop.close()


@pytest.fixture
def watched() -> Iterator[WatchedRegistry]:
    """Run a registry that records its requests."""
    with watched_registry() as found:
        yield found


def everything(registry: RegistryClient, repository: str, reference: str) -> dict[str, bytes]:
    """All manifests and blobs that a reference reaches, by digest."""
    found: dict[str, bytes] = {}
    document = registry.manifest(repository, reference)
    found[document.digest] = document.raw
    if isinstance(document, ImageIndex):
        for entry in document.manifests:
            found |= everything(registry, repository, entry.digest)
    else:
        for blob in (document.config, *document.layers):
            found[blob.digest] = registry.read_blob(repository, blob)
    return found


def push_attestation(registry: RegistryClient, image: Descriptor) -> Descriptor:
    """Push an attestation as BuildKit stores it, and return its entry in an index."""
    statement = push_blob(registry, "app", b"{}" + image.digest.encode(), "application/vnd.in-toto")
    config = push_blob(registry, "app", config_of("unknown"), media.OCI_CONFIG)
    manifest = ImageManifest(config=config, layers=(statement,))
    registry.put_manifest("app", manifest.digest, manifest)
    return manifest.descriptor().model_copy(
        update={
            "platform": Platform("unknown", "unknown"),
            "annotations": {
                "vnd.docker.reference.digest": image.digest,
                "vnd.docker.reference.type": "attestation-manifest",
            },
        }
    )


def push_attested_index(registry: RegistryClient) -> ImageIndex:
    """Push `app:v1`, an index of two images with an attestation each."""
    images = list(push_index(registry, "app", "plain").manifests)
    entries = images + [push_attestation(registry, image) for image in images]
    index = ImageIndex(manifests=tuple(entries), annotations={"made": "here"})
    registry.put_manifest("app", "v1", index)
    return index


def push_referrer(registry: RegistryClient, subject: Descriptor, text: bytes) -> ImageManifest:
    """Push an artifact that refers to a manifest."""
    empty = push_blob(registry, "app", b"{}", media.OCI_EMPTY)
    layer = push_blob(registry, "app", text, "text/plain")
    manifest = ImageManifest(
        artifact_type="application/x-sbom", config=empty, layers=(layer,), subject=subject
    )
    registry.put_manifest("app", manifest.digest, manifest)
    return manifest


def test_an_index_arrives_with_all_below_it(make: MakeClient) -> None:
    a, b = make(), make()
    index = push_attested_index(a)
    seen: list[tuple[int, int | None]] = []
    result = a.copy("app", "v1", to=b, progress=lambda *state: seen.append(state))
    assert everything(b, "app", "v1") == everything(a, "app", "v1")
    assert (result.digest, result.tag, result.error) == (index.digest, "v1", None)
    # the two attestations share their config
    assert (result.manifests, result.blobs_copied, result.blobs_skipped) == (5, 7, 0)
    assert seen[0] == (0, None)
    assert seen[-1] == (result.bytes_copied, result.bytes_copied)
    again = a.copy("app", "v1", to=b)
    assert (again.blobs_copied, again.blobs_skipped, again.bytes_copied) == (0, 7, 0)


def test_the_order_is_blobs_then_children_then_the_tag(
    make: MakeClient, watched: WatchedRegistry
) -> None:
    a, b = make(), make(watched.url)
    index = push_attested_index(a)
    a.copy("app", "v1", to=b, concurrency=1)
    puts = [path for method, path in watched.requests if method == "PUT" and "/manifests/" in path]
    assert sorted(puts[:-1]) == sorted(f"/v2/app/manifests/{d.digest}" for d in index.manifests)
    assert puts[-1] == "/v2/app/manifests/v1"
    assert watched.requests[-1] == ("PUT", "/v2/app/manifests/v1")
    # each manifest as soon as its blobs are there
    positions = [n for n, (_, path) in enumerate(watched.requests) if path == puts[0]]
    assert positions[0] < len(watched.requests) - 10
    assert len(set(watched.requests)) == len(watched.requests)


def test_one_tag_more_takes_a_get_and_a_put(make: MakeClient, watched: WatchedRegistry) -> None:
    registry = make(watched.url)
    index = push_index(registry, "app", "v1")
    watched.requests.clear()
    result = registry.copy("app", "v1", to_reference="latest")
    assert watched.requests == [
        ("GET", "/v2/app/manifests/v1"),
        ("PUT", "/v2/app/manifests/latest"),
    ]
    assert (result.digest, result.tag, result.manifests) == (index.digest, "latest", 1)
    # another client of the same registry, too
    watched.requests.clear()
    registry.copy("app", "v1", to=make(watched.url + "/v2/"), to_reference="stable")
    assert len(watched.requests) == 2


def test_blobs_are_mounted_within_one_registry(make: MakeClient, watched: WatchedRegistry) -> None:
    registry = make(watched.url)
    push_image(registry, "dev/app", "v1")
    for number, other in enumerate((registry, make(watched.url))):
        result = registry.copy("dev/app", "v1", to=other, to_repository=f"prod/app{number}")
        assert (result.blobs_mounted, result.blobs_copied) == (2, 0)
    assert watched.count("GET", "/blobs/") == 0
    assert everything(registry, "prod/app1", "v1") == everything(registry, "dev/app", "v1")


def test_what_the_target_has_elsewhere_is_mounted(make: MakeClient) -> None:
    a, b = make(), make()
    push_image(a, "app", "v1")
    assert a.copy("app", "v1", to=b).blobs_copied == 2
    assert a.copy("app", "v1", to=b, to_repository="other").blobs_mounted == 2
    b.delete_manifest("app", b.manifest_head("app", "v1").digest)


def test_an_upload_that_a_mount_begins_gets_the_blob(
    make: MakeClient, watched: WatchedRegistry
) -> None:
    a, b = make(), make(watched.url)
    image = push_image(a, "app", "v1")
    a.copy("app", "v1", to=b)
    for blob in (image.config, *image.layers):
        b.delete_blob("app", blob.digest)
    watched.requests.clear()
    result = a.copy("app", "v1", to=b, to_repository="other")
    assert (result.blobs_copied, result.blobs_mounted) == (2, 0)
    assert watched.count("POST") == watched.count("POST", "mount=") == 2
    assert everything(b, "other", "v1") == everything(a, "app", "v1")


@pytest.mark.parametrize("reference", ["digest", "descriptor"])
def test_a_digest_is_pushed_without_a_tag(make: MakeClient, reference: str) -> None:
    a, b = make(), make()
    image = push_image(a, "app", "v1")
    result = a.copy("app", image.digest if reference == "digest" else image.descriptor(), to=b)
    assert (result.digest, result.tag) == (image.digest, None)
    assert b.manifest("app", image.digest).raw == image.raw
    assert a.copy("app", image.digest, to=b, to_reference="v2").tag == "v2"
    assert list(b.tags("app")) == ["v2"]


def test_platforms_come_with_their_attestations(make: MakeClient) -> None:
    a, b = make(), make()
    index = push_attested_index(a)
    result = a.copy("app", "v1", to=b, platforms=["linux/arm64"])
    part = b.manifest("app", "v1")
    assert isinstance(part, ImageIndex)
    assert part.manifests == (index.manifests[1], index.manifests[3])
    assert (part.media_type, part.annotations) == (index.media_type, {"made": "here"})
    assert result.digest == part.digest != index.digest
    assert result.blobs_copied == 4
    whole = a.copy("app", "v1", to=b, platforms=["linux/arm64/v8", Platform("linux", "x86_64")])
    assert whole.digest == index.digest  # nothing is left out


def test_platforms_are_found_in_indexes_within_an_index(make: MakeClient) -> None:
    a, b = make(), make()
    inner = push_attested_index(a)
    nested = Descriptor(media_type=inner.media_type, digest=inner.digest, size=len(inner.raw))
    outer = ImageIndex(manifests=(nested,), annotations={"outer": "yes"})
    a.put_manifest("app", "outer", outer)
    a.copy("app", "outer", to=b, platforms=["linux/arm64"])
    part = b.manifest("app", "outer")
    assert isinstance(part, ImageIndex)
    assert part.manifests == (inner.manifests[1], inner.manifests[3])
    assert part.annotations == {"outer": "yes"}
    with pytest.raises(PlatformNotFound, match=r"linux/s390x; the index has: linux/"):
        a.copy("app", "outer", to=b, platforms=["linux/s390x"])


def test_one_platform_comes_without_an_index(make: MakeClient) -> None:
    a, b = make(), make()
    index = push_attested_index(a)
    result = a.copy("app", index.digest, to=b, platform="linux/arm64")
    assert result.digest == index.manifests[1].digest
    assert everything(b, "app", result.digest) == everything(a, "app", result.digest)


def test_missing_platforms_are_all_named(make: MakeClient) -> None:
    a, b = make(), make()
    push_attested_index(a)
    with pytest.raises(
        PlatformNotFound,
        match="linux/s390x, windows/amd64; the index has: linux/amd64, linux/arm64",
    ):
        a.copy("app", "v1", to=b, platforms=["linux/s390x", "linux/amd64", "windows/amd64"])
    with pytest.raises(PlatformNotFound, match="linux/arm"):
        a.copy("app", "amd64", to=b, platforms=["linux/arm/v7"])
    assert a.copy("app", "amd64", to=b, platforms=["linux/amd64"]).blobs_copied == 2
    assert list(b.tags("app")) == ["amd64"]


def test_wrong_arguments_are_refused_before_a_request(
    make: MakeClient, watched: WatchedRegistry
) -> None:
    a, b = make(watched.url), make()
    digest = "sha256:" + "0" * 64
    wrong: list[tuple[type[Exception], dict[str, Any]]] = [
        (DockhandError, {"platforms": ["linux/amd64"], "reference": digest}),
        (DockhandError, {"platforms": ["linux/amd64"], "to_reference": digest}),
        (DockhandError, {"platforms": ["linux/amd64"], "platform": "linux/amd64"}),
        (DockhandError, {"platforms": []}),
        (DockhandError, {"platforms": ["amd64"]}),
        (DockhandError, {"convert": "docker"}),
        (DockhandError, {"concurrency": 0}),
        (TagInvalid, {"to_reference": "a b"}),
        (NameInvalid, {"to_repository": "Upper"}),
        (NameInvalid, {"to_repository": ""}),
    ]
    for kind, arguments in wrong:
        reference = arguments.pop("reference", "v1")
        with pytest.raises(kind):
            a.copy("app", reference, to=b, **arguments)
    for arguments in ({"tags": ["["]}, {"tags": "v*"}):
        with pytest.raises(TagPatternInvalid):
            a.copy_tags("app", to=b, **arguments)
    with pytest.raises(DockhandError, match="newest"):
        a.copy_tags("app", to=b, newest=0)
    assert watched.requests == []


def test_the_clients_are_of_one_kind() -> None:
    async_client: Any = async_connect(":memory:", driver="embedded")
    with connect(":memory:", driver="embedded") as client:
        with pytest.raises(TypeError, match="a sync RegistryClient, not an AsyncDistribution"):
            client.copy("app", "v1", to=async_client)
        with pytest.raises(TypeError, match="an AsyncRegistryClient"):
            async_client.copy_tags("app", to=client)


def test_another_digest_as_target_is_refused(make: MakeClient) -> None:
    a, b = make(), make()
    push_image(a, "app", "v1")
    with pytest.raises(DigestMismatch):
        a.copy("app", "v1", to=b, to_reference="sha256:" + "0" * 64)
    assert list(b.repositories()) == []
    with pytest.raises(ManifestUnknown):
        a.copy("app", "v2", to=b)


def test_referrers_come_along_recursively_before_the_tag(
    make: MakeClient, watched: WatchedRegistry
) -> None:
    a, b = make(), make(watched.url)
    index = push_attested_index(a)
    sbom = push_referrer(a, index.descriptor(), b"an SBOM")
    signature = push_referrer(a, sbom.descriptor(), b"the SBOM's signature")
    of_child = push_referrer(a, index.manifests[0], b"of an image")
    a.put_manifest("app", f"sha256-{index.digest.encoded}.sig", push_image(a, "app", "sig"))
    a.put_manifest("app", f"sha256-{'0' * 64}.sig", push_image(a, "app", "sig"))
    result = a.copy("app", "v1", to=b, referrers=True)
    assert watched.requests[-1] == ("PUT", "/v2/app/manifests/v1")
    for subject, referrer in ((index, sbom), (sbom, signature), (index.manifests[0], of_child)):
        assert [d.digest for d in b.referrers("app", subject.digest).manifests] == [referrer.digest]
        assert everything(b, "app", referrer.digest) == everything(a, "app", referrer.digest)
    assert list(b.tags("app")) == [f"sha256-{index.digest.encoded}.sig", "v1"]
    assert (result.manifests, result.dropped) == (9, ())
    assert a.copy("app", "v1", to=make()).manifests == 5


def test_referrers_of_an_index_that_is_replaced_are_dropped(make: MakeClient) -> None:
    a, b = make(), make()
    index = push_attested_index(a)
    sbom = push_referrer(a, index.descriptor(), b"an SBOM")
    of_child = push_referrer(a, index.manifests[0], b"of an image")
    signature = f"sha256-{index.digest.encoded}.sig"
    a.put_manifest("app", signature, push_image(a, "app", "sig"))
    result = a.copy("app", "v1", to=b, platforms=["linux/amd64"], referrers=True)
    assert [d.digest for d in result.dropped] == [sbom.digest, a.manifest_head("app", "sig").digest]
    assert result.dropped[1].annotations == {"org.opencontainers.image.ref.name": signature}
    assert b.manifest_exists("app", of_child.digest)
    assert not b.manifest_exists("app", sbom.digest)
    assert list(b.tags("app")) == ["v1"]
    part = a.copy("app", "v1", to_reference="part", platforms=["linux/amd64"], referrers=True)
    assert part.dropped == result.dropped  # the same within one repository


def test_a_listed_referrer_that_does_not_exist_is_dropped(make: MakeClient) -> None:
    a, b = make(), make()
    image = push_image(a, "app", "v1")
    lost = push_referrer(a, image.descriptor(), b"lost").descriptor()
    listed = a.referrers("app", image.digest).manifests
    driver: Any = a.driver
    real = driver.referrers

    def stale(*args: Any, **options: Any) -> Any:
        yield from real(*args, **options)
        return ImageIndex(manifests=listed if args[1] == image.digest else ())

    driver.referrers = stale
    a.delete_manifest("app", lost.digest)
    result = a.copy("app", "v1", to=b, referrers=True)
    assert [d.digest for d in result.dropped] == [lost.digest]
    assert b.manifest_exists("app", "v1")


def push_docker_index(registry: RegistryClient) -> ImageIndex:
    """Push `app:docker`, a manifest list of Docker's with one image and its attestation."""
    config = push_blob(registry, "app", config_of(), media.DOCKER_CONFIG)
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    layer = push_blob(registry, "app", gzip.compress(b"layer"), kind)
    foreign = Descriptor(
        media_type="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        digest="sha256:" + "1" * 64,
        size=5,
        urls=("https://example.com/layer",),
    )
    image = ImageManifest(media_type=media.DOCKER_MANIFEST, config=config, layers=(foreign, layer))
    registry.put_manifest("app", image.digest, image)
    entry = image.descriptor().model_copy(update={"platform": Platform("linux", "amd64")})
    attested = push_attestation(registry, image.descriptor())
    index = ImageIndex(media_type=media.DOCKER_LIST, manifests=(entry, attested))
    registry.put_manifest("app", "docker", index)
    return index


def test_docker_manifests_are_converted(make: MakeClient) -> None:
    a, b = make(), make()
    index = push_docker_index(a)
    sbom = push_referrer(a, index.descriptor(), b"an SBOM")
    result = a.copy("app", "docker", to=b, convert="oci", referrers=True)
    found = b.manifest("app", "docker")
    assert isinstance(found, ImageIndex)
    assert found.media_type == media.OCI_INDEX
    image = b.image("app", "docker")
    assert json.loads(image.raw)["mediaType"] == image.media_type == media.OCI_MANIFEST
    assert image.config.media_type == media.OCI_CONFIG
    assert [layer.media_type for layer in image.layers] == [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        media.OCI_LAYER_GZIP,
    ]
    assert found.manifests[0].media_type == media.OCI_MANIFEST
    attestation = found.manifests[1]
    assert attestation.annotations["vnd.docker.reference.digest"] == image.digest
    assert attestation.digest == index.manifests[1].digest
    assert [d.digest for d in result.dropped] == [sbom.digest]
    assert result.digest == found.digest
    # an image that is OCI's already stays as it is
    plain = push_image(a, "app", "oci")
    assert a.copy("app", "oci", to=b, convert="oci").digest == plain.digest


def test_layers_that_are_not_distributable_are_left_out(make: MakeClient) -> None:
    a, b = make(), make()
    index = push_docker_index(a)
    result = a.copy("app", "docker", to=b)
    assert result.digest == index.digest
    assert result.blobs_copied == 4
    assert b.manifest("app", "docker").raw == index.raw


def test_tags_are_copied_by_patterns(make: MakeClient) -> None:
    a, b = make(), make()
    for tag in ("1.0", "1.1", "2.0", "stable", f"sha256-{'a' * 64}.sig"):
        push_image(a, "app", tag, architecture=tag.replace(".", ""))
    results = list(a.copy_tags("app", to=b, to_repository="new", tags=["1.*", "re:sta.+"]))
    assert sorted(str(result.tag) for result in results) == ["1.0", "1.1", "stable"]
    assert all(result.error is None for result in results)
    assert list(b.tags("new")) == ["1.0", "1.1", "stable"]
    assert {result.tag for result in a.copy_tags("app", to=b)} == {"1.0", "1.1", "2.0", "stable"}


def test_shared_content_of_tags_goes_once(make: MakeClient, watched: WatchedRegistry) -> None:
    a, b = make(), make(watched.url)
    push_attested_index(a)
    for number in range(10):
        a.copy("app", "v1", to_reference=f"again{number}")
    seen: list[tuple[int, int | None]] = []
    results = list(a.copy_tags("app", to=b, progress=lambda *state: seen.append(state)))
    assert len(results) == 14
    assert len(set(watched.requests)) == len(watched.requests)
    assert sum(result.blobs_copied for result in results) == 7
    assert seen == sorted(seen, key=lambda state: state[0])
    assert seen[-1][0] == seen[-1][1] == sum(result.bytes_copied for result in results)
    for result in results:
        assert everything(b, "app", str(result.tag)) == everything(a, "app", str(result.tag))


def test_the_newest_tags_are_those_with_the_newest_images(make: MakeClient) -> None:
    a, b = make(), make()
    for day in (3, 1, 2):
        text = json.dumps({"created": f"2026-01-0{day}T00:00:00Z", "os": "linux"}).encode()
        config = push_blob(a, "app", text, media.OCI_CONFIG)
        a.put_manifest("app", f"day{day}", ImageManifest(config=config))
    assert {r.tag for r in a.copy_tags("app", to=b, newest=2)} == {"day2", "day3"}


def test_a_third_partys_driver_takes_a_source_as_an_iterable(make: MakeClient) -> None:
    a, b = make(), make()
    layer = push_blob(a, "app", bytes(3 << 20), media.OCI_LAYER)
    config = push_blob(a, "app", config_of(), media.OCI_CONFIG)
    a.put_manifest("app", "v1", ImageManifest(config=config, layers=(layer,)))
    driver: Any = b.driver
    from dockhand_core.driver import RegistryDriver
    from dockhand_core.flow import iterator_of, take
    from dockhand_core.operations import BufferedUpload

    def upload_blob(repository: str, data: Any, *, digest: Any, progress: Any) -> Any:
        upload = BufferedUpload(driver, repository)
        yield from upload.begin()
        iterator = iterator_of(data)
        while (block := (yield from take(iterator))) is not None:
            upload.add(block)
            yield from upload.send_chunks()
        yield from upload.finish(digest)
        return upload.result

    driver.upload_blob = upload_blob
    driver.send_blob = lambda *args, **options: RegistryDriver.send_blob(driver, *args, **options)
    assert a.copy("app", "v1", to=b).blobs_copied == 2
    assert everything(b, "app", "v1") == everything(a, "app", "v1")


def test_a_manifest_is_pushed_again_where_the_registry_misses_a_blob_for_a_moment(
    make: MakeClient, watched: WatchedRegistry
) -> None:
    a, b = make(), make(watched.url)
    image = push_image(a, "app", "v1")
    missed = iter([(404, b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}')])
    watched.answer = lambda method, path: (
        next(missed, None) if method == "PUT" and "/manifests/" in path else None
    )
    assert a.copy("app", "v1", to=b).digest == image.digest
    assert watched.count("PUT", "/manifests/") == 2


def test_large_blobs_that_the_target_has_are_skipped(make: MakeClient) -> None:
    a, b = make(), make()
    layer = push_blob(a, "app", bytes(9 << 20), media.OCI_LAYER)
    config = push_blob(a, "app", config_of(), media.OCI_CONFIG)
    a.put_manifest("app", "v1", ImageManifest(config=config, layers=(layer,)))
    assert a.copy("app", "v1", to=b).blobs_copied == 2
    assert a.copy("app", "v1", to=b).blobs_skipped == 2
