"""Crashes: the server is killed during pushes, and its disk becomes full."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dockhand_core import (
    BlobUploadUnknown,
    ConnectionFailed,
    Descriptor,
    Digest,
    DockhandError,
    ImageManifest,
    NotFound,
    RangeInvalid,
    RegistryClient,
    ServerError,
    connect,
)
from dockhand_core.models import media

QUIET = {"driver": "null"}
PUSHES = 100
PUSHERS = 3


@contextmanager
def server(root: Path, *options: str, limit: int | None = None) -> Iterator[tuple[str, int]]:
    """Start a server, provide its URL and process id, and kill it at the end."""

    process = subprocess.Popen(
        [sys.executable, "-m", "dockhand_embedded", "--root", str(root), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if limit is not None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    with process:
        line = process.stdout.readline()
        try:
            yield line.removeprefix("listening on ").strip(), process.pid
        finally:
            process.kill()


@dataclass
class Pusher:
    """A client that pushes random content to a repository, and records what is acknowledged.

    Attributes:
        repository: the repository's name; no other pusher uses it, so its content is known.
        rng: decides the next action, and the size of the pushed content.
        tags: the digests that each tag may point to; several if a request got no reply, with
            None if the tag may be missing.
        manifests: the digests of manifests that were acknowledged and not deleted since.
        uncertain: the digest of a manifest that is being pushed or deleted, and may exist or not.
        blobs: the digests of blobs with the sizes in bytes; blobs are never deleted.
        pushes: the number of manifests that were acknowledged.
    """

    repository: str
    rng: random.Random
    tags: dict[str, set[str | None]] = field(default_factory=dict)
    manifests: set[str] = field(default_factory=set)
    uncertain: set[str] = field(default_factory=set)
    blobs: dict[str, int] = field(default_factory=dict)
    pushes: int = 0

    def run(self, url: str, others: list[Pusher]) -> None:
        """Push and delete content until the server is killed."""
        with connect(url, logging=QUIET, retries=0) as registry:
            try:
                while True:
                    # The server keeps no idle uploads (`--upload-age 0`), so an upload may vanish.
                    # While the server deletes it, the upload is locked: RangeInvalid.
                    with contextlib.suppress(BlobUploadUnknown, RangeInvalid):
                        self._push_or_delete(registry, others)
            except (ConnectionFailed, ServerError):
                pass

    def _push_or_delete(self, registry: RegistryClient, others: list[Pusher]) -> None:
        if self.manifests and self.rng.random() < 0.15:
            digest = self.rng.choice(sorted(self.manifests))
            self.manifests.discard(digest)
            self.uncertain.add(digest)
            for digests in self.tags.values():
                if digest in digests:
                    digests.add(None)
            registry.delete_manifest(self.repository, digest)
            self.uncertain.discard(digest)
            for digests in self.tags.values():
                digests.discard(digest)
            return
        layers = tuple(self._layer(registry, others) for _ in range(self.rng.randrange(1, 4)))
        config = self._blob(registry, b"{}", media.OCI_CONFIG)
        manifest = ImageManifest(
            config=config, layers=layers, annotations={"n": str(self.rng.random())}
        )
        digest, tag = str(manifest.descriptor().digest), f"t{self.rng.randrange(8)}"
        self.uncertain.add(digest)
        self.tags.setdefault(tag, {None}).add(digest)
        registry.put_manifest(self.repository, tag, manifest)
        self.uncertain.discard(digest)
        self.manifests.add(digest)
        self.tags[tag] = {digest}
        self.pushes += 1

    def _layer(self, registry: RegistryClient, others: list[Pusher]) -> Descriptor:
        other = self.rng.choice(others)
        known = sorted(other.blobs)
        if known and self.rng.random() < 0.3:
            digest = self.rng.choice(known)
            registry.mount_blob(self.repository, digest, other.repository)
            size = self.blobs[digest] = other.blobs[digest]
            return Descriptor(media_type=media.OCI_LAYER, digest=Digest(digest), size=size)
        data = self.rng.randbytes(self.rng.choice([10, 1000, 100_000, 700_000]))
        if self.rng.random() < 0.5:
            return self._blob(registry, data, media.OCI_LAYER)
        upload = registry.start_upload(self.repository)
        half = len(data) // 2
        upload = registry.upload_chunk(upload, data[:half])
        upload = registry.upload_chunk(upload, data[half:])
        done = registry.finish_upload(upload, Digest.of(data))
        return self._descriptor(done.digest, len(data), media.OCI_LAYER)

    def _blob(self, registry: RegistryClient, data: bytes, kind: str) -> Descriptor:
        return self._descriptor(registry.upload_blob(self.repository, data).digest, len(data), kind)

    def _descriptor(self, digest: Digest, size: int, kind: str) -> Descriptor:
        self.blobs[str(digest)] = size
        return Descriptor(media_type=kind, digest=digest, size=size)

    def check_index(self, path: Path) -> None:
        """Check that another tool finds acknowledged content right after a kill."""
        if not path.exists() and not self.manifests:
            return
        entries = json.loads(path.read_bytes())["manifests"]
        assert self.manifests <= {entry["digest"] for entry in entries}
        name = "org.opencontainers.image.ref.name"
        tagged = {e["annotations"][name]: e["digest"] for e in entries if "annotations" in e}
        for tag, digests in self.tags.items():
            assert tagged.get(tag) in digests

    def check(self, registry: RegistryClient) -> None:
        """Check that acknowledged content is there, and that all content is complete."""
        for digest in self.manifests:
            assert registry.manifest_exists(self.repository, digest)
        try:
            listed = set(registry.tags(self.repository))
        except NotFound:
            listed = set()
        for tag, digests in self.tags.items():
            found = None
            if tag in listed:
                found = str(registry.manifest_head(self.repository, tag).digest)
            assert found in digests
            # Only this digest is possible from now on.
            self.tags[tag] = {found}
        for digest in sorted(self.uncertain):
            if registry.manifest_exists(self.repository, digest):
                self.manifests.add(digest)
        self.uncertain.clear()
        for digest in self.manifests:
            manifest = registry.image(self.repository, digest)
            for descriptor in (manifest.config, *manifest.layers):
                # reading verifies the digest
                registry.read_blob(self.repository, descriptor.digest, max_size=1 << 20)
        for digest, size in self.blobs.items():
            assert registry.blob_size(self.repository, digest) == size


def write_large_index(folder: Path) -> None:
    """Write a layout whose index lists 500 manifests without tags."""
    entries = [
        {"mediaType": media.OCI_MANIFEST, "digest": f"sha256:{number:064x}", "size": 7}
        for number in range(500)
    ]
    folder.mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


@pytest.mark.timeout(600)  # it takes over a minute on a machine of its own
def test_server_killed_at_random_moments(tmp_path: Path) -> None:
    """Three clients push at least a hundred images; the next start removes leftover files.

    One of the repositories has a large index, which is patched and not written whole.
    """
    root = tmp_path / "root"
    write_large_index(root / "team/p0")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    pushers = [Pusher(f"team/p{n}", random.Random(seed + n)) for n in range(PUSHERS)]
    rounds = 0
    while rounds < 5 or sum(pusher.pushes for pusher in pushers) < PUSHES:
        rounds += 1
        with server(root, "--upload-age", "0") as (url, pid):
            assert _leftover_files(root) == []
            with connect(url, logging=QUIET) as registry:
                for pusher in pushers:
                    pusher.check(registry)
            threads = [threading.Thread(target=p.run, args=(url, pushers)) for p in pushers]
            for thread in threads:
                thread.start()
            # On a busy machine, a short round ends before anything is pushed.
            before, until = sum(pusher.pushes for pusher in pushers), time.monotonic() + 10
            while rounds % 2 and time.monotonic() < until:
                if sum(pusher.pushes for pusher in pushers) > before + 2:
                    break
                time.sleep(0.01)
            time.sleep(rng.uniform(0.05, 0.4))
            os.kill(pid, 9)
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()
        for pusher in pushers:
            pusher.check_index(root / pusher.repository / "index.json")
    with server(root, "--upload-age", "0") as (url, _), connect(url, logging=QUIET) as registry:
        for pusher in pushers:
            pusher.check(registry)
    assert _leftover_files(root) == []
    for path in root.rglob("blobs/sha256/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def _leftover_files(root: Path) -> list[str]:
    leftovers = [path.name for path in (root / ".uploads").iterdir()]
    for path in root.rglob("blobs/*/*"):
        if not re.fullmatch("[0-9a-f]{64}", path.name):
            leftovers.append(str(path))
    return leftovers


def test_upload_continues_after_a_kill(tmp_path: Path) -> None:
    """Acknowledged bytes need not be sent again."""
    data = os.urandom(3 << 20)
    with server(tmp_path) as (url, pid), connect(url, logging=QUIET, retries=0) as registry:
        upload = registry.upload_chunk(registry.start_upload("a/b"), data[: 2 << 20])
        os.kill(pid, 9)
    port = url.rpartition(":")[2]
    with server(tmp_path, "--port", port) as (url, _), connect(url, logging=QUIET) as registry:
        upload = registry.upload_status(upload)
        assert upload.offset == 2 << 20
        upload = registry.upload_chunk(upload, data[2 << 20 :])
        registry.finish_upload(upload, Digest.of(data))
        assert registry.read_blob("a/b", Digest.of(data), max_size=4 << 20) == data


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits a process so")
def test_full_disk(tmp_path: Path) -> None:
    """The kernel rejects writes above a limit, like a full disk; the server reports it and goes on.

    Existing content is unchanged, and nothing remains of the content that did not fit.
    """
    data = os.urandom(3 << 20)
    with (
        server(tmp_path, limit=1 << 20) as (url, _),
        connect(url, logging=QUIET, retries=0) as registry,
    ):
        small = registry.upload_blob("a/b", b"fits").digest
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(ServerError) as caught:
            registry.upload_blob("a/b", data)
        assert (caught.value.status or 0) >= 500
        # A chunk that does not fit is removed; the client can continue or cancel the upload.
        upload = registry.start_upload("a/b")
        upload = registry.upload_chunk(upload, data[: 1 << 19])
        with pytest.raises(DockhandError):
            registry.upload_chunk(upload, data[1 << 19 :])
        assert registry.upload_status(upload).offset in {1 << 19, 0}
        registry.cancel_upload(upload)
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
        assert registry.read_blob("a/b", small) == b"fits"
        registry.upload_blob("a/b", b"fits too")
