"""Pull of an artifact into a folder.

Follows: OCI Image Specification 1.1, "Guidelines for Artifact Usage"; the conventions of oras 1.3.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ArtifactInvalid
from dockhand_core.flow import Flow, Progress, blocking, parallel
from dockhand_core.models import BlobState, Descriptor, ImageIndex, ImageManifest
from dockhand_core.operations.artifacts.files import (
    CONTENT_DIGEST,
    MEMBERS,
    TITLE,
    UNPACK,
)
from dockhand_core.operations.artifacts.names import Parts, split_name
from dockhand_core.operations.transfers import CONCURRENCY, BlobFunction, TransferProgress
from dockhand_core.text import shown

if TYPE_CHECKING:
    from dockhand_core.operations.artifacts.unpacking import PulledFiles

__all__ = ["PULL_LIMIT", "pull_artifact"]

PULL_LIMIT = 4 << 30  # bytes; the default `max_size` of a pull
COMPRESSED = 64 << 20  # bytes by which compressed folders may exceed `max_size`: headers take space


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer with a title."""

    descriptor: Descriptor
    parts: Parts

    @property
    def unpacked(self) -> bool:
        """Whether it is a folder."""
        return self.descriptor.annotations.get(UNPACK) == "true"


def pull_artifact(
    driver: RegistryDriver,
    repository: str,
    reference: str | Descriptor,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool,
    max_size: int | None,
    progress: Progress | None,
    blob_progress: BlobFunction | None,
) -> Flow[list[Path]]:
    """Pull an artifact; `ImageClient.pull_artifact` describes the arguments."""
    target = Path(folder)
    limit = PULL_LIMIT if max_size is None else max_size
    manifest = yield from driver.manifest(repository, reference)
    if isinstance(manifest, ImageIndex):
        raise ArtifactInvalid(
            f"repository {repository}: {manifest.digest} is an index, not an artifact; pull one of "
            "its manifests by digest"
        )
    subject = f"the artifact {repository}@{manifest.digest}"
    layers = _titled(manifest, subject)
    if not layers:
        return []
    _check_sizes(layers, limit, subject)
    total = TransferProgress(progress, blob_progress)

    def download(number: int, layer: _Layer, sent: Callable[[int], None]) -> Flow[BlobState]:
        yield from driver.download_blob(
            repository,
            layer.descriptor,
            made[0].blob_path(number),
            progress=lambda done, _: sent(done),
        )
        return "copied"

    made: list[PulledFiles] = []  # not a result, which would be lost if the task is cancelled
    try:
        yield from blocking(lambda: made.append(_pulled_files(target, limit, subject)))
        [pulled] = made
        if not overwrite:
            yield from blocking(_check_absent, pulled, layers)
        total.plan(layer.descriptor for layer in layers)
        yield from parallel(
            [
                total.transfer(layer.descriptor, partial(download, number, layer))
                for number, layer in enumerate(layers)
            ],
            limit=CONCURRENCY,
        )
        for number, layer in enumerate(layers):
            yield from blocking(_add, pulled, layer, number)
        yield from blocking(lambda: pulled.place(overwrite=overwrite))
    except GeneratorExit:
        _remove(made)
        raise
    except BaseException:
        yield from blocking(_remove, made)
        raise
    yield from blocking(pulled.remove)
    return [target.joinpath(*layer.parts) for layer in layers]


def _titled(manifest: ImageManifest, subject: str) -> list[_Layer]:
    """The layers that have a title, after a check of all titles."""
    layers: list[_Layer] = []
    named: dict[Parts, _Layer] = {}
    for descriptor in manifest.layers:
        title = descriptor.annotations.get(TITLE)
        if not title:
            continue
        layer = _Layer(descriptor, split_name(title, subject))
        if not (layer.parts or layer.unpacked):
            raise ArtifactInvalid(f"{subject}: the name {shown(title)} names no file")
        if layer.parts in named:
            raise ArtifactInvalid(f"{subject}: two files have the name {shown(title)}")
        named[layer.parts] = layer
        layers.append(layer)
    for parts in named:
        for length in range(len(parts)):
            above = named.get(parts[:length])
            if above is not None and not above.unpacked:
                raise ArtifactInvalid(
                    f"{subject}: {shown('/'.join(parts))} lies below "
                    f"{shown('/'.join(above.parts))}, which is a file"
                )
    if len(layers) > MEMBERS:
        raise ArtifactInvalid(f"{subject}: it has more than {MEMBERS} files")
    return layers


def _check_sizes(layers: list[_Layer], limit: int, subject: str) -> None:
    """Compare the stated sizes with the limit, before anything is fetched."""
    plain = sum(layer.descriptor.size for layer in layers if not layer.unpacked)
    packed = sum(layer.descriptor.size for layer in layers if layer.unpacked)
    if plain > limit or packed > limit + COMPRESSED:
        raise ArtifactInvalid(
            f"{subject}: its layers have {plain + packed} bytes, but max_size is {limit}"
        )


def _pulled_files(folder: Path, limit: int, subject: str) -> PulledFiles:
    from dockhand_core.operations.artifacts.unpacking import PulledFiles

    return PulledFiles(folder, limit, subject)


def _remove(made: list[PulledFiles]) -> None:
    for each in made:
        each.remove()


def _check_absent(pulled: PulledFiles, layers: list[_Layer]) -> None:
    for layer in layers:
        if not layer.unpacked:
            pulled.check_absent(layer.parts)


def _add(pulled: PulledFiles, layer: _Layer, number: int) -> None:
    blob = pulled.blob_path(number)
    if layer.unpacked:
        digest = layer.descriptor.annotations.get(CONTENT_DIGEST)
        pulled.unpack(layer.parts, blob, digest or None)
    else:
        pulled.add_file(layer.parts, blob)
