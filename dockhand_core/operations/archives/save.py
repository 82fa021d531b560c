"""The saving of an image of a registry into an archive."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias, get_args

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import (
    DockhandError,
    ManifestInvalid,
    Unsupported,
)
from dockhand_core.flow import Flow, Progress, blocking, parallel
from dockhand_core.models import (
    BlobState,
    Descriptor,
    Digest,
    ImageIndex,
    ImageManifest,
    Platform,
    media,
)
from dockhand_core.operations.archives.images import blob_path
from dockhand_core.operations.archives.layout import (
    LAYOUT,
    LayoutFolder,
    Sink,
    TarWriter,
    index_entry,
    index_json,
)
from dockhand_core.operations.copies.blob_transfer import is_distributable
from dockhand_core.operations.image_tree import (
    ImageTree,
    parsed_platforms,
    select_platforms,
    walk_tree,
)
from dockhand_core.operations.images import image
from dockhand_core.operations.transfers import (
    CONCURRENCY,
    BlobFunction,
    TransferProgress,
    fetch_blob,
)

__all__ = ["ArchiveFormat", "save_image"]

ArchiveFormat: TypeAlias = Literal["oci", "oci-archive", "docker-archive"]
Document: TypeAlias = ImageManifest | ImageIndex


def save_image(
    driver: RegistryDriver,
    repository: str,
    reference: str | Descriptor,
    path: Path,
    *,
    archive_format: ArchiveFormat,
    platform: Platform | str | None,
    platforms: Sequence[Platform | str] | None,
    name: str | None,
    progress: Progress | None,
    blob_progress: BlobFunction | None,
) -> Flow[Descriptor]:
    """Write an image into an archive; `RegistryClient.save_image` describes the arguments."""
    docker = archive_format == "docker-archive"
    if archive_format not in get_args(ArchiveFormat):
        raise DockhandError(
            f"format {archive_format!r} is unknown; there are: {', '.join(get_args(ArchiveFormat))}"
        )
    wanted = parsed_platforms(platforms or ())
    if wanted and (platform is not None or docker):
        other = "a docker-archive has one platform" if docker else "platform is given too"
        raise DockhandError(f"platforms cannot be used: {other}; use platform=…")
    tag = reference if isinstance(reference, str) and ":" not in reference else None
    if docker or platform is not None:
        top: Document = yield from image(driver, repository, reference, platform)
    else:
        top = yield from driver.manifest(repository, reference)
        if wanted:
            top = yield from select_platforms(driver, repository, top, wanted)
    total = TransferProgress(progress, blob_progress)
    if docker:
        assert isinstance(top, ImageManifest)
        full_name = _repo_tag(name or (tag and f"{repository}:{tag}"))
        yield from _save_docker(driver, repository, top, path, full_name, total)
    else:
        tree = yield from walk_tree(driver, repository, top)
        blobs = yield from _blobs_of(driver, repository, tree)
        save = _save_folder if archive_format == "oci" else _save_tar
        yield from save(driver, repository, tree, blobs, path, name or tag, total)
    return top.descriptor()


def _repo_tag(name: str | None) -> str | None:
    """The entry of RepoTags in a docker-archive: a name with a tag."""
    if name is None:
        return None
    if "@" in name or not name.strip() or any(character.isspace() for character in name):
        raise DockhandError(f"{name!r} is not the name of an image, such as library/nginx:1.27")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _blobs_of(driver: RegistryDriver, repository: str, tree: ImageTree) -> Flow[list[Descriptor]]:
    """The blobs of an image, each once, in the order of its manifests.

    Layers that registries need not have, such as those of Windows, are left out if the registry
    lacks them; an image layout may lack them, too.
    """
    found: dict[Digest, Descriptor] = {}
    for document in tree.documents():
        parts = (document.config, *document.layers) if isinstance(document, ImageManifest) else ()
        for blob in parts:
            known = found.setdefault(blob.digest, blob)
            if known.size != blob.size:
                raise ManifestInvalid(
                    f"repository {repository}: two descriptors of {blob.digest} state the sizes "
                    f"{known.size} and {blob.size}"
                )
    blobs = []
    for blob in (found | tree.blobs).values():
        optional = blob.urls or not is_distributable(blob)
        if not optional or (yield from driver.blob_exists(repository, blob)):
            blobs.append(blob)
    return blobs


def _save_tar(
    driver: RegistryDriver,
    repository: str,
    tree: ImageTree,
    blobs: Sequence[Descriptor],
    path: Path,
    name: str | None,
    total: TransferProgress,
) -> Flow[None]:
    """Write a tar file of an image layout."""
    index = index_json([index_entry(tree.root.descriptor(), name)])
    contents = {"oci-layout": LAYOUT, "index.json": index}
    for document in reversed(list(tree.documents())):
        contents[blob_path(document.digest)] = document.raw
    named = {blob_path(blob.digest): blob for blob in blobs}
    yield from _write_tar(driver, repository, path, contents, named, total)


def _save_docker(
    driver: RegistryDriver,
    repository: str,
    manifest: ImageManifest,
    path: Path,
    name: str | None,
    total: TransferProgress,
) -> Flow[None]:
    """Write a docker-archive."""
    if manifest.config.media_type not in media.IMAGE_CONFIGS:
        raise Unsupported(
            f"repository {repository}: {manifest.digest} is an artifact, which a docker-archive "
            "cannot hold; use format='oci-archive'",
            repository=repository,
        )
    blobs = {f"{manifest.config.digest.encoded}.json": manifest.config}
    layers = []
    for layer in manifest.layers:
        if layer.urls:
            raise Unsupported(
                f"repository {repository}: the layer {layer.digest} is to be fetched from a URL; a "
                "docker-archive cannot say so; use format='oci-archive'",
                repository=repository,
            )
        layers.append(f"{layer.digest.encoded}{_extension(layer.media_type)}")
        blobs[layers[-1]] = layer
    entry = {
        "Config": f"{manifest.config.digest.encoded}.json",
        "RepoTags": [name] if name else None,
        "Layers": layers,
    }
    contents = {"manifest.json": json.dumps([entry], separators=(",", ":")).encode()}
    yield from _write_tar(driver, repository, path, contents, blobs, total)


def _extension(media_type: str) -> str:
    """The extension of a layer's file; readers look at the content."""
    for compression, extension in (("gzip", ".tar.gz"), ("zstd", ".tar.zst")):
        if media_type.endswith(compression):
            return extension
    return ".tar"


def _write_tar(
    driver: RegistryDriver,
    repository: str,
    path: Path,
    contents: Mapping[str, bytes],
    blobs: Mapping[str, Descriptor],
    total: TransferProgress,
) -> Flow[None]:
    """Write a tar file of small contents, which come first, and blobs of a registry."""
    members: dict[str, int | None] = {}
    for name, size in (
        *((name, len(data)) for name, data in contents.items()),
        *((name, blob.size) for name, blob in blobs.items()),
    ):
        for parent in reversed(PurePosixPath(name).parents[:-1]):
            members.setdefault(f"{parent}/", None)
        members[name] = size
    tar = TarWriter(path, list(members.items()))
    try:
        yield from blocking(tar.begin)
        for name, data in contents.items():
            yield from blocking(tar.write, name, data)
        total.plan(blobs.values())
        flows = (
            total.transfer(blob, partial(_fetch, driver, repository, blob, partial(tar.sink, name)))
            for name, blob in blobs.items()
        )
        yield from parallel(flows, limit=min(CONCURRENCY, len(blobs)) or 1)
        yield from blocking(tar.finish)
    except BaseException:
        tar.discard()
        raise


def _fetch(
    driver: RegistryDriver,
    repository: str,
    blob: Descriptor,
    open_sink: Callable[[], Sink],
    sent: Callable[[int], None],
) -> Flow[BlobState]:
    """Fetch a blob into the place that `open_sink` opens."""
    sink = open_sink()  # opens no file yet: its result would be lost if a task is cancelled
    try:
        yield from fetch_blob(driver, repository, blob, sink.write, sent)
        yield from blocking(sink.commit)
        return "copied"
    finally:
        sink.close()


def _save_folder(
    driver: RegistryDriver,
    repository: str,
    tree: ImageTree,
    blobs: Sequence[Descriptor],
    path: Path,
    name: str | None,
    total: TransferProgress,
) -> Flow[None]:
    """Write an image layout in a folder, or add the image to a layout."""
    folder = LayoutFolder(path)
    total.plan(blobs)

    def fetch(blob: Descriptor, sent: Callable[[int], None]) -> Flow[BlobState]:
        if (yield from blocking(folder.has, blob.digest, blob.size)):
            return "skipped"
        open_sink = partial(folder.sink, blob.digest)
        return (yield from _fetch(driver, repository, blob, open_sink, sent))

    try:
        yield from blocking(folder.begin)
        flows = (total.transfer(blob, partial(fetch, blob)) for blob in blobs)
        yield from parallel(flows, limit=min(CONCURRENCY, len(blobs)) or 1)
        for document in tree.documents():
            yield from blocking(folder.write, document.digest, document.raw)
        yield from blocking(folder.finish, tree.root.descriptor(), name)
    except BaseException:
        folder.discard()
        raise
