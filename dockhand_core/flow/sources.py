"""Request bodies that can be opened more than once, so that a retry can send them again."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "BLOCK",
    "AsyncSource",
    "BytesSource",
    "FileSource",
    "Part",
    "Progress",
    "Source",
]

Progress: TypeAlias = Callable[[int, int | None], object]

BLOCK = 1 << 20  # bytes; read, hashed and sent at a time


@runtime_checkable
class Source(Protocol):
    """A request body that can be opened more than once.

    `upload_blob` of a driver accepts sources. A driver that does not know them can iterate over
    them once, as over any iterable of bytes: the sources of Dockhand have `__iter__`, and those of
    async clients `__aiter__` instead.
    """

    @property
    def size(self) -> int:
        """Size of the body in bytes."""

    def open(self) -> Iterator[bytes]:
        """Iterate over the bytes from the start, in blocks."""

    def skip(self, count: int) -> Source:
        """The same body without its first `count` bytes."""


@runtime_checkable
class AsyncSource(Source, Protocol):
    """A source for async clients, which read it with `aopen` instead of `open`."""

    def aopen(self) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes from the start, in blocks."""


class Part:
    """The first bytes of a source, as an unread body for `drain`.

    Args:
        source: the source.
        length: number of bytes; less, if the source has fewer.
    """

    def __init__(self, source: Source, length: int) -> None:
        self._source = source
        self.length = min(length, source.size)

    def iterate(self) -> Generator[bytes, None, None]:
        """Iterate over the blocks."""
        left = self.length
        blocks = self._source.open()
        try:
            while left and (block := next(blocks, None)) is not None:
                yield block[:left]
                left -= min(left, len(block))
        finally:
            if isinstance(blocks, Generator):
                blocks.close()

    async def aiterate(self) -> AsyncGenerator[bytes, None]:
        """Iterate over the blocks of an async source."""
        assert isinstance(self._source, AsyncSource)
        left = self.length
        async with aclosing(self._source.aopen()) as blocks:
            while left and (block := await anext(blocks, None)) is not None:
                yield block[:left]
                left -= min(left, len(block))

    def close(self) -> None:
        """Do nothing: no file or connection is open outside an iteration."""

    async def aclose(self) -> None:
        """Do nothing, as `close`."""


@dataclass(frozen=True, slots=True)
class BytesSource:
    """A request body in memory."""

    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Size of the body in bytes."""
        return len(self.data)

    def open(self) -> Iterator[bytes]:
        """Iterate over the bytes in blocks, so that progress can be reported between them."""
        for start in range(0, len(self.data), BLOCK):
            yield self.data[start : start + BLOCK]

    def skip(self, count: int) -> BytesSource:
        """The same body without its first `count` bytes."""
        return BytesSource(self.data[count:])

    def __iter__(self) -> Iterator[bytes]:
        return self.open()


class FileSource:
    """A request body from a file.

    Args:
        file: the path of a file; or an open, seekable binary file, which is sent from its current
            position to its end.

    Raises:
        OSError: the file cannot be read, or (raised by `open`) became shorter in the meantime.
    """

    def __init__(self, file: Path | BinaryIO) -> None:
        self._file: Path | BinaryIO = file
        if isinstance(file, Path):
            self._start = 0
            end = file.stat().st_size
        else:
            self._start = file.tell()
            end = file.seek(0, io.SEEK_END)
            file.seek(self._start)
        self.size = max(0, end - self._start)

    def skip(self, count: int) -> FileSource:
        """The same body without its first `count` bytes."""
        rest = FileSource.__new__(FileSource)
        rest._file = self._file
        rest._start, rest.size = self._start + count, self.size - count
        return rest

    def open(self) -> Iterator[bytes]:
        """Iterate over the bytes of the body, exactly `size` of them, in blocks."""
        if isinstance(self._file, Path):
            with self._file.open("rb", buffering=0) as file:
                yield from self._blocks(file)
        else:
            yield from self._blocks(self._file)

    def __iter__(self) -> Iterator[bytes]:
        return self.open()

    @property
    def is_path(self) -> bool:
        """Whether the source is a path, whose file the operating system itself can send."""
        return isinstance(self._file, Path)

    def parts(self) -> Iterator[tuple[io.FileIO, int, int]]:
        """Iterate over the blocks without reading them: file, offset and number of bytes."""
        assert isinstance(self._file, Path)
        with self._file.open("rb", buffering=0) as file:
            for done in range(0, self.size, BLOCK):
                yield file, self._start + done, min(BLOCK, self.size - done)

    def _blocks(self, file: io.FileIO | BinaryIO) -> Iterator[bytes]:
        file.seek(self._start)
        left = self.size
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                raise OSError(f"{self} became shorter while it was read")
            left -= len(block)
            yield block

    def __str__(self) -> str:
        return str(getattr(self._file, "name", self._file))
