"""Copies between real registries, sync and async, compared with what crane and regctl leave."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dockhand_testing.contracts.samples import config_of, push_blob, push_index
from registries import distribution, program, program_environment

from dockhand_core import (
    ImageIndex,
    ImageManifest,
    RegistryClient,
    async_connect,
    connect,
)
from dockhand_core.models import media

pytestmark = pytest.mark.live

MIB = 1 << 20
PAIRS = [
    ("3.1", "3.1"),
    ("2.8", "3.1"),
    ("3.1", "2.8"),
    ("3.1", "embedded"),
    ("embedded", "3.1"),
    ("embedded", "2.8"),
]


@contextmanager
def running(kind: str, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a registry, and provide the arguments of `connect`."""
    if kind == "embedded":
        yield str(folder / "embedded"), {"driver": "embedded"}
        return
    with distribution(kind, folder) as url:
        yield url, {}


def push_app(registry: RegistryClient) -> ImageIndex:
    """Push `app:v1`, an index of a small and a large image, with a referrer of the index."""
    small = push_index(registry, "app", "plain").manifests[0]
    config = push_blob(registry, "app", config_of("arm64"), media.OCI_CONFIG)
    layers = [push_blob(registry, "app", os.urandom(n * MIB), media.OCI_LAYER) for n in (1, 3, 9)]
    large = ImageManifest(config=config, layers=tuple(layers))
    registry.put_manifest("app", large.digest, large)
    index = ImageIndex(manifests=(small, large.descriptor()))
    registry.put_manifest("app", "v1", index)
    note = push_blob(registry, "app", b"a note", "text/plain")
    empty = push_blob(registry, "app", b"{}", media.OCI_EMPTY)
    referrer = ImageManifest(
        artifact_type="text/x-note", config=empty, layers=(note,), subject=index.descriptor()
    )
    registry.put_manifest("app", referrer.digest, referrer)
    return index


def digests(registry: RegistryClient, repository: str, reference: str) -> set[str]:
    """The digests of all manifests and blobs that a reference reaches; blobs are verified."""
    document = registry.manifest(repository, reference)
    found: set[str] = {document.digest}
    if isinstance(document, ImageIndex):
        for entry in document.manifests:
            found |= digests(registry, repository, entry.digest)
        return found
    for blob in (document.config, *document.layers):
        registry.read_blob(repository, blob)
        found.add(blob.digest)
    return found


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_an_image_is_the_same_after_a_copy(tmp_path: Path, one: str, other: str) -> None:
    with (
        running(one, tmp_path / "one") as (source, options),
        running(other, tmp_path / "other") as (target, more),
        connect(source, **options) as a,
        connect(target, **more) as b,
    ):
        index = push_app(a)
        result = a.copy("app", "v1", to=b, to_repository="sync/app", referrers=True)
        assert (result.digest, result.manifests, result.dropped) == (index.digest, 4, ())
        assert a.copy("app", "v1", to=b, to_repository="sync/app").blobs_copied == 0
        assert b.copy("sync/app", "v1", to_repository="mounted/app").blobs_copied == 0

        async def copy() -> None:
            async with async_connect(source, **options) as c, async_connect(target, **more) as d:
                done = await c.copy("app", "v1", to=d, to_repository="async/app", referrers=True)
                assert done.manifests == 4
                results = [r async for r in c.copy_tags("app", to=d, to_repository="tags/app")]
                assert {r.tag: r.error for r in results} == dict.fromkeys(
                    ("v1", "plain", "amd64", "arm64")
                )

        asyncio.run(copy())
        for repository in ("sync/app", "mounted/app", "async/app", "tags/app"):
            assert digests(b, repository, "v1") == digests(a, "app", "v1")
        for repository in ("sync/app", "async/app"):
            referrers = b.referrers(repository, index.digest).manifests
            assert [d.artifact_type for d in referrers] == ["text/x-note"]
            assert referrers == a.referrers("app", index.digest).manifests


def test_crane_and_regctl_leave_the_same(tmp_path: Path) -> None:
    crane = program("crane", "install Go, and `make live` builds it")
    regctl = program("regctl", "install Go, and `make live` builds it")
    environment = program_environment(tmp_path)
    with (
        distribution("3.1", tmp_path / "one") as source,
        distribution("3.1", tmp_path / "other") as target,
        connect(source) as a,
        connect(target) as b,
    ):
        index = push_app(a)
        a.copy("app", "v1", to=b, to_repository="ours", referrers=True)
        host, other = source.removeprefix("http://"), target.removeprefix("http://")
        plain = [f"reg={each},tls=disabled" for each in (host, other)]
        commands = [
            [crane, "copy", "--insecure", f"{host}/app:v1", f"{other}/cranes:v1"],
            [
                *(regctl, "--host", plain[0], "--host", plain[1], "image", "copy", "--referrers"),
                *(f"{host}/app:v1", f"{other}/regctls:v1"),
            ],
        ]
        for command in commands:
            subprocess.run(command, check=True, env=environment, capture_output=True, timeout=60)
        assert digests(b, "ours", "v1") == digests(b, "cranes", "v1")
        assert digests(b, "ours", "v1") == digests(b, "regctls", "v1")
        ours, theirs = (b.referrers(name, index.digest) for name in ("ours", "regctls"))
        assert [d.digest for d in ours.manifests] == [d.digest for d in theirs.manifests]
