"""The progress of single blobs if connections break, blobs are missing, or a copy is stopped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cutting_proxy import cutting_proxy
from layered_images import push_layers_at
from seen_blobs import SeenBlobs
from watched_registry import WatchedRegistry

from dockhand_core import (
    BlobProgress,
    BlobUnknown,
    DigestMismatch,
    RegistryClient,
    async_connect,
    connect,
)

MakeClient = Callable[..., RegistryClient]
MIB = 1 << 20


def falls(numbers: list[int]) -> int:
    """The number of times that a number is smaller than the one before."""
    return sum(later < earlier for earlier, later in pairwise(numbers))


def forget_uploads(method: str, path: str) -> tuple[int, bytes] | None:
    """Answer of a registry that has forgotten every upload that broke."""
    return (404, b"") if method == "GET" and "/uploads/" in path else None


def test_a_blob_that_is_copied_again_from_its_beginning_falls_in_its_own_progress_only(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    manifest = push_layers_at(source.url, [6 * MIB])
    target.answer = forget_uploads
    seen, totals = SeenBlobs(), list[tuple[int, int | None]]()
    with cutting_proxy(target.url) as proxy:
        proxy.upload_cuts = [4 * MIB]
        a, b = make_client(source.url), make_client(proxy.url)
        a.copy("app", "v1", to=b, progress=lambda *state: totals.append(state), blob_progress=seen)
        assert proxy.cut_count == 1
    large = manifest.layers[0]
    assert seen.outcomes() == {large.digest: "copied", manifest.config.digest: "copied"}
    assert falls(seen.done(large.digest)) == 1
    assert seen.done(large.digest)[-1] == large.size
    assert falls([done for done, _ in totals]) == 0
    assert totals[-1] == (large.size + manifest.config.size,) * 2


def test_a_blob_that_is_loaded_again_from_its_beginning_falls(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry, tmp_path: Path
) -> None:
    manifest = push_layers_at(source.url, [6 * MIB])
    with connect(source.url) as registry:
        registry.save_image("app", "v1", tmp_path / "a.tar")
    target.answer = forget_uploads
    seen = SeenBlobs()
    with cutting_proxy(target.url) as proxy:
        proxy.upload_cuts = [4 * MIB]
        make_client(proxy.url).load_image(tmp_path / "a.tar", "app", "v1", blob_progress=seen)
        assert proxy.cut_count == 1
    large = manifest.layers[0].digest
    assert seen.outcomes()[large] == "copied"
    assert falls(seen.done(large)) == 1


def test_a_download_that_is_resumed_does_not_fall(
    make_client: MakeClient, source: WatchedRegistry, tmp_path: Path
) -> None:
    manifest = push_layers_at(source.url, [6 * MIB])
    seen = SeenBlobs()
    with cutting_proxy(source.url) as proxy:
        proxy.download_cuts = [1500, 3 * MIB]  # the manifest's reply is the first
        registry = make_client(proxy.url)
        registry.save_image("app", "v1", tmp_path / "a.tar", blob_progress=seen)
    large = manifest.layers[0].digest
    assert seen.outcomes()[large] == "copied"
    assert falls(seen.done(large)) == 0


def test_a_blob_that_the_source_lacks_has_failed(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry, tmp_path: Path
) -> None:
    manifest = push_layers_at(source.url, [2 * MIB])
    large = manifest.layers[0].digest
    source.answer = lambda _, path: (404, b"") if path.endswith(large) else None
    a, b = make_client(source.url), make_client(target.url)
    copied, saved = SeenBlobs(), SeenBlobs()
    with pytest.raises(BlobUnknown):
        a.copy("app", "v1", to=b, blob_progress=copied)
    with pytest.raises(BlobUnknown):
        a.save_image("app", "v1", tmp_path / "a.tar", blob_progress=saved)
    for seen in (copied, saved):
        assert [(call.done, call.state) for call in seen.of(large)] == [(0, "failed")]


def test_a_blob_with_wrong_bytes_has_failed_where_it_was(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    manifest = push_layers_at(source.url, [3 * MIB])
    large = manifest.layers[0].digest
    wrong = os.urandom(3 * MIB)
    source.answer = lambda _, path: (200, wrong) if path.endswith(large) else None
    a, b = make_client(source.url), make_client(target.url)
    seen = SeenBlobs()
    with pytest.raises(DigestMismatch):
        a.copy("app", "v1", to=b, blob_progress=seen)
    last = seen.of(large)[-1]
    assert last.state == "failed"
    assert last.done == seen.done(large)[-1] > 0


def test_a_blob_that_failed_for_one_tag_begins_again_for_another(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    manifest = push_layers_at(source.url, [2 * MIB])
    large = manifest.layers[0].digest
    with connect(source.url) as registry:
        registry.put_manifest("app", "v2", manifest)
    missing = iter([(404, b"")])
    source.answer = lambda _, path: next(missing, None) if path.endswith(large) else None
    a, b = make_client(source.url), make_client(target.url)
    seen = SeenBlobs()
    results = list(a.copy_tags("app", to=b, blob_progress=seen))
    assert len([result for result in results if result.error]) == 1
    states = [call.state for call in seen.of(large)]
    assert [state for state in states if state != "moving"] == ["failed", "copied"]
    assert states[0] == "failed"


def test_blobs_of_a_cancelled_copy_have_failed(
    source: WatchedRegistry, target: WatchedRegistry
) -> None:
    manifest = push_layers_at(source.url, [8 * MIB] * 3)
    seen = SeenBlobs()

    async def main() -> None:
        async with async_connect(source.url) as a, async_connect(target.url) as b:
            begun = asyncio.Event()

            def progress(each: BlobProgress) -> None:
                seen(each)
                if each.done > MIB:
                    begun.set()

            copy: asyncio.Task[Any] = asyncio.create_task(
                a.copy("app", "v1", to=b, blob_progress=progress)
            )
            await begun.wait()
            copy.cancel()
            with pytest.raises(asyncio.CancelledError):
                await copy

    asyncio.run(main())
    outcomes = seen.outcomes()
    assert "failed" in {outcomes.get(layer.digest) for layer in manifest.layers}


def test_blobs_of_an_interrupted_copy_have_failed(
    source: WatchedRegistry, target: WatchedRegistry
) -> None:
    push_layers_at(source.url, [8 * MIB] * 3)
    seen = SeenBlobs()

    def interrupt(done: int, _: int | None) -> None:
        if done > MIB:
            raise KeyboardInterrupt

    with connect(source.url) as a, connect(target.url) as b:
        with pytest.raises(KeyboardInterrupt):
            a.copy("app", "v1", to=b, progress=interrupt, blob_progress=seen)
        assert not b.manifest_exists("app", "v1")
    assert "failed" in seen.outcomes().values()
