"""Repositories with thousands of manifests: the cost of a push, and readers of `index.json`."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dockhand_embedded import LayoutStorage
from dockhand_embedded.storage import index_file
from dockhand_embedded.storage.index import REF_NAME, RepositoryIndex, StoredManifest
from dockhand_embedded.storage.index_file import PATCH_THRESHOLD

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

PUSHER = """
import hashlib, json, random, sys
from dockhand_embedded import LayoutStorage
from dockhand_embedded.storage.index import StoredManifest
root, name, seed = sys.argv[1:]
rng = random.Random(int(seed))
storage = LayoutStorage(root)
kind = "application/vnd.oci.image.manifest.v1+json"
for number in range(100_000):
    tag = f"t{rng.randrange(60)}" if rng.random() < 0.7 else f"x{seed}-{number}"
    with storage.edit_index(name) as edit:
        if rng.random() < 0.25 and edit.delete_tag(tag):
            line = f"- {tag}"
        else:
            digest = "sha256:" + hashlib.sha256(f"{seed} {number}".encode()).hexdigest()
            edit.put(StoredManifest(digest, kind, 7), [tag])
            line = f"+ {tag} {digest}"
    print(line, flush=True)
"""


@pytest.fixture
def storage(root: Path) -> LayoutStorage:
    return LayoutStorage(root)


def fill(root: Path, name: str, count: int) -> Path:
    """Write a layout whose index lists `count` manifests, and return the path of `index.json`."""
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": f"sha256:{number:064x}",
            "size": 7,
            "annotations": {REF_NAME: f"old{number}"},
        }
        for number in range(count)
    ]
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return folder / "index.json"


def tags_in(path: Path) -> dict[str, str]:
    """The tags and digests in an `index.json`, as another tool reads them."""
    entries = json.loads(path.read_bytes())["manifests"]
    tagged = [e for e in entries if REF_NAME in e.get("annotations", {})]
    tags = {e["annotations"][REF_NAME]: e["digest"] for e in tagged}
    assert len(tags) == len(tagged)
    digests = [e["digest"] for e in entries if e not in tagged]
    assert len(set(digests)) == len(digests)
    return tags


def written_bytes(push: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of bytes that `push` writes with `os.write`."""
    real, total = os.write, 0

    def count(fd: int, data: Any) -> int:
        nonlocal total
        size = real(fd, data)
        total += size
        return size

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", count)
        push()
    return total


def test_a_push_writes_as_much_for_many_manifests_as_for_few(
    api: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[int, int] = {}
    copies: list[str] = []
    for count in (600, 6000):
        name = f"r{count}"
        path = fill(root, name, count)
        for number in range(4):  # the file is read, written whole twice, and copied once
            api.push_image(name, f"v{number}", b"layer %d" % number)
        manifest = api.image_manifest(b"layer 0", annotations={"n": "5"})

        def push(name: str = name, manifest: bytes = manifest) -> None:
            assert api.put_manifest(name, "next", manifest).status_code == 201

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "copyfileobj", lambda source, *_: copies.append(source.name))
            sizes[count] = written_bytes(push, monkeypatch)
        assert tags_in(path)["next"] == api.digest_of(manifest)
        assert len(tags_in(path)) == count + 5
    assert sizes[6000] - sizes[600] < 100
    assert sizes[6000] < 4096
    assert copies == []


def test_random_changes_of_a_large_index(root: Path) -> None:
    """After each change, the file has the content of the index, for this and for a new process."""
    rng = random.Random(7)
    path = fill(root, "big", 500)
    assert path.stat().st_size > PATCH_THRESHOLD
    storage = LayoutStorage(root)
    expected = tags_in(path)
    digests = set(expected.values())
    for number in range(250):
        with storage.edit_index("big") as edit:
            choice = rng.random()
            if choice < 0.2 and expected:
                tag = next(iter(expected)) if rng.random() < 0.5 else rng.choice(list(expected))
                assert edit.delete_tag(tag)
                del expected[tag]
            elif choice < 0.4 and digests:
                digest = rng.choice(sorted(digests))
                gone = edit.delete_manifest(digest)
                assert set(gone) == {tag for tag, d in expected.items() if d == digest}
                expected = {tag: d for tag, d in expected.items() if d != digest}
                digests.discard(digest)
            else:
                digest = f"sha256:{rng.randrange(600):064x}"
                tags = [f"new{rng.randrange(50)}" for _ in range(rng.randrange(3))]
                edit.put(StoredManifest(digest, OCI_MANIFEST, 7), tags)
                digests.add(digest)
                for tag in tags:
                    expected.pop(tag, None)
                    expected[tag] = digest
        assert tags_in(path) == expected
        if number % 10 == 0:
            fresh = RepositoryIndex.parse(path.read_bytes())
            known = storage.index("big")
            assert known is not None
            assert fresh.manifests == known.manifests
            assert set(fresh.manifests) == digests
            assert fresh.entries == known.entries
            assert fresh.tags() == known.tags() == sorted(expected)


def test_every_entry_of_a_large_index_can_be_removed(root: Path) -> None:
    path = fill(root, "big", 500)
    storage = LayoutStorage(root)
    for first in range(0, 500, 10):
        with storage.edit_index("big") as edit:
            for number in range(first, first + 10):
                edit.delete_manifest(f"sha256:{number:064x}")
        assert len(tags_in(path)) == 490 - first
    with storage.edit_index("big") as edit:
        edit.put(StoredManifest(f"sha256:{1:064x}", OCI_MANIFEST, 7), ["v1"])
    assert tags_in(path) == {"v1": f"sha256:{1:064x}"}
    assert path.stat().st_size < PATCH_THRESHOLD  # the spaces are gone, too


def test_a_reader_that_is_slow_reads_one_version(root: Path) -> None:
    """A file that a process has open is never changed, however many pushes follow."""
    path = fill(root, "big", 500)
    storage = LayoutStorage(root)

    def put(number: int) -> None:
        with storage.edit_index("big") as edit:
            edit.put(StoredManifest(f"sha256:{number:064x}", OCI_MANIFEST, 7), ["moved"])

    for number in range(4):
        put(number)
    with path.open("rb", buffering=0) as reader:
        whole = path.read_bytes()
        first = reader.read(100)
        for number in range(4, 8):
            put(number)
        assert first + reader.read() == whole
    assert tags_in(path)["moved"] == f"sha256:{7:064x}"
    for number in range(8, 12):
        put(number)
    assert tags_in(path)["moved"] == f"sha256:{11:064x}"


def test_a_hard_link_to_the_index_stays_as_it_was(root: Path, tmp_path: Path) -> None:
    """Backups with hard links (`cp -al`) keep the version that they were made of."""
    path = fill(root, "big", 500)
    storage = LayoutStorage(root)
    for number in range(10):
        if number == 5:
            os.link(path, tmp_path / "backup")
            whole = path.read_bytes()
        with storage.edit_index("big") as edit:
            edit.put(StoredManifest(f"sha256:{number:064x}", OCI_MANIFEST, 7), ["moved"])
    assert (tmp_path / "backup").read_bytes() == whole
    assert tags_in(path)["moved"] == f"sha256:{9:064x}"


def test_change_by_another_tool_right_after_a_push(root: Path) -> None:
    """The other tool's file may have the same size, and a time in the same tick of the clock."""
    path = fill(root, "big", 500)
    storage = LayoutStorage(root)
    for number in range(30):
        with storage.edit_index("big") as edit:
            edit.put(StoredManifest(f"sha256:{number:064x}", OCI_MANIFEST, 7), ["mine"])
        data = path.read_bytes()
        with path.open("r+b") as file:  # in place: the inode stays
            file.write(data.replace(b'"old7"', b'"OLD7"' if b'"old7"' in data else b'"old7"'))
        index = storage.index("big")
        assert index is not None
        assert index.tags() == sorted(tags_in(path))


def test_change_by_another_tool_during_a_push(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its change may be lost, since it takes no lock, but the file is never a mixture of both."""
    path = fill(root, "big", 500)
    storage = LayoutStorage(root)

    def put(number: int) -> None:
        with storage.edit_index("big") as edit:
            edit.put(StoredManifest(f"sha256:{number:064x}", OCI_MANIFEST, 7), ["mine"])

    for number in range(3):
        put(number)
    monkeypatch.setattr(index_file, "_change_kept", lambda *_: None)  # no leases: it is copied
    real = shutil.copyfileobj

    def change_and_copy(source: Any, *arguments: Any) -> None:
        document = json.loads(path.read_bytes())
        path.write_text(json.dumps({**document, "annotations": {"a": "b" * 500}}, indent=1))
        real(source, *arguments)

    monkeypatch.setattr(shutil, "copyfileobj", change_and_copy)
    put(3)
    monkeypatch.setattr(shutil, "copyfileobj", real)
    for number in range(4, 8):
        assert tags_in(path)["mine"] == f"sha256:{number - 1:064x}"
        put(number)
    assert len(tags_in(path)) == 501


@pytest.mark.parametrize("failing", ["fsync", "replace", "link"])
def test_failure_while_a_large_index_is_written(
    root: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The index stays as it was, or the push succeeds where only the hard link failed."""
    path = fill(root, "big", 500)
    storage = LayoutStorage(root)

    def put(number: int) -> None:
        with storage.edit_index("big") as edit:
            edit.put(StoredManifest(f"sha256:{number:064x}", OCI_MANIFEST, 7), ["moved"])

    def fail(*_: object) -> None:
        raise OSError(5, "input/output error")

    for number in range(4):
        put(number)
    with monkeypatch.context() as patch:
        if failing == "replace":
            patch.setattr(Path, "replace", fail)
        else:
            patch.setattr(os, failing, fail)
        if failing == "link":
            put(4)
        else:
            with pytest.raises(OSError, match="input/output"):
                put(4)
    expected = f"sha256:{4 if failing == 'link' else 3:064x}"
    assert tags_in(path)["moved"] == expected
    index = storage.index("big")
    assert index is not None
    manifest = index.tagged("moved")
    assert manifest is not None
    assert manifest.digest == expected
    for number in range(5, 9):
        put(number)
        assert tags_in(path)["moved"] == f"sha256:{number:064x}"
    assert len(list((root / ".uploads").iterdir())) <= 1


def start_pusher(root: Path, name: str, seed: int) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", PUSHER, str(root), name, str(seed)],
        stdout=subprocess.PIPE,
        env=env,
        text=True,
    )


def test_kill_while_a_large_index_is_written(root: Path) -> None:
    """At each moment, and after each kill, other tools read all acknowledged changes.

    Only the one change that was in progress may be there or not.
    """
    path = fill(root, "big", 500)
    expected = tags_in(path)
    done = threading.Event()
    broken: list[str] = []
    read = 0

    def keep_reading() -> None:
        nonlocal read
        while not done.is_set():
            try:
                json.loads(path.read_bytes())
            except ValueError as error:
                broken.append(str(error))
            read += 1

    reader = threading.Thread(target=keep_reading)
    reader.start()
    rng = random.Random()
    changes = 0
    try:
        for seed in range(6):
            process = start_pusher(root, "big", seed)
            assert process.stdout
            first = process.stdout.readline()
            time.sleep(rng.uniform(0.1, 0.4))
            process.send_signal(signal.SIGKILL)
            lines = [first, *process.communicate()[0].splitlines(keepends=True)]
            changes += len(lines)
            for line in lines:
                if not line.endswith("\n"):
                    continue
                sign, tag, *digest = line.split()
                if sign == "+":
                    expected[tag] = digest[0]
                else:
                    del expected[tag]
            found = tags_in(path)
            different = {tag for tag in {*found, *expected} if found.get(tag) != expected.get(tag)}
            assert len(different) <= 1
            expected = found
    finally:
        done.set()
        reader.join()
    assert broken == []
    assert changes > 60
    assert read > 10
    LayoutStorage(root)
    assert list((root / ".uploads").iterdir()) == []


def test_two_processes_change_one_large_index(root: Path) -> None:
    path = fill(root, "big", 500)
    processes = [start_pusher(root, "big", seed) for seed in (1, 2)]
    output: list[list[str]] = []
    for process in processes:
        assert process.stdout
        output.append([process.stdout.readline() for _ in range(10)])
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process, lines in zip(processes, output, strict=True):
        lines.extend(process.communicate()[0].splitlines(keepends=True))
    for seed, lines in enumerate(output, 1):
        complete = [line.split() for line in lines if line.endswith("\n")]
        own = {words[1] for words in complete if words[0] == "+" and words[1].startswith("x")}
        assert own
        assert own <= set(tags_in(path)), seed


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_skopeo_reads_a_large_index(api: Any, root: Path) -> None:
    fill(root, "big", 500)
    for number in range(5):
        manifest = api.push_image("big", "tip", b"layer %d" % number)
    api.client.delete("/v2/big/manifests/old0")
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{root}/big:tip"], capture_output=True, check=True
    )
    assert raw.stdout == manifest
