"""Garbage collection: unused blobs are removed; blobs of manifests and of running pushes stay."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from dockhand_embedded import LayoutStorage
from dockhand_embedded.storage.garbage_collection import GarbageReport, collect_garbage
from dockhand_embedded.storage.layout import TOUCH_INTERVAL

from dockhand_core import ManifestBlobUnknown, connect

QUIET = {"driver": "null"}
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def storage(tmp_path: Path) -> LayoutStorage:
    """Make a storage in a folder, the only kind with garbage collection."""
    return LayoutStorage(tmp_path / "root")


def collect_without_grace(storage: LayoutStorage, **options: Any) -> GarbageReport:
    """Collect as if the grace period had passed for all blobs."""
    return collect_garbage(storage, now=time.time() + 10_000, **options)


def test_named_blobs_stay(api: Any, storage: LayoutStorage) -> None:
    child = api.push_image("team/app", "", b"child")
    api.put_manifest("team/app", "multi", api.image_index(child), OCI_INDEX)
    subject = api.push_image("team/app", "v1", b"layer")
    described = api.descriptor(subject, "application/vnd.oci.image.manifest.v1+json")
    referrer = api.push_image("team/app", "", b"signature", subject=described)
    unused = api.push_blob("team/app", b"nobody's")
    gone = api.push_image("team/app", "gone", b"of the deleted")
    assert api.client.delete(f"/v2/team/app/manifests/{api.digest_of(gone)}").status_code == 202
    report = collect_without_grace(storage)
    assert sorted(report.removed) == sorted(
        [("team/app", unused), ("team/app", api.digest_of(b"of the deleted"))]
    )
    assert report.freed_bytes == len(b"nobody's") + len(b"of the deleted")
    for data in (b"child", b"layer", b"signature", b"{}"):
        assert api.client.get(f"/v2/team/app/blobs/{api.digest_of(data)}").content == data
    for manifest in (child, subject, referrer):
        url = f"/v2/team/app/manifests/{api.digest_of(manifest)}"
        assert api.client.get(url).content == manifest
    assert api.client.get(f"/v2/team/app/blobs/{unused}").status_code == 404
    assert collect_without_grace(storage).removed == []


def test_nested_indexes_of_another_tool_stay(api: Any, storage: LayoutStorage) -> None:
    """index.json names only the outer index; the inner index and the image must stay, too."""
    image = api.push_image("a", "", b"deep")
    inner = api.image_index(image)
    api.put_manifest("a", "inner", inner, OCI_INDEX)
    entry = {"mediaType": OCI_INDEX, "digest": api.digest_of(inner), "size": len(inner)}
    outer = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    api.put_manifest("a", "outer", outer, OCI_INDEX)
    path = storage.root / "a/index.json"
    document = json.loads(path.read_text())
    wanted = api.digest_of(outer)
    document["manifests"] = [e for e in document["manifests"] if e["digest"] == wanted]
    path.write_text(json.dumps(document))
    assert collect_without_grace(storage).removed == []
    assert api.client.get(f"/v2/a/manifests/{api.digest_of(image)}").content == image


def test_a_dry_run_changes_nothing(api: Any, storage: LayoutStorage) -> None:
    data = os.urandom(100)
    digest = api.push_blob("a", data)
    api.client.post(f"/v2/b/blobs/uploads/?mount={digest}&from=a")
    dry_report = collect_without_grace(storage, dry_run=True)
    assert api.client.get(f"/v2/a/blobs/{digest}").content == data
    # The two blobs are links to one file, whose space is counted once.
    assert (sorted(dry_report.removed), dry_report.freed_bytes) == (
        [("a", digest), ("b", digest)],
        100,
    )
    report = collect_without_grace(storage)
    assert (sorted(report.removed), report.freed_bytes) == (
        sorted(dry_report.removed),
        dry_report.freed_bytes,
    )


def test_other_repositories_keep_the_blob(api: Any, storage: LayoutStorage) -> None:
    api.push_image("a", "v1", b"shared")
    digest = api.digest_of(b"shared")
    api.client.post(f"/v2/b/blobs/uploads/?mount={digest}&from=a")
    report = collect_without_grace(storage)
    assert (report.removed, report.freed_bytes) == ([("b", digest)], 0)
    assert api.client.get(f"/v2/a/blobs/{digest}").content == b"shared"


def test_repository_with_a_push_in_progress_is_skipped(api: Any, storage: LayoutStorage) -> None:
    old = api.push_blob("a", b"came first")
    location = api.start_upload("a")
    assert collect_without_grace(storage).in_use == ["a"]  # because of the open upload
    assert api.client.delete(location).status_code == 204
    assert collect_garbage(storage).in_use == ["a"]  # because of the blob's age
    # A blob counts as new again once the registry has reported its existence to a client.
    then = time.time() + TOUCH_INTERVAL + 100
    path = storage.root / "a/blobs/sha256" / old.partition(":")[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dockhand_embedded.storage.layout.time.time", lambda: then)
        assert api.client.head(f"/v2/a/blobs/{old}").status_code == 200
    changed = path.stat().st_ctime
    assert collect_garbage(storage, grace=50, now=changed + 40).in_use == ["a"]
    assert collect_garbage(storage, grace=50, now=changed + 60).removed == [("a", old)]


def test_unreadable_manifest_skips_the_repository(api: Any, storage: LayoutStorage) -> None:
    """It is unknown which blobs an unreadable manifest needs, so nothing is removed."""
    manifest = api.push_image("a", "v1", b"layer")
    api.push_blob("a", b"unused")
    path = storage.root / "a/blobs/sha256" / api.digest_of(manifest).partition(":")[2]
    path.write_bytes(b"{ broken")
    report = collect_without_grace(storage)
    assert (report.removed, report.unreadable) == ([], ["a"])


def test_concurrent_pushes_and_collections(tmp_path: Path) -> None:
    """Clients push and delete the same few layers, while garbage is collected all the time."""
    root = str(tmp_path / "root")
    stop = threading.Event()
    removed: list[tuple[str, str]] = []

    def collecting() -> None:
        storage = LayoutStorage(root)
        while not stop.is_set():
            removed.extend(collect_garbage(storage, grace=0.02).removed)

    def pushing(seed: int, pushed: list[tuple[str, str]]) -> None:
        rng = random.Random(seed)
        with connect(root, driver="embedded", logging=QUIET) as registry:
            for number in range(25):
                layer = f"layer {rng.randrange(4)}".encode()
                config = {**_blob(registry, b"{}"), "mediaType": "application/x.config"}
                document = {
                    "schemaVersion": 2,
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": config,
                    "layers": [{**_blob(registry, layer), "mediaType": "application/x.layer"}],
                    "annotations": {"number": f"{seed}.{number}"},
                }
                try:
                    pushed_manifest = registry.put_manifest("a/b", f"t{seed}.{number}", document)
                except ManifestBlobUnknown:
                    # The grace period is very short here: a push may fail, but its image never
                    # loses blobs afterwards.
                    continue
                if rng.random() < 0.5:
                    registry.delete_manifest("a/b", pushed_manifest.digest)
                else:
                    pushed.append((f"t{seed}.{number}", layer.decode()))
                time.sleep(0.03)

    collector = threading.Thread(target=collecting)
    kept: list[tuple[str, str]] = []
    pushers = [threading.Thread(target=pushing, args=(n, kept)) for n in range(2)]
    for thread in (collector, *pushers):
        thread.start()
    for thread in pushers:
        thread.join(60)
    stop.set()
    collector.join(60)
    with connect(root, driver="embedded", logging=QUIET) as registry:
        assert set(registry.tags("a/b")) == {tag for tag, _ in kept}
        for tag, layer in kept:
            manifest = registry.image("a/b", tag)
            assert registry.read_blob("a/b", manifest.layers[0].digest) == layer.encode()
    assert removed


def _blob(registry: Any, data: bytes) -> dict[str, Any]:
    return {"digest": str(registry.upload_blob("a/b", data).digest), "size": len(data)}


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dockhand_embedded", *options],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


def test_command_line(api: Any, storage: LayoutStorage, tmp_path: Path) -> None:
    api.push_image("team/app", "v1", b"layer")
    unused = api.push_blob("team/app", b"unused")
    root = str(storage.root)
    done = run("--root", root, "--gc")
    assert (done.returncode, done.stdout) == (0, "0 blobs removed, 0 bytes freed\n")
    assert "team/app: skipped, a push may be in progress" in done.stderr
    done = run("--root", root, "--gc", "--dry-run", "--grace", "0")
    line = f"team/app@{unused}\n"
    assert done.stdout == f"{line}1 blobs would be removed, 6 bytes would be freed\n"
    done = run("--root", root, "--gc", "--grace", "0")
    assert done.stdout == f"{line}1 blobs removed, 6 bytes freed\n"
    done = run("--root", str(tmp_path / "mistyped"), "--gc")
    assert done.returncode == 2
    assert "is not a folder" in done.stderr
    assert not (tmp_path / "mistyped").exists()
