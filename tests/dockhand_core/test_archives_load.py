"""Pushes of images from archives: formats, several images, platforms, compression, digests."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from archives import (
    Image,
    make_image,
    new_docker_save,
    old_docker_save,
    push,
    push_platforms,
    sha256,
    write_tar,
)
from embedded_clients import embedded_client

from dockhand_core import (
    ArchiveInvalid,
    DigestMismatch,
    ImageIndex,
    ImageManifest,
    NameInvalid,
    PlatformNotFound,
    RegistryClient,
    TagInvalid,
    connect,
)
from dockhand_core.models import media


@pytest.fixture(params=["sync", "async"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryClient]:
    """Provide a client of an embedded registry."""
    with embedded_client(request.param, tmp_path / "registry") as client:
        yield client


@pytest.fixture
def source(tmp_path: Path) -> Iterator[RegistryClient]:
    """Provide a client of another registry, from which images are saved."""
    with connect(str(tmp_path / "source"), driver="embedded") as client:
        yield client


def is_whole(registry: RegistryClient, repository: str, image: Image, tag: str = "v1") -> bool:
    """Whether an image in the registry has the config and the layers of `image`."""
    manifest = registry.image(repository, tag)
    assert registry.read_blob(repository, manifest.config.digest) == image.config
    for layer, tar in zip(manifest.layers, image.layers, strict=True):
        data = registry.read_blob(repository, layer.digest)
        assert len(data) == layer.size
        assert (gzip.decompress(data) if layer.media_type.endswith("gzip") else data) == tar
    return True


@pytest.mark.parametrize("compressed", [False, True])
def test_archives_of_docker_save_before_and_since_image_layouts(
    registry: RegistryClient, tmp_path: Path, compressed: bool
) -> None:
    image = make_image()
    twice = Image(image.config, image.layers)
    old = write_tar(
        tmp_path / "old.tar",
        old_docker_save({"one:v1": image, "two:v1": twice}),
        compressed=compressed,
    )
    pushed = registry.load_image(old, "a/old", "v1", source="two:v1")
    assert is_whole(registry, "a/old", image)
    assert registry.manifest("a/old", pushed.digest).media_type == media.OCI_MANIFEST
    members, index = new_docker_save("one:v1", {"amd64": image})
    new = write_tar(tmp_path / "new.tar", members, compressed=compressed)
    assert registry.load_image(new, "a/new", "v1").digest == sha256_of_index(index)
    assert is_whole(registry, "a/new", image)
    layer = registry.image("a/new", "v1").layers[0]
    assert layer.media_type == media.OCI_LAYER  # the manifest is the archive's, bytes unchanged


def sha256_of_index(index: ImageIndex) -> str:
    """The digest of an index as `new_docker_save` writes it."""
    fields = index.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for entry in fields["manifests"]:
        entry["platform"] = {k: v for k, v in entry["platform"].items() if v is not None}
    return f"sha256:{sha256(json.dumps(fields).encode())}"


def test_members_count_wherever_they_stand(registry: RegistryClient, tmp_path: Path) -> None:
    image = make_image()
    noise = random.Random(1)
    for number in range(4):
        members, _ = new_docker_save("app:v1", {"amd64": image})
        for kind, listed in (("old", old_docker_save({"app:v1": image})), ("new", members)):
            noise.shuffle(listed)
            named = [(f"./{name}", content) for name, content in listed]
            file = tmp_path / f"{kind}{number}.tar"
            write_tar(file, named, compressed=number % 2 == 0)
            registry.load_image(file, f"a/{kind}{number}", "v1")
            assert is_whole(registry, f"a/{kind}{number}", image)


def test_uncompressed_layers_are_compressed_to_the_same_bytes(
    registry: RegistryClient, tmp_path: Path
) -> None:
    image = make_image(size=3_000_000)  # more than one block
    file = write_tar(tmp_path / "a.tar", old_docker_save({"app:v1": image}))
    packed = write_tar(tmp_path / "a.tgz", old_docker_save({"app:v1": image}), compressed=True)
    digests = {registry.load_image(path, "a/b", "v1").digest for path in (file, packed)}
    assert len(digests) == 1
    layer = registry.image("a/b", "v1").layers[0]
    deflate = zlib.compressobj(6, zlib.DEFLATED, 31)
    assert layer.digest.encoded == sha256(deflate.compress(image.layers[0]) + deflate.flush())
    data = registry.read_blob("a/b", layer.digest)
    assert data[4:8] == b"\0\0\0\0"  # the time in the header


def test_compressed_layers_of_a_docker_archive_go_out_as_they_are(
    registry: RegistryClient, tmp_path: Path
) -> None:
    image = make_image(layers=1)
    stored = gzip.compress(image.layers[0][:100]) + gzip.compress(image.layers[0][100:], 1)
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["layer"]}]
    members = [
        ("layer", stored + b"\0" * 7),  # two gzip members, and padding
        ("c.json", image.config),
        ("manifest.json", json.dumps(manifest).encode()),
    ]
    registry.load_image(write_tar(tmp_path / "a.tar", members), "a/b", "v1")
    [layer] = registry.image("a/b", "v1").layers
    assert layer.digest.encoded == sha256(stored + b"\0" * 7)
    assert layer.media_type == media.OCI_LAYER_GZIP


def test_of_several_images_a_source_chooses_one(registry: RegistryClient, tmp_path: Path) -> None:
    one, two, three = (make_image(layers=n) for n in (1, 2, 3))
    images = {"app:v1": one, "app:v2": two, "example.org/team/app:v2": three}
    file = write_tar(tmp_path / "a.tar", old_docker_save(images))
    with pytest.raises(
        ArchiveInvalid, match=r"3 images.*source=.*app:v1.*example\.org/team/app:v2"
    ):
        registry.load_image(file, "a/b", "v1")
    with pytest.raises(ArchiveInvalid, match="no image.*'v3'.*app:v1"):
        registry.load_image(file, "a/b", "v1", source="v3")
    with pytest.raises(ArchiveInvalid, match="2 images of the archive are called 'v2'"):
        registry.load_image(file, "a/b", "v1", source="v2")
    for source, image in (
        ("v1", one),
        ("app:v2", two),
        ("docker.io/library/app:v2", two),
        ("example.org/team/app", three),
        (f"{three.id}.json", three),
    ):
        registry.load_image(file, "a/b", "v1", source=source)
        assert is_whole(registry, "a/b", image)


def test_names_of_one_image_are_no_several_images(
    source: RegistryClient, registry: RegistryClient, tmp_path: Path
) -> None:
    image = push(source, "a/b", "v1", make_image())
    other = push(source, "a/b", "v2", make_image(layers=2))
    for name in ("v1", "stable"):
        source.save_image("a/b", "v1", tmp_path / "layout", format="oci", name=name)
    assert registry.load_image(tmp_path / "layout", "a/b").digest == image.digest
    source.save_image("a/b", "v2", tmp_path / "layout", format="oci")
    with pytest.raises(ArchiveInvalid, match="2 images.*v1 = stable.*v2"):
        registry.load_image(tmp_path / "layout", "a/b")
    for wanted in ("v2", str(other.digest)):
        pushed = registry.load_image(tmp_path / "layout", "a/b", source=wanted)
        assert pushed.digest == other.digest


def test_missing_platforms_are_named_and_others_can_be_chosen(
    registry: RegistryClient, tmp_path: Path
) -> None:
    images = {name: make_image(name) for name in ("amd64", "arm64", "s390x")}
    members, index = new_docker_save("app:v1", images, missing=["arm64"])
    file = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(ArchiveInvalid, match="complete are.*linux/amd64, linux/s390x") as caught:
        registry.load_image(file, "a/b", "v1")
    assert caught.value.member == f"blobs/sha256/{index.manifests[1].digest.encoded}"
    assert not registry.manifest_exists("a/b", "v1")
    pushed = registry.load_image(file, "a/b", "v1", platforms=["linux/s390x", "linux/amd64"])
    found = registry.manifest("a/b", pushed.digest)
    assert isinstance(found, ImageIndex)
    assert found.manifests == (index.manifests[0], index.manifests[2])
    with pytest.raises(ArchiveInvalid, match=index.manifests[1].digest.encoded):
        registry.load_image(file, "a/b", "v1", platforms=["linux/arm64"])
    with pytest.raises(PlatformNotFound, match=r"^archive .*linux/riscv64"):
        registry.load_image(file, "a/b", "v1", platforms=["linux/riscv64"])


def test_the_platform_of_a_single_image_is_checked(
    source: RegistryClient, registry: RegistryClient, tmp_path: Path
) -> None:
    image = make_image("arm64")
    push(source, "a/b", "v1", image)
    source.save_image("a/b", "v1", tmp_path / "oci.tar")
    write_tar(tmp_path / "docker.tar", old_docker_save({"app:v1": image}))
    for file in ("oci.tar", "docker.tar"):
        with pytest.raises(PlatformNotFound, match=r"linux/amd64.*linux/arm64"):
            registry.load_image(tmp_path / file, "a/b", "v1", platforms=["linux/amd64"])
        registry.load_image(tmp_path / file, "a/b", "v1", platforms=["linux/arm64/v8"])


def test_attestations_come_along_with_their_platform(
    source: RegistryClient, registry: RegistryClient, tmp_path: Path
) -> None:
    index = push_platforms(source, "a/b", "v1")
    source.save_image("a/b", "v1", tmp_path / "oci.tar")
    pushed = registry.load_image(tmp_path / "oci.tar", "a/b", "v1", platforms=["linux/amd64"])
    found = registry.manifest("a/b", pushed.digest)
    assert isinstance(found, ImageIndex)
    assert found.manifests == index.manifests[:2]
    assert not registry.manifest_exists("a/b", index.manifests[2].digest)


def test_without_a_reference_no_tag_is_written(
    source: RegistryClient, registry: RegistryClient, tmp_path: Path
) -> None:
    image = push(source, "a/b", "v1", make_image())
    source.save_image("a/b", "v1", tmp_path / "a.tar")
    pushed = registry.load_image(tmp_path / "a.tar", "a/b")
    assert pushed.digest == image.digest
    assert list(registry.tags("a/b")) == []
    assert registry.load_image(tmp_path / "a.tar", "a/b", str(image.digest)).digest == image.digest
    with pytest.raises(DigestMismatch, match="the image"):
        registry.load_image(tmp_path / "a.tar", "c/d", f"sha256:{'0' * 64}")
    assert "c/d" not in registry.repositories()


def test_progress_counts_the_bytes_of_all_blobs(
    source: RegistryClient, registry: RegistryClient, tmp_path: Path
) -> None:
    image = push(source, "a/b", "v1", make_image(size=3_000_000))
    source.save_image("a/b", "v1", tmp_path / "a.tar")
    for _ in range(2):  # the second time everything is there
        seen: list[tuple[int, int | None]] = []
        registry.load_image(
            tmp_path / "a.tar",
            "a/b",
            progress=lambda done, total: seen.append((done, total)),  # noqa: B023
        )
        assert seen == sorted(seen)
        assert seen[-1] == (image.size, image.size)


def test_wrong_arguments_are_refused_before_the_archive_is_read(
    registry: RegistryClient, tmp_path: Path
) -> None:
    with pytest.raises(NameInvalid):
        registry.load_image(tmp_path / "missing", "A B", "v1")
    with pytest.raises(TagInvalid):
        registry.load_image(tmp_path / "missing", "a/b", "a b")
    with pytest.raises(FileNotFoundError):
        registry.load_image(tmp_path / "missing", "a/b", "v1")


@pytest.mark.parametrize(
    "damage",
    [
        lambda layer: layer[:-1] + bytes([layer[-1] ^ 1]),
        lambda layer: layer[:-1],
        lambda layer: layer + b"x",
        lambda layer: b"",
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_wrong_blob_never_reaches_the_tag(
    source: RegistryClient,
    registry: RegistryClient,
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
    compressed: bool,
) -> None:
    members, _ = new_docker_save("app:v1", {"amd64": make_image()})
    name = f"blobs/sha256/{sha256(make_image().layers[1])}"
    damaged = [(n, damage(d) if n == name and isinstance(d, bytes) else d) for n, d in members]
    file = write_tar(tmp_path / "a.tar", damaged, compressed=compressed)
    with pytest.raises(ArchiveInvalid, match=name) as caught:
        registry.load_image(file, "a/b", "v1")
    assert caught.value.member == name
    assert not registry.manifest_exists("a/b", "v1")
    assert not registry.blob_exists("a/b", f"sha256:{sha256(make_image().layers[1])}")


def test_a_layer_that_is_not_that_of_the_config_is_refused(
    registry: RegistryClient, tmp_path: Path
) -> None:
    image = make_image()
    swapped = Image(image.config, (image.layers[1], image.layers[0], image.layers[2]))
    file = write_tar(tmp_path / "a.tar", old_docker_save({"app:v1": swapped}))
    with pytest.raises(ArchiveInvalid, match=r"layer\.tar.*the config states"):
        registry.load_image(file, "a/b", "v1")
    assert not registry.manifest_exists("a/b", "v1")


def test_other_manifests_of_docker_keep_their_types(
    source: RegistryClient, registry: RegistryClient, tmp_path: Path
) -> None:
    image = push(source, "a/b", "v1", make_image())
    docker = image.model_copy(update={"media_type": media.DOCKER_MANIFEST})
    source.put_manifest("a/b", "docker", docker)
    source.save_image("a/b", "docker", tmp_path / "layout", format="oci")
    pushed = registry.load_image(tmp_path / "layout", "a/b", "v1")
    found = registry.manifest("a/b", "v1")
    assert isinstance(found, ImageManifest)
    assert (found.digest, found.media_type) == (pushed.digest, media.DOCKER_MANIFEST)
    assert found.raw == docker.raw
