"""`put_index` with unusual sources: artifacts, entries without a platform, nested indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dockhand_testing.blocking import BlockingLoop, as_blocking
from dockhand_testing.contracts.samples import push_blob, push_image, push_index

from dockhand_core import (
    Descriptor,
    Digest,
    DigestMismatch,
    ImageIndex,
    ImageManifest,
    ManifestInvalid,
    ManifestUnknown,
    Platform,
    RegistryClient,
    async_connect,
    connect,
)
from dockhand_core.models import media

EMPTY = Digest.of(b"{}")


@pytest.fixture(params=["sync", "async"])
def registry(request: pytest.FixtureRequest) -> Iterator[RegistryClient]:
    """Connect a client of both kinds to an embedded registry in memory."""
    settings: dict[str, Any] = {"driver": "embedded", "logging": {"driver": "null"}}
    if request.param == "sync":
        with connect(":memory:", **settings) as client:
            yield client
        return
    loop = BlockingLoop()
    with as_blocking(loop, async_connect(":memory:", **settings)) as client:
        yield client
    loop.close()


def pushed_index(registry: RegistryClient, tag: str) -> ImageIndex:
    """Fetch an index."""
    index = registry.manifest("app", tag)
    assert isinstance(index, ImageIndex)
    return index


def test_platform_of_windows(registry: RegistryClient) -> None:
    config = push_blob(
        registry,
        "app",
        b'{"os":"windows","architecture":"amd64","os.version":"10.0.1","os.features":["win32k"]}',
        media.DOCKER_CONFIG,
    )
    image = ImageManifest(media_type=media.DOCKER_MANIFEST, config=config)
    registry.put_manifest("app", "windows", image)
    registry.put_index("app", "v1", ["windows"], media_type=media.DOCKER_LIST)
    index = pushed_index(registry, "v1")
    assert index.media_type == media.DOCKER_LIST
    assert index.manifests[0].media_type == media.DOCKER_MANIFEST
    assert b'"os.version":"10.0.1","os.features":["win32k"]' in index.raw
    assert index.manifests[0].platform == Platform(
        "windows", "amd64", os_version="10.0.1", os_features=("win32k",)
    )


def test_artifacts_have_a_type_and_no_platform(registry: RegistryClient) -> None:
    empty = push_blob(registry, "app", b"{}", media.OCI_EMPTY)
    chart = push_blob(registry, "app", b'{"name":"chart"}', "application/vnd.cncf.helm.config.v1")
    registry.put_manifest("app", "sbom", ImageManifest(config=empty, artifact_type="text/spdx"))
    registry.put_manifest("app", "chart", ImageManifest(config=chart))
    registry.put_index("app", "v1", ["sbom", "chart"])
    entries = pushed_index(registry, "v1").manifests
    assert [entry.platform for entry in entries] == [None, None]
    assert [entry.artifact_type for entry in entries] == [
        "text/spdx",
        "application/vnd.cncf.helm.config.v1",
    ]


def test_entries_without_a_platform_get_that_of_their_config(registry: RegistryClient) -> None:
    """Indexes of older tools, and those in archives, may lack the platforms."""
    inner = push_index(registry, "app", "inner")
    bare = [
        Descriptor(media_type=e.media_type, digest=e.digest, size=e.size) for e in inner.manifests
    ]
    registry.put_manifest("app", "bare", ImageIndex(manifests=tuple(bare)))
    registry.put_index("app", "v1", ["bare"])
    entries = pushed_index(registry, "v1").manifests
    assert [entry.digest for entry in entries] == [entry.digest for entry in bare]
    assert [str(entry.platform) for entry in entries] == ["linux/amd64", "linux/arm64"]


def test_nested_indexes(registry: RegistryClient) -> None:
    image = push_image(registry, "app", "image")
    tags = ["image"]
    for level in range(1, 6):
        index = registry.manifest("app", tags[-1])
        tags.append(f"level{level}")
        registry.put_manifest("app", tags[-1], ImageIndex(manifests=(index.descriptor(),)))
    registry.put_index("app", "v1", ["level4"])
    assert [entry.digest for entry in pushed_index(registry, "v1").manifests] == [image.digest]
    with pytest.raises(ManifestInvalid, match="more than 4 deep"):
        registry.put_index("app", "v1", ["level5"])


def test_an_image_for_two_platforms_is_listed_twice(registry: RegistryClient) -> None:
    image = push_image(registry, "app", "image").descriptor()
    v6, v7, plain = (
        image.model_copy(update={"platform": platform})
        for platform in (Platform("linux", "arm", "v6"), Platform("linux", "arm", "v7"),
                         Platform("linux", "arm"))
    )  # fmt: skip
    registry.put_index("app", "v1", iter([v6, v7, plain, v6]))  # `arm` is `arm/v7`
    assert pushed_index(registry, "v1").manifests == (v6, v7)


def test_reference_by_digest(registry: RegistryClient) -> None:
    push_image(registry, "app", "image")
    digest = registry.put_index("app", "v1", ["image"]).digest
    assert registry.put_index("app", digest, ["image"]).digest == digest
    with pytest.raises(DigestMismatch):
        registry.put_index("app", digest, ["image"], annotations={"a": "b"})


def test_a_missing_image_without_a_platform_is_named(registry: RegistryClient) -> None:
    lost = Descriptor(media_type=media.OCI_INDEX, digest=EMPTY, size=2)
    with pytest.raises(ManifestUnknown, match=EMPTY):
        registry.put_index("app", "v1", [lost])


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda r: r.put_index("app", "v1", []), ManifestInvalid, "at least one source"),
        (lambda r: r.put_index("app", "v1", "image"), TypeError, "list of tags"),
        (lambda r: r.put_index("app", "v1", [5]), TypeError, "list of tags"),
        (
            lambda r: r.put_index("app", "v1", ["image"], media_type="text/plain"),
            ManifestInvalid,
            "'text/plain' is not the media type of an index",
        ),
        (
            lambda r: r.put_index("app", "v1", ["image"], annotations={"a": 5}),
            ManifestInvalid,
            "annotation 'a'",
        ),
        (
            lambda r: r.put_index(
                "app", "v1", ["image"], annotations={"a": "b"}, media_type=media.DOCKER_LIST
            ),
            ManifestInvalid,
            "cannot have annotations",
        ),
    ],
)
def test_wrong_arguments(
    registry: RegistryClient,
    call: Callable[[RegistryClient], Any],
    error: type[Exception],
    named: str,
) -> None:
    push_image(registry, "app", "image")
    with pytest.raises(error, match=named):
        call(registry)
    assert not registry.manifest_exists("app", "v1")


def test_a_single_descriptor_is_no_list(registry: RegistryClient) -> None:
    image = push_image(registry, "app", "image")
    with pytest.raises(TypeError, match="list of tags"):
        registry.put_index("app", "v1", image.descriptor())  # type: ignore[arg-type]
