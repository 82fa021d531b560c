"""The layers of a docker-archive, as they are pushed: compressed with gzip, or as they are."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from dockhand_core.errors import ArchiveInvalid
from dockhand_core.flow import Source
from dockhand_core.models import Digest, Hasher, media, new_hasher
from dockhand_core.operations.archives.files import Region, uncompressed
from dockhand_core.text import shown

__all__ = ["Layer", "prepare_layer"]

LEVEL = 6  # of zlib; another level gives other bytes, so other digests

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_REFUSED = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a docker-archive.

    Attributes:
        member: name of the member that holds it.
        media_type: media type of the blob that is pushed.
        digest: digest of that blob.
        source: bytes of that blob.
        offset: offset of the member in the archive.
    """

    member: str
    media_type: str
    digest: Digest
    source: Source
    offset: int


class GzipSource:
    """The bytes of a member, compressed with gzip while they are read; a `Source`.

    The header has no name and no time, so the same zlib always gives the same bytes.

    Args:
        region: the member.
        size: size of the compressed bytes.
        start: number of the compressed bytes to leave out.
    """

    def __init__(self, region: Region, size: int, start: int = 0) -> None:
        self._region, self._start = region, start
        self.size = size - start

    def skip(self, count: int) -> GzipSource:
        """The same bytes without the first `count`."""
        start = self._start + count
        return GzipSource(self._region, self.size + self._start, start)

    def open(self) -> Iterator[bytes]:
        """Iterate over the compressed bytes, in blocks."""
        skipped = self._start
        for block in _compressed(self._region.open()):
            if skipped >= len(block):
                skipped -= len(block)
            else:
                yield block[skipped:]
                skipped = 0

    def __iter__(self) -> Iterator[bytes]:
        return self.open()


def _hashed(blocks: Iterable[bytes], hasher: Hasher) -> Iterator[bytes]:
    for block in blocks:
        hasher.update(block)
        yield block


def _compressed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    for block in blocks:
        if data := deflate.compress(block):
            yield data
    yield deflate.flush()


def prepare_layer(region: Region, diff_id: Digest) -> Layer:
    """Read a layer, to find the digest and size of its blob, and verify it against the config.

    A layer that is not compressed is compressed twice: here, to know digest and size, and again
    while it is sent, so that it needs neither memory nor a file. This function blocks.

    Args:
        region: the member.
        diff_id: the digest of the layer without compression, from the config.

    Raises:
        ArchiveInvalid: the layer has another digest, or another compression than gzip and zstd.
    """
    blocks: Iterator[bytes] = region.open()
    first = next(blocks, b"")
    blocks = chain((first,), blocks)  # to read from the start again is slow in a gzip file
    for magic, name in _REFUSED.items():
        if first.startswith(magic):
            raise ArchiveInvalid(
                f"member {shown(region.name)}: a layer compressed with {name}, which registries "
                "do not know",
                member=region.name,
            )
    content, stored = diff_id.hasher(), new_hasher("sha256")
    source: Source = region
    if first.startswith(_ZSTD):  # not verified: Python 3.11 cannot decompress it
        for block in blocks:
            stored.update(block)
        digest = Digest.of_hash("sha256", stored)
        return Layer(region.name, media.OCI_LAYER_ZSTD, digest, region, region.offset)
    if first.startswith(_GZIP):
        for block in uncompressed(region.name, region.size, _hashed(blocks, stored)):
            content.update(block)
    else:
        size = 0
        for block in _compressed(_hashed(blocks, content)):
            stored.update(block)
            size += len(block)
        source = GzipSource(region, size)
    actual = Digest.of_hash(diff_id.algorithm, content)
    if actual != diff_id:
        raise ArchiveInvalid(
            f"member {shown(region.name)}: the layer has the digest {actual}, but the config "
            f"states {diff_id}",
            member=region.name,
        )
    digest = Digest.of_hash("sha256", stored)
    return Layer(region.name, media.OCI_LAYER_GZIP, digest, source, region.offset)
