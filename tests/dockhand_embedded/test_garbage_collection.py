"""Blobs that nothing names go; whatever a manifest or a running push needs stays."""

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
from dockhand_embedded.storage.garbage_collection import Collected, collect
from dockhand_embedded.storage.layout import FRESH

from dockhand_core import ManifestBlobUnknown, connect

QUIET = {"driver": "null"}
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def storage(tmp_path: Path) -> LayoutStorage:
    """A folder: nothing else is collected."""
    return LayoutStorage(tmp_path / "root")


def later(storage: LayoutStorage, **options: Any) -> Collected:
    """Collect as if all grace had passed."""
    return collect(storage, now=time.time() + 10_000, **options)


def test_what_is_named_stays(to: Any, storage: LayoutStorage) -> None:
    child = to.image("team/app", "", b"child")
    to.put("team/app", "multi", to.index(child), OCI_INDEX)
    subject = to.image("team/app", "v1", b"layer")
    described = to.descriptor(subject, "application/vnd.oci.image.manifest.v1+json")
    referrer = to.image("team/app", "", b"signature", subject=described)
    unused = to.blob("team/app", b"nobody's")
    gone = to.image("team/app", "gone", b"of the deleted")
    assert to.client.delete(f"/v2/team/app/manifests/{to.digest_of(gone)}").status_code == 202
    done = later(storage)
    assert sorted(done.blobs) == sorted(
        [("team/app", unused), ("team/app", to.digest_of(b"of the deleted"))]
    )
    assert done.freed == len(b"nobody's") + len(b"of the deleted")
    for data in (b"child", b"layer", b"signature", b"{}"):
        assert to.client.get(f"/v2/team/app/blobs/{to.digest_of(data)}").content == data
    for manifest in (child, subject, referrer):
        url = f"/v2/team/app/manifests/{to.digest_of(manifest)}"
        assert to.client.get(url).content == manifest
    assert to.client.get(f"/v2/team/app/blobs/{unused}").status_code == 404
    assert later(storage).blobs == []


def test_what_another_tool_nested_stays(to: Any, storage: LayoutStorage) -> None:
    """Its index.json names an index only; the rest is found below, however deep."""
    image = to.image("a", "", b"deep")
    inner = to.index(image)
    to.put("a", "inner", inner, OCI_INDEX)
    entry = {"mediaType": OCI_INDEX, "digest": to.digest_of(inner), "size": len(inner)}
    outer = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    to.put("a", "outer", outer, OCI_INDEX)
    path = storage.root / "a/index.json"
    document = json.loads(path.read_text())
    wanted = to.digest_of(outer)
    document["manifests"] = [e for e in document["manifests"] if e["digest"] == wanted]
    path.write_text(json.dumps(document))
    assert later(storage).blobs == []
    assert to.client.get(f"/v2/a/manifests/{to.digest_of(image)}").content == image


def test_a_dry_run_changes_nothing(to: Any, storage: LayoutStorage) -> None:
    data = os.urandom(100)
    digest = to.blob("a", data)
    to.client.post(f"/v2/b/blobs/uploads/?mount={digest}&from=a")
    dry = later(storage, dry_run=True)
    assert to.client.get(f"/v2/a/blobs/{digest}").content == data
    # Two names of one file free its room once.
    assert (sorted(dry.blobs), dry.freed) == ([("a", digest), ("b", digest)], 100)
    done = later(storage)
    assert (sorted(done.blobs), done.freed) == (sorted(dry.blobs), dry.freed)


def test_other_repositories_keep_theirs(to: Any, storage: LayoutStorage) -> None:
    to.image("a", "v1", b"shared")
    digest = to.digest_of(b"shared")
    to.client.post(f"/v2/b/blobs/uploads/?mount={digest}&from=a")
    done = later(storage)
    assert (done.blobs, done.freed) == ([("b", digest)], 0)
    assert to.client.get(f"/v2/a/blobs/{digest}").content == b"shared"


def test_a_push_under_way_is_left_alone(to: Any, storage: LayoutStorage) -> None:
    old = to.blob("a", b"came first")
    location = to.start("a")
    assert later(storage).busy == ["a"]  # by the upload that is open
    assert to.client.delete(location).status_code == 204
    assert collect(storage).busy == ["a"]  # by the blob's age
    # What a client was told of counts as new from then on.
    then = time.time() + FRESH + 100
    path = storage.root / "a/blobs/sha256" / old.partition(":")[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dockhand_embedded.storage.layout.time.time", lambda: then)
        assert to.client.head(f"/v2/a/blobs/{old}").status_code == 200
    changed = path.stat().st_ctime
    assert collect(storage, grace=50, now=changed + 40).busy == ["a"]
    assert collect(storage, grace=50, now=changed + 60).blobs == [("a", old)]


def test_an_unreadable_manifest_keeps_all(to: Any, storage: LayoutStorage) -> None:
    """What it names is not known, so nothing may go."""
    manifest = to.image("a", "v1", b"layer")
    to.blob("a", b"unused")
    path = storage.root / "a/blobs/sha256" / to.digest_of(manifest).partition(":")[2]
    path.write_bytes(b"{ broken")
    done = later(storage)
    assert (done.blobs, done.unclear) == ([], ["a"])


def test_pushes_and_collections_at_once(tmp_path: Path) -> None:
    """The same few layers, over and over: each is unused at some moment, and needed at the next."""
    root = str(tmp_path / "root")
    stop = threading.Event()
    removed: list[tuple[str, str]] = []

    def collecting() -> None:
        storage = LayoutStorage(root)
        while not stop.is_set():
            removed.extend(collect(storage, grace=0.02).blobs)

    def pushing(seed: int, pushed: list[tuple[str, str]]) -> None:
        chance = random.Random(seed)
        with connect(root, driver="embedded", logging=QUIET) as registry:
            for number in range(25):
                layer = f"layer {chance.randrange(4)}".encode()
                config = {**_blob(registry, b"{}"), "mediaType": "application/x.config"}
                document = {
                    "schemaVersion": 2,
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": config,
                    "layers": [{**_blob(registry, layer), "mediaType": "application/x.layer"}],
                    "annotations": {"number": f"{seed}.{number}"},
                }
                try:
                    done = registry.put_manifest("a/b", f"t{seed}.{number}", document)
                except ManifestBlobUnknown:
                    # The grace is absurdly short here: then the push is told, never broken later.
                    continue
                if chance.random() < 0.5:
                    registry.delete_manifest("a/b", done.digest)
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


def test_from_the_command_line(to: Any, storage: LayoutStorage, tmp_path: Path) -> None:
    to.image("team/app", "v1", b"layer")
    unused = to.blob("team/app", b"unused")
    root = str(storage.root)
    done = run("--root", root, "--gc")
    assert (done.returncode, done.stdout) == (0, "0 blobs removed, 0 bytes freed\n")
    assert "team/app: left alone, it is being pushed to" in done.stderr
    done = run("--root", root, "--gc", "--dry-run", "--grace", "0")
    line = f"team/app@{unused}\n"
    assert done.stdout == f"{line}1 blobs would be removed, 6 bytes would be freed\n"
    done = run("--root", root, "--gc", "--grace", "0")
    assert done.stdout == f"{line}1 blobs removed, 6 bytes freed\n"
    done = run("--root", str(tmp_path / "mistyped"), "--gc")
    assert done.returncode == 1
    assert "is not a folder" in done.stderr
    assert not (tmp_path / "mistyped").exists()
