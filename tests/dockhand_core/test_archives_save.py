"""Saving of images into archives: formats, reproducibility, platforms, errors."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archives import make_image, push, push_platforms
from dockhand_testing.contracts.samples import push_blob
from embedded_clients import embedded_client

from dockhand_core import (
    ArchiveInvalid,
    BlobUnknown,
    Descriptor,
    Digest,
    DockhandError,
    ImageIndex,
    ImageManifest,
    ManifestUnknown,
    PlatformNotFound,
    RegistryClient,
    Unsupported,
)
from dockhand_core.models import media
from dockhand_core.operations.archives import ArchiveFormat
from dockhand_core.operations.archives.layout import LayoutFolder

FORMATS: list[ArchiveFormat] = ["oci", "oci-archive", "docker-archive"]


@pytest.fixture(params=["sync", "async"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryClient]:
    """Provide a client of an embedded registry."""
    with embedded_client(request.param, tmp_path / "registry") as client:
        yield client


def index_of(path: Path) -> list[dict[str, Any]]:
    """The entries of the `index.json` in a folder or a tar file."""
    if path.is_dir():
        raw = (path / "index.json").read_bytes()
    else:
        with tarfile.open(path) as tar:
            file = tar.extractfile("index.json")
            assert file is not None
            raw = file.read()
    found: list[dict[str, Any]] = json.loads(raw)["manifests"]
    return found


def leftovers(folder: Path) -> list[str]:
    """The names of unfinished files below a folder."""
    return [path.name for path in folder.rglob("*.part")]


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_the_same_image_gives_the_same_file(
    registry: RegistryClient, tmp_path: Path, form: ArchiveFormat
) -> None:
    push(registry, "a/b", "v1", make_image())
    files = [tmp_path / "one.tar", tmp_path / "two.tar"]
    for file in files:
        registry.save_image("a/b", "v1", file, format=form)
    assert files[0].read_bytes() == files[1].read_bytes()
    with tarfile.open(files[0]) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in tar} == {(0, 0, 0, "", "")}
    assert leftovers(tmp_path) == []


def test_an_oci_archive_holds_the_exact_bytes(registry: RegistryClient, tmp_path: Path) -> None:
    index = push_platforms(registry, "a/b", "v1")
    file = tmp_path / "image.tar"
    saved = registry.save_image("a/b", "v1", file)
    assert saved == index.descriptor()
    assert index_of(file) == [
        {
            "mediaType": media.OCI_INDEX,
            "digest": str(index.digest),
            "size": len(index.raw),
            "annotations": {"org.opencontainers.image.ref.name": "v1"},
        }
    ]
    with tarfile.open(file) as tar:
        names = tar.getnames()
        assert names[:5] == ["oci-layout", "index.json", "blobs", "blobs/sha256", names[4]]
        top = tar.extractfile(f"blobs/sha256/{index.digest.encoded}")
        assert top is not None
        assert top.read() == index.raw
        assert len(names) == len(set(names)) == 4 + 1 + 4 + 3 * 4


def test_a_docker_archive_has_one_image_with_its_name(
    registry: RegistryClient, tmp_path: Path
) -> None:
    index = push_platforms(registry, "library/app", "v1")
    file = tmp_path / "image.tar"

    def manifest() -> dict[str, Any]:
        with tarfile.open(file) as tar:
            found = tar.extractfile("manifest.json")
            assert found is not None
            [entry] = json.load(found)
            assert {entry["Config"], *entry["Layers"]} < set(tar.getnames())
            config = tar.extractfile(entry["Config"])
            assert config is not None
            entry["architecture"] = json.load(config)["architecture"]
            return dict(entry)

    form: ArchiveFormat = "docker-archive"
    saved = registry.save_image("library/app", "v1", file, format=form)
    assert saved.digest == index.find("linux/amd64").digest
    assert manifest()["RepoTags"] == ["library/app:v1"]
    assert manifest()["architecture"] == "amd64"
    registry.save_image("library/app", "v1", file, format=form, platform="linux/arm64", name="x/y")
    assert (manifest()["RepoTags"], manifest()["architecture"]) == (["x/y:latest"], "arm64")
    registry.save_image("library/app", saved, file, format=form)
    assert manifest()["RepoTags"] is None
    with pytest.raises(DockhandError, match="one platform"):
        registry.save_image("library/app", "v1", file, format=form, platforms=["linux/amd64"])
    with pytest.raises(DockhandError, match="not the name of an image"):
        registry.save_image("library/app", "v1", file, format=form, name="a b")
    assert manifest()["RepoTags"] is None  # the file is still the last that was complete


def test_platforms_of_an_index_are_saved_with_their_attestations(
    registry: RegistryClient, tmp_path: Path
) -> None:
    index = push_platforms(registry, "a/b", "v1")
    file = tmp_path / "image.tar"
    saved = registry.save_image("a/b", "v1", file, platforms=["linux/aarch64"])
    assert saved.digest != index.digest
    pushed = registry.load_image(file, "c/d", "v1")
    found = registry.manifest("c/d", pushed.digest)
    assert isinstance(found, ImageIndex)
    assert (found.media_type, found.annotations) == (index.media_type, index.annotations)
    assert found.manifests == index.manifests[2:]
    alone = registry.save_image("a/b", "v1", file, platform="linux/arm64")
    assert alone.digest == index.find("linux/arm64").digest
    with pytest.raises(PlatformNotFound, match="linux/s390x.*linux/amd64, linux/arm64"):
        registry.save_image("a/b", "v1", file, platforms=["linux/amd64", "linux/s390x"])
    with pytest.raises(PlatformNotFound, match="linux/s390x"):
        registry.save_image("a/b", "amd64", file, platforms=["linux/s390x"])
    registry.save_image("a/b", "amd64", file, platforms=["linux/amd64"])


def test_an_image_is_added_to_an_existing_layout(registry: RegistryClient, tmp_path: Path) -> None:
    one = push(registry, "a/b", "v1", make_image())
    two = push(registry, "a/b", "v2", make_image(layers=4))
    layout = tmp_path / "layout"
    layout.mkdir()  # an empty folder is like none
    registry.save_image("a/b", "v1", layout, format="oci")
    config = layout / "blobs" / "sha256" / one.config.digest.encoded
    written = config.stat().st_ino
    registry.save_image("a/b", "v2", layout, format="oci")
    registry.save_image("a/b", "v1", layout, format="oci", name="again")
    registry.save_image("a/b", "v1", layout, format="oci")
    entries = [
        (e["annotations"][next(iter(e["annotations"]))], e["digest"]) for e in index_of(layout)
    ]
    assert entries == [("v2", two.digest), ("again", one.digest), ("v1", one.digest)]
    registry.save_image("a/b", "v2", layout, format="oci", name="v1")  # the name moves
    assert [e["digest"] for e in index_of(layout)] == [two.digest, one.digest, two.digest]
    assert config.stat().st_ino == written  # what the layout has is not fetched again
    config.write_bytes(b"x" * config.stat().st_size)
    registry.save_image("a/b", "v1", layout, format="oci", name="mended")
    assert registry.load_image(layout, "c/d", source="mended").digest == one.digest
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_failed_save_leaves_nothing_behind(
    registry: RegistryClient, tmp_path: Path, form: ArchiveFormat
) -> None:
    good = push(registry, "a/b", "good", make_image(layers=2))
    image = push(registry, "a/b", "v1", make_image())
    target = tmp_path / "target"
    registry.delete_blob("a/b", image.layers[2].digest)
    with pytest.raises(BlobUnknown):
        registry.save_image("a/b", "v1", target, format=form)
    with pytest.raises(ManifestUnknown):
        registry.save_image("a/b", "unknown", target, format=form)
    assert not target.exists()
    registry.save_image("a/b", "good", target, format=form)
    before = {p: p.read_bytes() for p in [target, *target.rglob("*")] if p.is_file()}
    with pytest.raises(BlobUnknown):
        registry.save_image("a/b", "v1", target, format=form)
    assert {p: p.read_bytes() for p in [target, *target.rglob("*")] if p.is_file()} == before
    assert registry.load_image(target, "c/d").digest == good.digest
    assert leftovers(tmp_path) == []


def test_an_empty_folder_is_filled_itself(registry: RegistryClient, tmp_path: Path) -> None:
    """It may be a mount point, which cannot be replaced."""
    image = push(registry, "a/b", "v1", make_image())
    broken = push(registry, "a/b", "broken", make_image(layers=4))
    registry.delete_blob("a/b", broken.layers[3].digest)
    layout = tmp_path / "layout"
    layout.mkdir()
    before = layout.stat().st_ino
    with pytest.raises(BlobUnknown):
        registry.save_image("a/b", "broken", layout, format="oci")
    assert list(layout.iterdir()) == []
    registry.save_image("a/b", "v1", layout, format="oci")
    assert layout.stat().st_ino == before
    registry.save_image("a/b", "v1", tmp_path / "new", format="oci")
    assert (layout / "index.json").read_bytes() == (tmp_path / "new/index.json").read_bytes()
    assert registry.load_image(layout, "c/d").digest == image.digest
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("finished", [True, False])
def test_a_failed_save_keeps_the_blobs_that_another_save_counts_on(
    tmp_path: Path, finished: bool
) -> None:
    data = b"shared"
    digest = Digest.of(data)
    folders = [LayoutFolder(tmp_path / "layout") for _ in range(3)]
    descriptor = Descriptor(media_type=media.OCI_MANIFEST, digest=digest, size=len(data))
    folders[0].begin()
    folders[0].finish(descriptor, "first")
    failing, other = folders[1:]
    failing.begin()
    other.begin()
    failing.write(digest, data)
    other.write(digest, data)  # it is there already
    if finished:
        other.finish(descriptor, "second")
    failing.discard()
    path = tmp_path / "layout" / "blobs" / "sha256" / digest.encoded
    assert path.read_bytes() == data
    if not finished:
        other.discard()
        assert path.exists()  # it was not `other` that wrote it


@pytest.mark.parametrize("form", FORMATS)
def test_files_are_on_the_disk_before_they_get_their_names(
    registry: RegistryClient, tmp_path: Path, form: ArchiveFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(registry, "a/b", "v1", make_image(layers=2))
    synced: set[int] = set()
    fsync, replace = os.fsync, Path.replace

    def spied(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        fsync(fd)

    def checked(path: Path, target: Path) -> Path:
        assert path.stat().st_ino in synced
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", spied)
    monkeypatch.setattr(Path, "replace", checked)
    target = tmp_path / "target"
    for name in ("one", "two"):
        registry.save_image("a/b", "v1", target, format=form, name=name)
    files = [path for path in (target, *target.rglob("*")) if path.is_file()]
    assert {path.stat().st_ino for path in files} <= synced


def test_progress_counts_the_bytes_of_all_blobs(registry: RegistryClient, tmp_path: Path) -> None:
    image = push(registry, "a/b", "v1", make_image(size=3_000_000))
    seen: list[tuple[int, int | None]] = []
    registry.save_image(
        "a/b", "v1", tmp_path / "a.tar", progress=lambda done, total: seen.append((done, total))
    )
    assert seen == sorted(seen)
    assert seen[-1] == (image.size, image.size)
    assert {total for _, total in seen} == {image.size}


def test_a_progress_function_that_raises_ends_the_save(
    registry: RegistryClient, tmp_path: Path
) -> None:
    push(registry, "a/b", "v1", make_image())

    def stop(done: int, total: int | None) -> None:
        raise RuntimeError(f"{done} of {total}")

    with pytest.raises(RuntimeError, match=" of "):
        registry.save_image("a/b", "v1", tmp_path / "a.tar", progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["registry"]


def test_layers_with_urls_are_left_out_of_a_layout_and_refused_by_a_docker_archive(
    registry: RegistryClient, tmp_path: Path
) -> None:
    image = push(registry, "a/b", "v1", make_image())
    foreign = Descriptor(
        media_type="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        digest="sha256:" + "0" * 64,
        size=10,
        urls=("https://example.org/layer",),
    )
    changed = image.model_copy(update={"layers": (foreign, *image.layers)})
    registry.put_manifest("a/b", "v2", changed)
    file = tmp_path / "image.tar"
    registry.save_image("a/b", "v2", file)
    assert registry.load_image(file, "c/d", "v2").digest == changed.digest
    with pytest.raises(Unsupported, match="from a URL.*oci-archive"):
        registry.save_image("a/b", "v2", tmp_path / "docker.tar", format="docker-archive")
    assert not (tmp_path / "docker.tar").exists()


def test_an_artifact_is_saved_in_a_layout_and_refused_by_a_docker_archive(
    registry: RegistryClient, tmp_path: Path
) -> None:
    config = push_blob(registry, "a/b", b"{}", media.OCI_EMPTY)
    data = push_blob(registry, "a/b", b"some bytes", "text/plain")
    artifact = ImageManifest(config=config, layers=(data,), artifact_type="application/x-test")
    registry.put_manifest("a/b", "v1", artifact)
    file = tmp_path / "artifact.tar"
    registry.save_image("a/b", "v1", file)
    assert registry.load_image(file, "c/d", "v1").digest == artifact.digest
    with pytest.raises(Unsupported, match="artifact"):
        registry.save_image("a/b", "v1", file, format="docker-archive")


def test_wrong_paths_and_formats_are_refused_before_anything_is_written(
    registry: RegistryClient, tmp_path: Path
) -> None:
    push(registry, "a/b", "v1", make_image())
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "precious").write_text("mine")
    with pytest.raises(IsADirectoryError, match="folder"):
        registry.save_image("a/b", "v1", folder)
    with pytest.raises(ArchiveInvalid, match="no image layout"):
        registry.save_image("a/b", "v1", folder, format="oci")
    with pytest.raises(FileNotFoundError):
        registry.save_image("a/b", "v1", tmp_path / "missing" / "a.tar")
    with pytest.raises(DockhandError, match="'tar' is unknown; there are: oci, oci-archive"):
        registry.save_image("a/b", "v1", tmp_path / "a", format="tar")  # type: ignore[arg-type]
    with pytest.raises(DockhandError, match="platform is given too"):
        registry.save_image(
            "a/b", "v1", tmp_path / "a", platform="linux/amd64", platforms=["linux/amd64"]
        )
    assert [p.name for p in folder.iterdir()] == ["precious"]
    (folder / "precious").unlink()
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "blobs").symlink_to(outside)
    with pytest.raises(ArchiveInvalid, match="leads out"):
        registry.save_image("a/b", "v1", folder, format="oci")
    assert list(outside.iterdir()) == []
    (folder / "index.json").write_text("[]")
    with pytest.raises(ArchiveInvalid, match=r"index\.json"):
        registry.save_image("a/b", "v1", folder, format="oci")
    assert (folder / "index.json").read_text() == "[]"
