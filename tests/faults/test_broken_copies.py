"""Copies between two registries of which one breaks, refuses or lies; and stopped copies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cutting_proxy import cutting_proxy
from dockhand_testing.contracts.samples import push_image, push_index
from layered_images import push_layers_at
from watched_registry import WatchedRegistry

from dockhand_core import (
    BlobUnknown,
    ConnectionFailed,
    Descriptor,
    Digest,
    DigestMismatch,
    DockhandError,
    ImageManifest,
    ManifestUnknown,
    RegistryClient,
    ServerError,
    async_connect,
    connect,
)
from dockhand_core.driver import RegistryDriver
from dockhand_core.flow import iterator_of, take
from dockhand_core.models import media

MakeClient = Callable[..., RegistryClient]
MIB = 1 << 20


def assert_same(source: str, target: str, manifest: ImageManifest, tag: str = "v1") -> None:
    """Check that the target has the image's exact bytes."""
    with (
        connect(source, logging={"driver": "null"}) as here,
        connect(target, logging={"driver": "null"}) as there,
    ):
        assert there.manifest("app", tag).raw == manifest.raw
        for blob in (manifest.config, *manifest.layers):
            limit = blob.size
            assert there.read_blob("app", blob, max_size=limit) == here.read_blob(
                "app", blob, max_size=limit
            )


@pytest.mark.parametrize("size", [100_000, 3 * MIB])
def test_a_source_that_breaks_is_read_on_from_there(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry, size: int
) -> None:
    manifest = push_layers_at(source.url, [size])
    with cutting_proxy(source.url) as proxy:
        proxy.download_cuts = [1500, 60_000 + size // 2]  # the manifest's reply is the first
        a, b = make_client(proxy.url), make_client(target.url)
        seen: list[tuple[int, int | None]] = []
        result = a.copy("app", "v1", to=b, progress=lambda *state: seen.append(state))
    assert result.blobs_copied == 2
    assert seen == sorted(seen, key=lambda state: state[0])
    total = size + manifest.config.size
    assert seen[0] == (0, None)
    assert seen[-1] == (total, total)
    assert_same(source.url, target.url, manifest)


def test_a_target_that_breaks_gets_the_rest_or_all_again(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    manifest = push_layers_at(source.url, [5 * MIB])
    with cutting_proxy(target.url) as proxy:
        proxy.upload_cuts = [MIB, 2 * MIB]
        a, b = make_client(source.url), make_client(proxy.url)
        result = a.copy("app", "v1", to=b)
        assert proxy.cut_count >= 1
    assert result.bytes_copied == 5 * MIB + manifest.config.size
    assert_same(source.url, target.url, manifest)


def test_both_sides_break(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    manifest = push_layers_at(source.url, [4 * MIB, 3 * MIB])
    with cutting_proxy(target.url) as there, cutting_proxy(source.url) as here:
        there.upload_cuts = [MIB, 900_000]
        here.download_cuts = [2 * MIB, MIB, 700_000]
        make_client(here.url).copy("app", "v1", to=make_client(there.url))
        assert there.cut_count + here.cut_count >= 3
    assert_same(source.url, target.url, manifest)


def test_a_source_that_stays_away_leaves_nothing_behind(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    manifest = push_layers_at(source.url, [3 * MIB])
    layer = manifest.layers[0].digest
    a, b = make_client(source.url, retries=1), make_client(target.url, retries=1)
    source.answer = lambda _, path: (503, b"") if path.endswith(layer) else None
    with pytest.raises(ServerError):
        a.copy("app", "v1", to=b)
    assert target.count("PUT", "/manifests/") == 0
    assert target.count("DELETE", "/uploads/") >= 1  # again while the registry is busy
    source.answer = lambda *_: None
    assert a.copy("app", "v1", to=b).blobs_skipped == 1
    assert_same(source.url, target.url, manifest)


def test_a_refusal_of_the_last_byte_is_the_error_of_the_copy(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    manifest = push_layers_at(source.url, [2 * MIB, MIB + 1])
    layer = manifest.layers[0].digest

    def refuse(method: str, path: str) -> tuple[int, bytes] | None:
        if method == "PUT" and layer.partition(":")[2] in path:
            return 403, b'{"errors": [{"code": "DENIED", "message": "quota exceeded"}]}'
        return None

    target.answer = refuse
    a, b = make_client(source.url), make_client(target.url)
    with pytest.raises(DockhandError, match="quota exceeded"):
        a.copy("app", "v1", to=b)
    assert target.count("PUT", "/manifests/") == 0
    assert not b.manifest_exists("app", "v1")


@pytest.mark.parametrize("size", [1000, 2 * MIB])
def test_wrong_bytes_of_the_source_are_never_a_blob_of_the_target(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry, size: int
) -> None:
    manifest = push_layers_at(source.url, [size])
    layer = manifest.layers[0].digest
    wrong = os.urandom(size)
    source.answer = lambda method, path: (
        (200, wrong) if method == "GET" and path.endswith(layer) else None
    )
    a, b = make_client(source.url), make_client(target.url)
    with pytest.raises(DigestMismatch) as caught:
        a.copy("app", "v1", to=b)
    assert caught.value.expected == layer
    assert str(caught.value).startswith("the source's repository app: the blob has the digest")
    assert not b.blob_exists("app", layer)
    assert not b.blob_exists("app", Digest.of(wrong))
    assert not b.manifest_exists("app", "v1")
    assert target.uploaded < size + 1000  # the last block was held back
    assert (target.count("DELETE", "/uploads/") > 0) == (size > MIB)


def test_a_third_partys_driver_gets_no_last_block_of_a_wrong_blob(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    layer = push_layers_at(source.url, [3 * MIB]).layers[0].digest
    source.answer = lambda method, path: (
        (200, os.urandom(3 * MIB)) if method == "GET" and path.endswith(layer) else None
    )
    a, b = make_client(source.url), make_client(target.url)
    received = bytearray()

    def upload_blob(repository: str, data: Any, **_: object) -> Any:
        iterator = iterator_of(data)
        while (block := (yield from take(iterator))) is not None:
            received.extend(block)

    b.driver.upload_blob = upload_blob  # type: ignore[method-assign]
    b.driver.send_blob = (  # type: ignore[method-assign]
        lambda *args, **options: RegistryDriver.send_blob(b.driver, *args, **options)
    )
    with pytest.raises(DigestMismatch, match=layer):
        a.copy("app", "v1", to=b)
    assert len(received) < 3 * MIB


@pytest.mark.parametrize("more", [-1, 1])
def test_a_blob_of_another_size_is_refused(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry, more: int
) -> None:
    manifest = push_layers_at(source.url, [2 * MIB])
    layer = manifest.layers[0].digest
    source.answer = lambda method, path: (
        (200, bytes(2 * MIB + more)) if method == "GET" and path.endswith(layer) else None
    )
    a, b = make_client(source.url), make_client(target.url)
    with pytest.raises(DockhandError):
        a.copy("app", "v1", to=b)
    assert not b.blob_exists("app", layer)
    assert not b.manifest_exists("app", "v1")


def test_a_missing_child_is_named_before_any_blob_moves(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    with connect(source.url, logging={"driver": "null"}) as registry:
        index = push_index(registry, "app", "v1")
    child = index.manifests[1].digest
    source.answer = lambda _, path: (404, b"") if path.endswith(child) else None
    a, b = make_client(source.url), make_client(target.url)
    with pytest.raises(ManifestUnknown, match=f"lists the manifest {child} for linux/arm64/v8"):
        a.copy("app", "v1", to=b)
    assert target.requests == []


def test_a_blob_that_the_source_lacks_is_named(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    manifest = push_layers_at(source.url, [2 * MIB])
    layer = manifest.layers[0].digest
    source.answer = lambda _, path: (404, b"") if path.endswith(layer) else None
    a, b = make_client(source.url), make_client(target.url)
    with pytest.raises(BlobUnknown, match=layer):
        a.copy("app", "v1", to=b)
    assert target.count("DELETE", "/uploads/") >= 1  # again while the registry is busy
    assert not b.manifest_exists("app", "v1")


def test_a_tag_that_moves_meanwhile_changes_nothing(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    manifest = push_layers_at(source.url, [2 * MIB])
    a, b = make_client(source.url), make_client(target.url)
    seen: list[int] = []

    def progress(done: int, _: int | None) -> None:
        if not seen:
            seen.append(done)
        elif len(seen) == 1:
            seen.append(done)
            push_layers_at(source.url, [10], tag="v1")

    result = a.copy("app", "v1", to=b, progress=progress)
    assert result.digest == manifest.digest
    assert a.manifest_head("app", "v1").digest != manifest.digest
    assert b.manifest_head("app", "v1").digest == manifest.digest


def test_two_copies_at_the_same_time_both_succeed(
    source: WatchedRegistry, target: WatchedRegistry
) -> None:
    manifest = push_layers_at(source.url, [2 * MIB, 3 * MIB, 1000])
    with connect(source.url) as a, connect(target.url) as b, ThreadPoolExecutor(2) as pool:
        copies = [pool.submit(a.copy, "app", "v1", to=b) for _ in range(2)]
        assert {copy.result().digest for copy in copies} == {manifest.digest}
    assert_same(source.url, target.url, manifest)


@pytest.mark.parametrize("limit", [1, 2])
def test_copies_in_both_directions_never_wait_for_each_other(
    source: WatchedRegistry, target: WatchedRegistry, limit: int
) -> None:
    one = push_layers_at(source.url, [2 * MIB] * 5, tag="one")
    two = push_layers_at(target.url, [2 * MIB] * 5, tag="two")
    with (
        connect(source.url, max_connections=limit) as a,
        connect(target.url, max_connections=limit) as b,
        ThreadPoolExecutor(2) as pool,
    ):
        there = pool.submit(a.copy, "app", "one", to=b)
        back = pool.submit(b.copy, "app", "two", to=a)
        assert (there.result(60).digest, back.result(60).digest) == (one.digest, two.digest)

    async def both() -> None:
        async with (
            async_connect(source.url, max_connections=limit) as a,
            async_connect(target.url, max_connections=limit) as b,
            asyncio.timeout(60),
        ):
            await asyncio.gather(
                a.copy("app", "one", to=b, to_repository="async"),
                b.copy("app", "two", to=a, to_repository="async"),
            )

    asyncio.run(both())


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_registry_that_does_not_mount_is_copied_within(
    make_client: MakeClient, source: WatchedRegistry, limit: int
) -> None:
    manifest = push_layers_at(source.url, [2 * MIB] * 3)
    source.answer = lambda _, path: (401, b"") if "mount=" in path else None
    registry = make_client(source.url, max_connections=limit)
    result = registry.copy("app", "v1", to_repository="other")
    assert (result.blobs_copied, result.blobs_mounted) == (4, 0)
    assert registry.manifest("other", "v1").raw == manifest.raw


def test_an_interrupted_copy_writes_no_tag_and_cancels_its_uploads(
    source: WatchedRegistry, target: WatchedRegistry
) -> None:
    push_layers_at(source.url, [8 * MIB] * 3)

    def interrupt(done: int, _: int | None) -> None:
        if done > MIB:
            raise KeyboardInterrupt

    with connect(source.url) as a, connect(target.url) as b:
        with pytest.raises(KeyboardInterrupt):
            a.copy("app", "v1", to=b, progress=interrupt)
        assert not b.manifest_exists("app", "v1")
    assert target.count("PUT", "/manifests/") == 0
    assert target.uploaded < 24 * MIB
    assert target.count("DELETE", "/uploads/") >= 1


def test_a_cancelled_copy_writes_no_tag_and_cancels_its_uploads(
    source: WatchedRegistry, target: WatchedRegistry
) -> None:
    push_layers_at(source.url, [8 * MIB] * 3)

    async def main() -> None:
        async with async_connect(source.url) as a, async_connect(target.url) as b:
            begun = asyncio.Event()

            def progress(done: int, _: int | None) -> None:
                if done > MIB:
                    begun.set()

            copy = asyncio.create_task(a.copy("app", "v1", to=b, progress=progress))
            await begun.wait()
            copy.cancel()
            with pytest.raises(asyncio.CancelledError):
                await copy
            assert not await b.manifest_exists("app", "v1")
            # every connection is free again
            assert (await a.copy("app", "v1", to=b)).manifests == 1

    asyncio.run(main())
    assert target.count("DELETE", "/uploads/") >= 1


def test_a_failed_tag_leaves_the_others_alone(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    shared = push_layers_at(source.url, [2 * MIB], tag="v1")
    with connect(source.url, logging={"driver": "null"}) as registry:
        registry.put_manifest("app", "v3", shared)
        lost = Descriptor(media_type=media.OCI_LAYER, digest=Digest.of(b"lost"), size=4)
        broken = ImageManifest(config=shared.config, layers=(shared.layers[0], lost))
        registry.upload_blob("app", b"lost")
        registry.put_manifest("app", "v2", broken)
        registry.delete_blob("app", lost.digest)
        push_image(registry, "app", "v4")
    a, b = make_client(source.url), make_client(target.url)
    results = {result.tag: result for result in a.copy_tags("app", to=b)}
    assert set(results) == {"v1", "v2", "v3", "v4"}
    assert isinstance(results["v2"].error, BlobUnknown)
    assert not b.manifest_exists("app", "v2")
    assert [results[tag].error for tag in ("v1", "v3", "v4")] == [None] * 3
    assert source.count("GET", f"/blobs/{shared.layers[0].digest}") == 1
    assert_same(source.url, target.url, shared, "v3")


def test_a_source_that_cannot_be_reached_is_not_a_failure_of_the_target(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    push_layers_at(source.url, [2 * MIB])
    a, b = make_client(source.url), make_client(target.url)

    def open_blob(*_: object, **__: object) -> Any:
        error = ConnectionFailed("GET http://source/: refused")
        error.unsent = True
        opened.append(error)
        raise error
        yield

    opened: list[ConnectionFailed] = []
    a.driver.open_blob = open_blob  # type: ignore[method-assign]
    with pytest.raises(ConnectionFailed) as caught:
        a.copy("app", "v1", to=b)
    assert caught.value is opened[-1]
    assert len(opened) == 1 + 3  # the retries of one reader
    assert target.count("PUT", "/uploads/") <= 1 + 1  # that of the layer, and that of the config


def test_a_lost_connection_to_the_target_is_its_own_error(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry
) -> None:
    push_layers_at(source.url, [2 * MIB])
    a, b = make_client(source.url), make_client("http://127.0.0.1:9", retries=1)
    with pytest.raises(ConnectionFailed, match="127.0.0.1:9"):
        a.copy("app", "v1", to=b)


@pytest.mark.parametrize("requests", [1, 2, 3, 5])
def test_tokens_that_expire_after_some_requests_are_renewed(
    make_client: MakeClient, source: WatchedRegistry, target: WatchedRegistry, requests: int
) -> None:
    manifest = push_layers_at(source.url, [2 * MIB, 100, 2 * MIB, 2 * MIB + 1])
    tokens = 0
    left = {source.url: 0, target.url: 0}  # requests that the newest token still allows

    def expiring(registry: WatchedRegistry) -> Callable[[str, str], tuple[int, bytes] | None]:
        def answer(_: str, path: str) -> tuple[int, bytes] | None:
            nonlocal tokens
            if path.startswith("/token"):
                tokens += 1
                left[registry.url] = requests
                return 200, b'{"token": "t%d", "expires_in": 3600}' % tokens
            left[registry.url] -= 1
            return (401, b"") if left[registry.url] < 0 else None

        return answer

    for registry in (source, target):
        registry.challenge = f'Bearer realm="{registry.url}/token",service="s"'
        registry.answer = expiring(registry)
    a, b = (make_client(each.url, auth={"driver": "token"}) for each in (source, target))
    assert a.copy("app", "v1", to=b, concurrency=1).blobs_copied == 5
    assert tokens > 8 / requests
    for registry in (source, target):
        registry.answer = lambda *_: None
    assert_same(source.url, target.url, manifest)
