"""The push of an image from an archive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ArchiveInvalid, DigestMismatch, PlatformNotFound
from dockhand_core.flow import Flow, Progress, blocking, parallel
from dockhand_core.models import (
    BlobState,
    Digest,
    ImageIndex,
    ImageManifest,
    Platform,
    PushResult,
    check_digest,
    check_reference,
    check_repository,
)
from dockhand_core.operations.archives.files import ArchiveFiles, open_archive
from dockhand_core.operations.archives.images import ArchivedImage, choose, images_of
from dockhand_core.operations.archives.layers import Layer, prepare_layer
from dockhand_core.operations.archives.plans import (
    ArchiveDriver,
    Blob,
    Plan,
    docker_config,
    docker_plan,
    layout_plan,
    read_manifest,
)
from dockhand_core.operations.image_tree import parsed_platforms, select_platforms
from dockhand_core.operations.transfers import CONCURRENCY, BlobFunction, TransferProgress
from dockhand_core.text import shown

__all__ = ["load_image"]

COMPRESSIONS = 4  # layers that are compressed at a time


def load_image(
    driver: RegistryDriver,
    path: Path,
    repository: str,
    reference: str | None,
    *,
    source: str | None,
    platforms: Sequence[Platform | str] | None,
    progress: Progress | None,
    blob_progress: BlobFunction | None,
) -> Flow[PushResult]:
    """Push an image of an archive; `RegistryClient.load_image` describes the arguments."""
    check_repository(repository)
    target = None if reference is None else check_reference(reference)
    wanted = parsed_platforms(platforms or ())
    opened: list[ArchiveFiles] = []  # not a result, which would be lost if the task is cancelled
    try:
        yield from blocking(lambda: opened.append(open_archive(path)))
        [files] = opened
        images = yield from blocking(images_of, files)
        image = choose(images, source, wanted)
        plan = yield from _planned(files, image, wanted)
        if isinstance(target, Digest):
            actual = Digest.of(plan.top.raw, target.algorithm)
            check_digest(target, actual, f"archive {path}: the image")
        yield from _upload_blobs(driver, repository, files, plan, progress, blob_progress)
        return (yield from _push_documents(driver, repository, target, plan))
    finally:
        for each in opened:
            each.close()


def _planned(
    files: ArchiveFiles, image: ArchivedImage, platforms: Sequence[Platform]
) -> Flow[Plan]:
    if image.descriptor is not None:
        root = yield from blocking(read_manifest, files, image.descriptor)
        if platforms:
            root = yield from _select(files, root, platforms)
        return (yield from blocking(layout_plan, files, root))
    config, digest = yield from blocking(
        docker_config, files, image.config, image.layers, platforms
    )
    diff_ids: dict[str, Digest] = {}
    for name, diff_id in zip(image.layers, config.diff_ids, strict=True):
        if diff_ids.setdefault(name, Digest(diff_id)) != diff_id:
            raise ArchiveInvalid(
                f"member {shown(name)} is a layer with two digests: {diff_ids[name]} and {diff_id}",
                member=name,
            )
    regions = {}
    for name in diff_ids:
        region = files.find(name)
        if region is None:
            raise ArchiveInvalid(f"the archive lacks the layer {shown(name)}", member=name)
        regions[name] = region
    names = sorted(regions, key=lambda name: regions[name].offset)
    layers: list[Layer] = yield from parallel(
        (blocking(prepare_layer, regions[name], diff_ids[name]) for name in names),
        limit=1 if files.sequential else COMPRESSIONS,
    )
    prepared = dict(zip(names, layers, strict=True))
    ordered = [prepared[name] for name in image.layers]
    return docker_plan(image.config, config, digest, ordered)


def _select(
    files: ArchiveFiles, root: ImageManifest | ImageIndex, platforms: Sequence[Platform]
) -> Flow[ImageManifest | ImageIndex]:
    """The part of an index for some platforms, whose blobs may be the only ones in the archive."""
    name = str(files.path)
    try:
        return (yield from select_platforms(ArchiveDriver(files), name, root, platforms))
    except PlatformNotFound as error:
        text = str(error).removeprefix("repository ")
        raise PlatformNotFound(f"archive {text}") from None


def _upload_blobs(
    driver: RegistryDriver,
    repository: str,
    files: ArchiveFiles,
    plan: Plan,
    progress: Progress | None,
    blob_progress: BlobFunction | None,
) -> Flow[None]:
    blobs = sorted(plan.blobs.values(), key=lambda blob: blob.offset)
    total = TransferProgress(progress, blob_progress)
    total.plan(blob.descriptor for blob in blobs)
    limit = 1 if files.sequential else min(CONCURRENCY, len(blobs))
    flows = (
        total.transfer(blob.descriptor, partial(_upload, driver, repository, blob))
        for blob in blobs
    )
    yield from parallel(flows, limit=limit)


def _upload(
    driver: RegistryDriver, repository: str, blob: Blob, sent: Callable[[int], None]
) -> Flow[BlobState]:
    try:
        pushed = yield from driver.upload_blob(
            repository,
            blob.source,
            digest=blob.descriptor.digest,
            progress=lambda done, _: sent(done),
        )
    except DigestMismatch:
        yield from blocking(_check_blob, blob)
        raise
    return "copied" if pushed.uploaded else "skipped"


def _check_blob(blob: Blob) -> None:
    """Raise `ArchiveInvalid` if it is the archive's blob that has a wrong digest."""
    expected = blob.descriptor.digest
    hasher = expected.hasher()
    for block in blob.source.open():
        hasher.update(block)
    actual = Digest.of_hash(expected.algorithm, hasher)
    if actual != expected:
        raise ArchiveInvalid(
            f"member {shown(blob.member)} has the digest {actual}, not {expected}",
            member=blob.member,
        ) from None


def _push_documents(
    driver: RegistryDriver, repository: str, reference: str | None, plan: Plan
) -> Flow[PushResult]:
    """Push the manifests, each after those that it lists; the last one gets the tag."""
    *children, top = plan.documents.values()
    for document in children:
        yield from driver.put_manifest(repository, document.digest, document, media_type=None)
    return (
        yield from driver.put_manifest(repository, reference or top.digest, top, media_type=None)
    )
