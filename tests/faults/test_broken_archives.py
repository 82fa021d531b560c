"""Archives on connections that break, and from registries that send wrong bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from archives import make_image, new_docker_save, old_docker_save, push, write_tar
from cutting_proxy import cutting_proxy
from dockhand_testing.http_server import CUT, ReceivedRequest, ScriptedServer, Step, reply
from registries import embedded

from dockhand_core import (
    ConnectionFailed,
    Descriptor,
    Digest,
    DigestMismatch,
    ImageManifest,
    RegistryClient,
    ResponseTooLarge,
    async_connect,
    connect,
)
from dockhand_core.models import media
from dockhand_core.operations.archives import ArchiveFormat


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Start an embedded registry in a process of its own, and provide its URL."""
    with embedded(tmp_path / "server") as found:
        yield found


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_a_save_goes_on_where_the_connection_broke(
    make_client: Callable[..., RegistryClient], url: str, tmp_path: Path, form: ArchiveFormat
) -> None:
    with connect(url) as direct:
        image = push(direct, "a/b", "v1", make_image(size=3_000_000))
    with cutting_proxy(url) as proxy:
        proxy.download_cuts = [1_000_000, 2_000_000, 1_500_000]
        client = make_client(proxy.url)
        client.save_image("a/b", "v1", tmp_path / "saved", format=form)
        assert proxy.cut_count == 3
        proxy.upload_cuts = [1_000_000, 2_000_000]
        client = make_client(proxy.url)  # with connections that the proxy counts from now on
        assert client.load_image(tmp_path / "saved", "c/d", "v1").digest == image.digest
        assert proxy.cut_count == 5
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("compressed", [False, True])
def test_a_layer_is_compressed_again_where_its_upload_broke(
    make_client: Callable[..., RegistryClient], url: str, tmp_path: Path, compressed: bool
) -> None:
    image = make_image(layers=2, size=3_000_000)
    members = old_docker_save({"app:v1": image})
    file = write_tar(tmp_path / "a.tar", members, compressed=compressed)
    with cutting_proxy(url) as proxy:
        proxy.upload_cuts = [1_000_000, 2_000_000]
        client = make_client(proxy.url)
        client.load_image(file, "a/b", "v1")
        assert proxy.cut_count == 2
        for layer in client.image("a/b", "v1").layers:
            assert len(client.read_blob("a/b", layer)) == layer.size


def manifest_of(layers: list[bytes], sizes: dict[int, int] | None = None) -> ImageManifest:
    """A manifest of layers; `sizes` are wrong sizes in descriptors, by position."""
    descriptors = [
        Descriptor(
            media_type=media.OCI_LAYER,
            digest=Digest.of(data),
            size=(sizes or {}).get(number, len(data)),
        )
        for number, data in enumerate(layers)
    ]
    return ImageManifest(config=descriptors[0], layers=tuple(descriptors[1:]))


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
@pytest.mark.parametrize(
    ("sent", "size"), [(b"y" * 1000, 1000), (b"x" * 999, 1000), (b"x" * 1001, 1000)]
)
def test_wrong_bytes_of_a_blob_leave_no_archive(
    make_client: Callable[..., RegistryClient],
    server: ScriptedServer,
    tmp_path: Path,
    form: ArchiveFormat,
    sent: bytes,
    size: int,
) -> None:
    config, layer = make_image().config, b"x" * size
    manifest = manifest_of([config, layer])
    manifest = manifest.model_copy(
        update={"config": manifest.config.model_copy(update={"media_type": media.OCI_CONFIG})}
    )

    def handler(request: ReceivedRequest) -> bytes:
        if "/manifests/" in request.path:
            return reply(200, manifest.raw, Content_Type=media.OCI_MANIFEST)
        return reply(200, config if manifest.config.digest in request.path else sent)

    server.handler = handler
    client = make_client(server.url)
    with pytest.raises(ResponseTooLarge if len(sent) > size else DigestMismatch):
        client.save_image("a/b", "v1", tmp_path / "saved", format=form)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_a_registry_that_breaks_for_good_leaves_no_archive(
    make_client: Callable[..., RegistryClient],
    server: ScriptedServer,
    tmp_path: Path,
    form: ArchiveFormat,
) -> None:
    manifest = manifest_of([b"{}", b"x" * 1000])

    def handler(request: ReceivedRequest) -> list[Step]:
        if "/manifests/" in request.path:
            return [reply(200, manifest.raw, Content_Type=media.OCI_MANIFEST)]
        return [reply(200, length=2 if manifest.config.digest in request.path else 1000), CUT]

    server.handler = handler
    client = make_client(server.url, retries=1)
    with pytest.raises(ConnectionFailed):
        client.save_image("a/b", "v1", tmp_path / "saved", format=form)
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_save_or_load_leaves_nothing(url: str, tmp_path: Path) -> None:
    members, _ = new_docker_save("a:b", {"amd64": make_image(layers=4, size=3_000_000)})
    file = write_tar(tmp_path / "a.tar", members)

    async def main() -> None:
        async with async_connect(url, logging={"driver": "null"}) as client:
            task: asyncio.Task[object] | None = None

            def cancel(done: int, total: int | None) -> None:
                if task is not None and total and done > total // 4:
                    loop.call_soon_threadsafe(task.cancel)

            loop = asyncio.get_running_loop()
            task = asyncio.create_task(client.load_image(file, "a/b", "v1", progress=cancel))
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not await client.manifest_exists("a/b", "v1")
            await client.load_image(file, "a/b", "v1")
            forms: list[ArchiveFormat] = ["oci", "oci-archive"]
            for form in forms:
                path = tmp_path / "saved"
                task = asyncio.create_task(
                    client.save_image("a/b", "v1", path, format=form, progress=cancel)
                )
                with pytest.raises(asyncio.CancelledError):
                    await task

    asyncio.run(main())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "server"]
