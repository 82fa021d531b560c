"""Clients of an embedded registry in memory, and artifacts with arbitrary layers."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from dockhand_testing.blocking import BlockingLoop, as_blocking

from dockhand_core import Descriptor, ImageManifest, RegistryClient, async_connect, connect
from dockhand_core.models import media

TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
UNPACK = "io.deis.oras.content.unpack"
CONTENT_DIGEST = "io.deis.oras.content.digest"
MODES = ["sync", "async"]


@contextmanager
def memory_registry(mode: str) -> Iterator[RegistryClient]:
    """Provide a client of a new registry in memory; an async one is wrapped."""
    if mode == "sync":
        with connect("", driver="embedded", root=":memory:", logging={"driver": "null"}) as client:
            yield client
        return
    loop = BlockingLoop()
    inner = async_connect("", driver="embedded", root=":memory:", logging={"driver": "null"})
    wrapped = as_blocking(loop, inner)
    try:
        yield wrapped
    finally:
        wrapped.close()
        loop.close()


def push_layers(
    registry: RegistryClient, *layers: tuple[bytes, dict[str, str]], tag: str = "v1"
) -> None:
    """Push an artifact `app:v1` with these layers, each with its annotations."""
    config = registry.upload_blob("app", b"{}").digest
    descriptors = []
    for data, notes in layers:
        digest = registry.upload_blob("app", data).digest
        descriptors.append(
            Descriptor(media_type=media.OCI_LAYER, digest=digest, size=len(data), annotations=notes)
        )
    manifest = ImageManifest(
        config=Descriptor(media_type=media.OCI_EMPTY, digest=config, size=2),
        layers=tuple(descriptors),
    )
    registry.put_manifest("app", tag, manifest)


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """Make a member of a tar file, with fields such as `type` and `linkname`."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry, data


def tar(
    *members: tuple[tarfile.TarInfo, bytes], form: Literal[0, 1, 2] = tarfile.PAX_FORMAT
) -> bytes:
    """Make a tar file."""
    out = io.BytesIO()
    for entry, data in members:
        out.write(entry.tobuf(form, "utf-8", "surrogateescape"))
        out.write(data + bytes(-len(data) % 512))
    return out.getvalue() + bytes(1024)


def folder_layer(data: bytes, title: str = "site") -> tuple[bytes, dict[str, str]]:
    """Make the layer of a folder from the bytes of its tar file."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    packed = gzip.compress(data, mtime=0)
    return packed, {TITLE: title, UNPACK: "true", CONTENT_DIGEST: digest}


def listing(folder: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder: the bytes of files, the targets of links, None for folders."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found
