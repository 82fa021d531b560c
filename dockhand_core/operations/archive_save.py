"""The archive of an image of a registry."""

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
    Descriptor,
    Digest,
    ImageIndex,
    ImageManifest,
    Platform,
    media,
)
from dockhand_core.operations.archive_images import blob_path
from dockhand_core.operations.archive_layout import (
    LAYOUT,
    LayoutFolder,
    Sink,
    TarWriter,
    index_entry,
    index_json,
)
from dockhand_core.operations.images import DEPTH, UNSTATED, image
from dockhand_core.operations.platform_subset import check_platform, platforms_of, subset
from dockhand_core.operations.transfers import CONCURRENCY, TotalProgress, fetch_blob

__all__ = ["ArchiveFormat", "save_image"]

ArchiveFormat: TypeAlias = Literal["oci", "oci-archive", "docker-archive"]
Document: TypeAlias = ImageManifest | ImageIndex

MANIFESTS = 10_000  # manifests and indexes of one image


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
) -> Flow[Descriptor]:
    """Write an image into an archive; `RegistryClient.save_image` describes the arguments."""
    docker = archive_format == "docker-archive"
    if archive_format not in get_args(ArchiveFormat):
        raise DockhandError(
            f"format {archive_format!r} is unknown; there are: {', '.join(get_args(ArchiveFormat))}"
        )
    wanted = platforms_of(platforms)
    if wanted and (platform is not None or docker):
        other = "a docker-archive has one platform" if docker else "platform is given too"
        raise DockhandError(f"platforms cannot be used: {other}; use platform=…")
    tag = reference if isinstance(reference, str) and ":" not in reference else None
    if docker or platform is not None:
        top: Document = yield from image(driver, repository, reference, platform or UNSTATED)
    else:
        top = yield from driver.manifest(repository, reference)
        if wanted:
            top = yield from _of_platforms(driver, repository, top, wanted)
    if docker:
        assert isinstance(top, ImageManifest)
        full_name = _repo_tag(name or (tag and f"{repository}:{tag}"))
        yield from _save_docker(driver, repository, top, path, full_name, progress)
    else:
        tree = _Tree(driver, repository)
        yield from tree.add(top, DEPTH)
        save = _save_folder if archive_format == "oci" else _save_tar
        yield from save(driver, repository, tree, path, name or tag, progress)
    return top.descriptor()


def _of_platforms(
    driver: RegistryDriver, repository: str, document: Document, platforms: Sequence[Platform]
) -> Flow[Document]:
    """The part of an index that has some platforms; a single image is checked by its config."""
    if isinstance(document, ImageIndex):
        return subset(document, platforms)
    config = yield from driver.image_config(repository, document)
    check_platform(config, platforms, f"repository {repository}")
    return document


def _repo_tag(name: str | None) -> str | None:
    """The entry of RepoTags in a docker-archive: a name with a tag."""
    if name is None:
        return None
    if "@" in name or not name.strip() or any(character.isspace() for character in name):
        raise DockhandError(f"{name!r} is not the name of an image, such as library/nginx:1.27")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


class _Tree:
    """The manifests and blobs of an image.

    Attributes:
        documents: the manifests and indexes, each after those that it lists.
        blobs: the blobs by digest, in the order of the manifests.
    """

    def __init__(self, driver: RegistryDriver, repository: str) -> None:
        self._driver, self._repository = driver, repository
        self.documents: dict[Digest, Document] = {}
        self.blobs: dict[Digest, Descriptor] = {}

    def add(self, document: Document, depth: int) -> Flow[None]:
        """Add a manifest or index, with everything below it."""
        if isinstance(document, ImageManifest):
            for blob in (document.config, *document.layers):
                yield from self._add_blob(blob)
        elif depth == 0:
            raise ManifestInvalid(
                f"repository {self._repository}: indexes within indexes, more than {DEPTH} deep"
            )
        else:
            for entry in document.manifests:
                if entry.digest in self.documents:
                    continue
                if len(self.documents) >= MANIFESTS:
                    raise ManifestInvalid(
                        f"repository {self._repository}: the index has more than {MANIFESTS} "
                        "manifests"
                    )
                if entry.media_type in media.MANIFESTS | media.INDEXES:
                    child = yield from self._driver.manifest(self._repository, entry)
                    yield from self.add(child, depth - 1)
                else:
                    yield from self._add_blob(entry)  # an index may list any content
        self.documents[document.digest] = document

    def _add_blob(self, blob: Descriptor) -> Flow[None]:
        known = self.blobs.setdefault(blob.digest, blob)
        if known.size != blob.size:
            raise ManifestInvalid(
                f"repository {self._repository}: two descriptors of {blob.digest} state the sizes "
                f"{known.size} and {blob.size}"
            )
        # Layers with URLs need not be in the registry. A layout may lack them, too.
        if blob.urls and not (yield from self._driver.blob_exists(self._repository, blob)):
            del self.blobs[blob.digest]


def _save_tar(
    driver: RegistryDriver,
    repository: str,
    tree: _Tree,
    path: Path,
    name: str | None,
    progress: Progress | None,
) -> Flow[None]:
    """Write a tar file of an image layout."""
    *_, top = tree.documents.values()
    index = index_json([index_entry(top.descriptor(), name)])
    contents = {"oci-layout": LAYOUT, "index.json": index}
    for document in reversed(tree.documents.values()):
        contents[blob_path(document.digest)] = document.raw
    blobs = {blob_path(blob.digest): blob for blob in tree.blobs.values()}
    yield from _write_tar(driver, repository, path, contents, blobs, progress)


def _save_docker(
    driver: RegistryDriver,
    repository: str,
    manifest: ImageManifest,
    path: Path,
    name: str | None,
    progress: Progress | None,
) -> Flow[None]:
    """Write a docker-archive."""
    if manifest.config.media_type not in (media.OCI_CONFIG, media.DOCKER_CONFIG):
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
    yield from _write_tar(driver, repository, path, contents, blobs, progress)


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
    progress: Progress | None,
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
    tar = yield from blocking(TarWriter, path, list(members.items()))
    try:
        for name, data in contents.items():
            yield from blocking(tar.write, name, data)
        total = TotalProgress(progress, sum(blob.size for blob in blobs.values()))
        flows = (
            _fetch(driver, repository, blob, partial(tar.sink, name), total)
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
    total: TotalProgress,
) -> Flow[None]:
    """Fetch a blob into the place that `open_sink` opens."""
    sink = yield from blocking(open_sink)
    try:
        yield from fetch_blob(
            driver, repository, blob, sink.write, partial(total.report, blob.digest)
        )
        yield from blocking(sink.commit)
    finally:
        sink.close()


def _save_folder(
    driver: RegistryDriver,
    repository: str,
    tree: _Tree,
    path: Path,
    name: str | None,
    progress: Progress | None,
) -> Flow[None]:
    """Write an image layout in a folder, or add the image to a layout."""
    *_, top = tree.documents.values()
    folder = yield from blocking(LayoutFolder, path)
    total = TotalProgress(progress, sum(blob.size for blob in tree.blobs.values()))

    def fetch(blob: Descriptor) -> Flow[None]:
        if (yield from blocking(folder.has, blob.digest, blob.size)):
            total.report(blob.digest, blob.size)
            return
        yield from _fetch(driver, repository, blob, partial(folder.sink, blob.digest), total)

    try:
        flows = (fetch(blob) for blob in tree.blobs.values())
        yield from parallel(flows, limit=min(CONCURRENCY, len(tree.blobs)) or 1)
        for document in tree.documents.values():
            yield from blocking(folder.write, document.digest, document.raw)
        yield from blocking(folder.finish, top.descriptor(), name)
    except BaseException:
        folder.discard()
        raise
