"""The progress of single blobs in copies, archives and artifacts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import layered_images
import pytest
from dockhand_testing.blocking import BlockingLoop, as_blocking
from dockhand_testing.contracts.samples import config_of, push_blob
from seen_blobs import SeenBlobs

from dockhand_core import (
    ArtifactFile,
    BlobProgress,
    Descriptor,
    ImageManifest,
    RegistryClient,
    async_connect,
    connect,
)
from dockhand_core.models import media

MakeClient = Callable[[], RegistryClient]
MIB = 1 << 20
push_layers = partial(layered_images.push_layers, kind=media.OCI_LAYER_GZIP)
TITLE = "org.opencontainers.image.title"


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    """Provide a function that makes a sync or an async client of an empty registry in memory."""
    loop = BlockingLoop()
    clients: list[Any] = []

    def client() -> RegistryClient:
        settings: dict[str, Any] = {"driver": "embedded", "logging": {"driver": "null"}}
        if request.param == "sync":
            clients.append(connect(":memory:", **settings))
        else:
            clients.append(as_blocking(loop, async_connect(":memory:", **settings)))
        return clients[-1]  # type: ignore[no-any-return]

    yield client
    for each in clients:
        each.close()
    loop.close()


def blobs_of(manifest: ImageManifest) -> list[Descriptor]:
    """The config and the layers of an image."""
    return [manifest.config, *manifest.layers]


def all_of(manifest: ImageManifest, outcome: str) -> dict[str, str]:
    """The outcomes of the blobs of an image, if all are the same."""
    return {blob.digest: outcome for blob in blobs_of(manifest)}


def test_a_copy_reports_each_blob_with_its_bytes_and_its_outcome(make: MakeClient) -> None:
    a, b = make(), make()
    manifest = push_layers(a, [3 * MIB, 100, 0])
    seen = SeenBlobs()
    a.copy("app", "v1", to=b, blob_progress=seen)
    assert seen.outcomes() == all_of(manifest, "copied")
    large = manifest.layers[0].digest
    assert len(seen.done(large)) > 2
    assert seen.done(large) == sorted(set(seen.done(large)))  # once for each block
    assert {call.digest: call.blob for call in seen.calls} == {
        blob.digest: blob for blob in blobs_of(manifest)
    }
    again = SeenBlobs()
    a.copy("app", "v1", to=b, blob_progress=again)
    assert again.outcomes() == all_of(manifest, "skipped")
    within = SeenBlobs()
    a.copy("app", "v1", to_repository="other", blob_progress=within)
    assert within.outcomes() == all_of(manifest, "mounted")
    tag = SeenBlobs()
    a.copy("app", "v1", to_reference="latest", blob_progress=tag)
    assert tag.calls == []


def test_a_layer_that_is_stored_elsewhere_is_skipped(make: MakeClient) -> None:
    a, b = make(), make()
    elsewhere = Descriptor(
        media_type=media.OCI_LAYER,
        digest=push_blob(a, "other", b"base", media.OCI_LAYER).digest,
        size=4,
        urls=("https://example.com/base",),
    )
    config = push_blob(a, "app", config_of(), media.OCI_CONFIG)
    a.put_manifest("app", "v1", ImageManifest(config=config, layers=(elsewhere,)))
    seen = SeenBlobs()
    a.copy("app", "v1", to=b, blob_progress=seen)
    assert seen.outcomes() == {config.digest: "copied", elsewhere.digest: "skipped"}


def test_tags_that_share_blobs_report_each_blob_once(make: MakeClient) -> None:
    a, b = make(), make()
    first = push_layers(a, [2 * MIB, 100], "v1")
    second = ImageManifest(config=first.config, layers=first.layers[:1])
    a.put_manifest("app", "v2", second)
    third = push_layers(a, [100], "v3")
    seen = SeenBlobs()
    assert len(list(a.copy_tags("app", to=b, blob_progress=seen))) == 3
    assert seen.outcomes() == all_of(first, "copied") | all_of(third, "copied")


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
def test_archives_report_each_blob(make: MakeClient, tmp_path: Path, form: Any) -> None:
    registry = make()
    manifest = push_layers(registry, [2 * MIB, 100])
    saved, loaded, again = SeenBlobs(), SeenBlobs(), SeenBlobs()
    path = tmp_path / "archive"
    registry.save_image("app", "v1", path, format=form, blob_progress=saved)
    assert saved.outcomes() == all_of(manifest, "copied")
    large = manifest.layers[0].digest
    assert len(saved.done(large)) > 1
    if form == "oci":
        second = SeenBlobs()
        registry.save_image("app", "v1", path, format="oci", blob_progress=second)
        assert second.outcomes() == all_of(manifest, "skipped")
        registry.load_image(path, "new", "v1", blob_progress=loaded)
        assert loaded.outcomes() == all_of(manifest, "copied")
        assert len(loaded.done(large)) > 1
        registry.load_image(path, "new", "v1", blob_progress=again)
        assert again.outcomes() == all_of(manifest, "skipped")


def test_artifacts_report_each_file_by_its_title(make: MakeClient, tmp_path: Path) -> None:
    registry = make()
    files = [ArtifactFile(os.urandom(3 * MIB), name="big"), ArtifactFile(b"small", name="small")]
    pushed, again, pulled = SeenBlobs(), SeenBlobs(), SeenBlobs()
    registry.push_artifact("app", "v1", files, blob_progress=pushed)
    named = {call.blob.annotations.get(TITLE): call for call in pushed.calls}
    assert set(named) == {"big", "small", None}  # None is the config
    assert set(pushed.outcomes().values()) == {"copied"}
    registry.push_artifact("app", "v1", files, blob_progress=again)
    assert again.outcomes() == dict.fromkeys(pushed.outcomes(), "skipped")
    registry.pull_artifact("app", "v1", tmp_path, blob_progress=pulled)
    assert {call.blob.annotations[TITLE] for call in pulled.calls} == {"big", "small"}
    assert set(pulled.outcomes().values()) == {"copied"}
    big = named["big"].digest
    assert pulled.done(big)[-1] == 3 * MIB
    assert pulled.done(big) == sorted(pulled.done(big))


def test_both_functions_are_called_one_at_a_time(make: MakeClient) -> None:
    a, b = make(), make()
    manifest = push_layers(a, [2 * MIB] * 8)
    seen = SeenBlobs()
    total: list[int] = []

    def slowly(progress: BlobProgress) -> None:
        time.sleep(0.0005)
        seen(progress)

    def progress(done: int, _: int | None) -> None:
        assert seen._running.acquire(blocking=False)
        total.append(done)
        seen._running.release()

    a.copy("app", "v1", to=b, progress=progress, blob_progress=slowly)
    assert seen.outcomes() == all_of(manifest, "copied")
    assert total == sorted(total)
    assert total[-1] == sum(blob.size for blob in blobs_of(manifest))


class Stopped(Exception):
    """Raised by a progress function of a test."""


@pytest.mark.parametrize("operation", ["copy", "copy_tags", "save", "load", "push", "pull"])
def test_an_exception_of_the_function_ends_the_operation(
    make: MakeClient, tmp_path: Path, operation: str
) -> None:
    a, b = make(), make()
    push_layers(a, [2 * MIB] * 3)
    a.save_image("app", "v1", tmp_path / "a.tar")
    files = [ArtifactFile(os.urandom(2 * MIB), name=name) for name in "xyz"]
    a.push_artifact("app", "files", files)
    calls: list[BlobProgress] = []

    def stop(progress: BlobProgress) -> None:
        calls.append(progress)
        if progress.done > MIB:
            raise Stopped

    operations: dict[str, Callable[[], object]] = {
        "copy": lambda: a.copy("app", "v1", to=b, blob_progress=stop),
        "copy_tags": lambda: list(a.copy_tags("app", to=b, tags=["v1"], blob_progress=stop)),
        "save": lambda: a.save_image("app", "v1", tmp_path / "b.tar", blob_progress=stop),
        "load": lambda: b.load_image(tmp_path / "a.tar", "app", "v1", blob_progress=stop),
        "push": lambda: b.push_artifact("app", "v1", files, blob_progress=stop),
        "pull": lambda: a.pull_artifact("app", "files", tmp_path / "new", blob_progress=stop),
    }
    with pytest.raises(Stopped):
        operations[operation]()
    assert [call for call in calls if call.done > MIB] == calls[-1:]  # it is not called again
    assert not b.manifest_exists("app", "v1")
    assert not (tmp_path / "b.tar").exists()
    assert not any((tmp_path / "new").glob("*"))
