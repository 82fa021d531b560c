"""Request bodies that can be opened more than once, so that a retry can send them again."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

__all__ = ["BLOCK", "BytesSource", "FileSource", "Progress", "Source"]

Progress: TypeAlias = Callable[[int, int | None], object]

BLOCK = 1 << 20  # bytes; read, hashed and sent at a time


class Source(Protocol):
    """A request body that can be opened more than once."""

    @property
    def size(self) -> int:
        """Size of the body in bytes."""

    def open(self) -> Iterator[bytes]:
        """Iterate over the bytes from the start, in blocks."""

    def skip(self, count: int) -> Source:
        """The same body without its first `count` bytes."""


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
