"""Archives of images, exchanged with skopeo, crane, podman and umoci."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from archives import make_image, new_docker_save, old_docker_save, push, push_platforms, write_tar
from registries import Clients, crane_registry, distribution, embedded, zot

from dockhand_core import Digest, ImageManifest, RegistryClient, connect
from dockhand_core.operations.archives import ArchiveFormat

pytestmark = pytest.mark.live

FORMATS: list[ArchiveFormat] = ["oci", "oci-archive", "docker-archive"]
LAYOUTS: list[ArchiveFormat] = ["oci", "oci-archive"]
REGISTRIES: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
    "2.8": partial(distribution, "2.8"),
    "3.1": partial(distribution, "3.1"),
    "zot": zot,
    "crane": crane_registry,
    "embedded": embedded,
}


@pytest.fixture(params=["3.1"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Start a registry, and provide its URL."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with REGISTRIES[request.param](folder) as found:
        yield found


@pytest.fixture
def registry(url: str) -> Iterator[RegistryClient]:
    """Connect Dockhand's client to the registry at `url`."""
    with connect(url, logging={"driver": "null"}) as found:
        yield found


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    """Provide the clients, with a home folder of their own."""
    return Clients(tmp_path / "home")


def diff_ids(registry: RegistryClient, repository: str, tag: str = "v1") -> tuple[str, ...]:
    """The digests of an image's layers without compression; compression may differ."""
    image = registry.image(repository, tag)
    for layer in image.layers:
        assert registry.blob_size(repository, layer.digest) == layer.size
    return registry.image_config(repository, image).diff_ids


@pytest.mark.parametrize("url", REGISTRIES, indirect=True)
def test_archives_of_every_format_leave_and_enter_every_registry(
    registry: RegistryClient, tmp_path: Path
) -> None:
    index = push_platforms(registry, "a/b", "v1")
    for form in LAYOUTS:
        saved = registry.save_image("a/b", "v1", tmp_path / form, format=form)
        assert saved.digest == index.digest
        pushed = registry.load_image(tmp_path / form, f"c/{form}", "v2")
        assert pushed.digest == index.digest
        assert registry.manifest(f"c/{form}", "v2").raw == index.raw
        for platform in ("linux/amd64", "linux/arm64"):
            image = registry.image(f"c/{form}", "v2", platform=platform)
            registry.read_blob(f"c/{form}", image.layers[-1].digest)
    file = tmp_path / "image.tar"
    saved = registry.save_image("a/b", "v1", file, format="docker-archive", platform="linux/arm64")
    loaded = registry.load_image(file, "c/docker", "v2")
    assert loaded.digest == saved.digest == index.find("linux/arm64").digest


@pytest.mark.parametrize("url", REGISTRIES, indirect=True)
def test_what_docker_save_writes_enters_every_registry(
    registry: RegistryClient, tmp_path: Path
) -> None:
    image = make_image()
    old = write_tar(tmp_path / "old.tar.gz", old_docker_save({"app:v1": image}), compressed=True)
    registry.load_image(old, "a/old", "v1")
    assert diff_ids(registry, "a/old") == diff_ids_of(image.layers)
    members, index = new_docker_save("app:v1", {"amd64": image})
    registry.load_image(write_tar(tmp_path / "new.tar", members), "a/new", "v1")
    assert registry.image("a/new", "v1").digest == index.manifests[0].digest


def diff_ids_of(layers: tuple[bytes, ...]) -> tuple[str, ...]:
    """The digests of layers without compression."""
    return tuple(Digest.of(layer) for layer in layers)


@pytest.fixture
def pushed(registry: RegistryClient) -> ImageManifest:
    """Push an image, and return its manifest."""
    return push(registry, "a/b", "v1", make_image())


def test_skopeo_reads_and_writes_the_three_formats(
    url: str, registry: RegistryClient, pushed: ImageManifest, clients: Clients, tmp_path: Path
) -> None:
    host = url.removeprefix("http://")
    for form in FORMATS:
        name = "" if form == "docker-archive" else ":v1"
        registry.save_image("a/b", "v1", tmp_path / form, format=form)
        clients.run(
            "skopeo", "copy", "--dest-tls-verify=false", f"{form}:{tmp_path / form}{name}",
            f"docker://{host}/read/{form}:v1",
        )  # fmt: skip
        assert diff_ids(registry, f"read/{form}") == diff_ids(registry, "a/b")
        written = tmp_path / f"skopeo-{form}"
        name = ":example.org/app:v1" if form == "docker-archive" else ":v1"
        clients.run(
            "skopeo", "copy", "--src-tls-verify=false", f"docker://{host}/a/b:v1",
            f"{form}:{written}{name}",
        )  # fmt: skip
        loaded = registry.load_image(written, f"written/{form}", "v1", source="v1")
        assert diff_ids(registry, f"written/{form}") == diff_ids(registry, "a/b")
        if form != "docker-archive":
            assert loaded.digest == pushed.digest
    index = push_platforms(registry, "a/index", "v1")
    registry.save_image("a/index", "v1", tmp_path / "index", format="oci")
    clients.run(
        "skopeo", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false",
        f"oci:{tmp_path / 'index'}:v1", f"docker://{host}/read/index:v1",
    )  # fmt: skip
    assert registry.manifest_head("read/index", "v1").digest == index.digest
    clients.run(
        "skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false",
        f"docker://{host}/a/index:v1", f"oci-archive:{tmp_path / 'index.tar'}:v1",
    )  # fmt: skip
    assert registry.load_image(tmp_path / "index.tar", "written/index").digest == index.digest


def test_crane_reads_and_writes_tarballs_and_layouts(
    url: str, registry: RegistryClient, pushed: ImageManifest, clients: Clients, tmp_path: Path
) -> None:
    host = url.removeprefix("http://")
    for form in FORMATS[::2]:  # crane reads no tar file of a layout
        registry.save_image("a/b", "v1", tmp_path / form, format=form)
        clients.run("crane", "push", "--insecure", str(tmp_path / form), f"{host}/read/{form}:v1")
        assert diff_ids(registry, f"read/{form}") == diff_ids(registry, "a/b")
    assert registry.manifest_head("read/oci", "v1").digest == pushed.digest
    for kind in ("tarball", "legacy", "oci"):
        written = tmp_path / f"crane-{kind}"
        clients.run("crane", "pull", "--insecure", "--format", kind, f"{host}/a/b:v1", str(written))
        registry.load_image(written, f"written/{kind}", "v1")
        assert diff_ids(registry, f"written/{kind}") == diff_ids(registry, "a/b")
    assert registry.manifest_head("written/oci", "v1").digest == pushed.digest
    assert registry.manifest_head("written/tarball", "v1").digest == pushed.digest


def test_podman_loads_and_saves_images(
    registry: RegistryClient, pushed: ImageManifest, clients: Clients, tmp_path: Path
) -> None:
    file = tmp_path / "docker.tar"
    registry.save_image("a/b", "v1", file, format="docker-archive", name="example.org/app:v1")
    assert "example.org/app:v1" in clients.run("podman", "load", "-i", str(file))
    for form in ("docker-archive", "oci-archive", "oci-dir", "docker-dir"):
        written = tmp_path / f"podman-{form}"
        clients.run("podman", "save", "--format", form, "-o", str(written), "example.org/app:v1")
        if form == "docker-dir":  # skopeo's own format `dir`
            continue
        registry.load_image(written, f"written/{form}", "v1", source="example.org/app:v1")
        assert diff_ids(registry, f"written/{form}") == diff_ids(registry, "a/b")
    clients.run("podman", "rmi", "example.org/app:v1")
    registry.save_image("a/b", "v1", tmp_path / "oci.tar", name="example.org/app:v2")
    assert "example.org/app:v2" in clients.run("podman", "load", "-i", str(tmp_path / "oci.tar"))
    found = clients.run("podman", "image", "inspect", "example.org/app:v2", "-f", "{{.Id}}")
    assert found.strip() == pushed.config.digest.encoded


def test_umoci_unpacks_a_layout_and_adds_to_it(
    registry: RegistryClient, pushed: ImageManifest, clients: Clients, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    registry.save_image("a/b", "v1", layout, format="oci")
    clients.run("umoci", "unpack", "--rootless", "--image", f"{layout}:v1", str(tmp_path / "root"))
    assert sorted(p.name for p in (tmp_path / "root" / "rootfs").iterdir()) == [
        "file0", "file1", "file2",
    ]  # fmt: skip
    clients.run(
        "umoci", "config", "--config.label", "a=b", "--image", f"{layout}:v1", "--tag", "v2"
    )
    registry.load_image(layout, "written/umoci", "v2", source="v2")
    image = registry.image("written/umoci", "v2")
    assert registry.image_config("written/umoci", image).labels == {"a": "b"}
    registry.save_image("written/umoci", "v2", layout, format="oci", name="v3")
    assert clients.run("umoci", "ls", "--layout", str(layout)).split() == ["v1", "v2", "v3"]
    clients.run("umoci", "gc", "--layout", str(layout))
    assert registry.load_image(layout, "read/umoci", source="v1").digest == pushed.digest
