"""What a driver's operations are made of: generators that say what they want from the wire.

A flow yields effects and is sent their results; an effect that fails is thrown into it. It does
no I/O itself, so one flow serves the sync and the async runner::

    def blob_size(self, repository: str, digest: str) -> Flow[int]:
        scopes = (Scope.read(repository),)
        reply = yield from call("HEAD", f"{repository}/blobs/{digest}", scopes=scopes)
        return int(reply.headers["content-length"])

Two rules. A flow never yields while it is being closed (on `GeneratorExit`); on any other
exception it may, to undo what it began. And what it blocks on goes through `blocking`.
"""

from __future__ import annotations

import io
import random
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, TypeVar

from dockhand_core.scope import Scope

__all__ = [
    "BLOCK",
    "BytesSource",
    "Call",
    "FileSource",
    "Flow",
    "Progress",
    "Reply",
    "RetryPolicy",
    "Source",
    "blocking",
    "call",
    "discard",
    "drain",
    "parallel",
    "pause",
    "take",
]

T = TypeVar("T")
Progress: TypeAlias = Callable[[int, int | None], object]

BLOCK = 1 << 20  # bytes that are read, hashed or sent at a time
JSON_LIMIT = 8 << 20  # a body that is parsed


class Source(Protocol):
    """A request body that can be opened again, so that it can be sent again."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    def open(self) -> Iterator[bytes]:
        """Its bytes from the start, a block at a time."""


@dataclass(frozen=True, slots=True)
class BytesSource:
    """A body in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.data)

    def open(self) -> Iterator[bytes]:
        """The bytes, in blocks, so that progress can be told."""
        for start in range(0, len(self.data), BLOCK):
            yield self.data[start : start + BLOCK]


class FileSource:
    """A file on disk, or an open seekable one from where it stands.

    Args:
        file: a path, or a binary file that can seek.
        start: bytes to leave out at the beginning.

    Raises:
        OSError: the file cannot be opened, or ends before `size`.
    """

    def __init__(self, file: Path | BinaryIO, start: int = 0) -> None:
        self._file: Path | BinaryIO = file
        if isinstance(file, Path):
            self._origin = 0
            end = file.stat().st_size
        else:
            self._origin = file.tell()
            end = file.seek(0, io.SEEK_END)
            file.seek(self._origin)
        self._start = self._origin + start
        self.size = max(0, end - self._start)

    def skip(self, count: int) -> FileSource:
        """The same file without its first `count` bytes."""
        rest = FileSource.__new__(FileSource)
        rest._file, rest._origin = self._file, self._origin
        rest._start, rest.size = self._start + count, self.size - count
        return rest

    def open(self) -> Iterator[bytes]:
        """The bytes from the start, exactly `size` of them."""
        if isinstance(self._file, Path):
            with self._file.open("rb", buffering=0) as file:
                yield from self._blocks(file)
        else:
            yield from self._blocks(self._file)

    def _blocks(self, file: Any) -> Iterator[bytes]:
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


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is repeated, and how long to wait before.

    Args:
        retries: repetitions at most; 0 for none.
        base: seconds of the first back-off; each later one doubles.
        cap: seconds that a back-off lasts at most. A registry that asks for longer is not
            waited for: its error is raised.
    """

    retries: int = 3
    base: float = 0.25
    cap: float = 30.0

    def wait(self, attempt: int, asked: float | None = None) -> float | None:
        """Seconds to wait after that attempt (from 1), or None to give up."""
        if attempt > self.retries or (asked is not None and asked > self.cap):
            return None
        backoff: float = min(self.cap, self.base * 2 ** (attempt - 1))
        # Never sooner than asked; spread out, so that many clients do not come back at once.
        return (asked or 0.0) + random.uniform(0.5, 1.0) * (0.1 if asked is not None else backoff)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request, and what counts as success.

    Attributes:
        method: the HTTP method.
        path: below `/v2/` (`library/nginx/tags/list`), or a whole URL, or an absolute path, as
            registries send them in `Location` and `Link`.
        scopes: what the request needs, for the auth driver.
        expect: statuses that are a success; any other is thrown into the flow as an error.
        kind: what is asked for, which decides the error where a reply carries no code:
            `manifest`, `blob`, `upload`, `tags`, `catalog`, `referrers` or `base`.
        repository: for messages.
        headers, query: what to add; a query is appended to one that `path` has.
        body: what to send.
        stream: leave the reply's body unread, for `drain` or a reader.
        repeatable: whether sending it twice does no harm.
        once: whether it is not to be repeated at all, because nobody wants to wait for it.
        limit: bytes of the reply's body that are read at most, where it is not streamed.
        progress: told of the body's bytes as they are sent.
        anonymous: whether credentials are left out: who sends them there is refused.
    """

    method: str
    path: str
    scopes: tuple[Scope, ...] = ()
    expect: frozenset[int] = frozenset({200})
    kind: str = "base"
    repository: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Sequence[tuple[str, str]] = ()
    body: Source | None = None
    stream: bool = False
    repeatable: bool = True
    once: bool = False
    limit: int = JSON_LIMIT
    progress: Progress | None = None
    anonymous: bool = False


class Stream(Protocol):
    """A reply's body on its way; what it is made of is the runner's business."""

    @property
    def length(self) -> int | None: ...


@dataclass(slots=True)
class Reply:
    """An answer whose status was expected.

    Attributes:
        status: the HTTP status.
        headers: case-insensitive.
        url: where it came from, the base for a relative `Location`.
        body: the bytes; empty where the call was streamed.
        stream: the unread body of a streamed call. Whoever asked for it reads or closes it.
        attempts: how often the request was sent.
    """

    status: int
    headers: Mapping[str, str]
    url: str
    body: bytes = b""
    stream: Any = None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Parallel:
    """Several flows at once, at most `limit` of them; results in their order."""

    flows: Iterable[Flow[Any]]
    limit: int


@dataclass(frozen=True, slots=True)
class Blocking:
    """A function that blocks: files, hashing, a keyring. The async runner gives it a thread."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Until:
    """Wait for what another thread or task does; its result is of no interest."""

    done: Future[None]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Drain:
    """All that is left of a streamed body, block by block into a function."""

    stream: Any
    sink: Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Discard:
    """A streamed body that nobody wants: its connection is given up."""

    stream: Any


@dataclass(frozen=True, slots=True)
class Take:
    """The next item of a caller's iterator, or None at its end."""

    iterator: Iterator[Any] | AsyncIterator[Any]


Effect: TypeAlias = Any
Flow: TypeAlias = Generator[Effect, Any, T]


def call(method: str, path: str, **options: Any) -> Flow[Reply]:
    """Send a request; the arguments are those of `Call`."""
    reply: Reply = yield Call(method=method, path=path, **options)
    return reply


def parallel(flows: Iterable[Flow[T]], *, limit: int = 8) -> Flow[list[T]]:
    """Run flows at once. The first that fails stops the others, and its error is raised."""
    results: list[T] = yield Parallel(flows, limit)
    return results


def blocking(function: Callable[..., T], *args: Any) -> Flow[T]:
    """Call a function that blocks, off the event loop where there is one."""
    result: T = yield Blocking(lambda: function(*args))
    return result


def drain(stream: Any, sink: Callable[[bytes], object]) -> Flow[None]:
    """Pass the rest of a body to a function, in order, and close it."""
    yield Drain(stream, sink)


def discard(stream: Any) -> Flow[None]:
    """Close a body unread."""
    yield Discard(stream)


def pause(seconds: float) -> Flow[None]:
    """Wait."""
    yield Sleep(seconds)


def take(iterator: Iterator[T] | AsyncIterator[T]) -> Flow[T | None]:
    """The next item of an iterator of the caller's, or None at its end."""
    item: T | None = yield Take(iterator)
    return item


def iterator_of(data: Iterable[T] | AsyncIterable[T]) -> Iterator[T] | AsyncIterator[T]:
    """An iterator over what the caller gave, of either world."""
    return data.__aiter__() if isinstance(data, AsyncIterable) else iter(data)
