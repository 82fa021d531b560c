"""Effects: the requests, waits and other steps that a flow yields, and a helper for each.

A flow is a generator that yields effects and is sent their results; an effect that fails is thrown
into it. It does no I/O itself, so one flow serves the sync and the async runner::

    def blob_size(self, repository: str, digest: str) -> Flow[int]:
        scopes = (Scope.read(repository),)
        reply = yield from call("HEAD", f"{repository}/blobs/{digest}", scopes=scopes)
        return int(reply.headers["content-length"])

Two rules. A flow never yields while it is being closed (on `GeneratorExit`); on any other exception
it may, to undo what it began. And every call that blocks goes through `blocking`.
"""

from __future__ import annotations

import json
from collections.abc import (
    AsyncGenerator,
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
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar, Unpack, overload

from pydantic import BaseModel, ValidationError

from dockhand_core.errors import ResponseInvalid
from dockhand_core.flow.sources import Progress, Source
from dockhand_core.http.urls import one_line, redacted_url
from dockhand_core.scope import Scope

__all__ = [
    "JSON_LIMIT",
    "Blocking",
    "Call",
    "CallOptions",
    "Discard",
    "Drain",
    "Effect",
    "Flow",
    "Parallel",
    "Reply",
    "Sleep",
    "Stream",
    "Subject",
    "Take",
    "Until",
    "blocking",
    "call",
    "discard",
    "drain",
    "iterator_of",
    "parallel",
    "pause",
    "take",
]

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

JSON_LIMIT = 8 << 20  # bytes of a body that is parsed

Subject: TypeAlias = Literal["base", "blob", "catalog", "manifest", "referrers", "tags", "upload"]


class CallOptions(TypedDict, total=False):
    """The optional arguments of `call`; `Call` describes each."""

    scopes: tuple[Scope, ...]
    expect: frozenset[int]
    kind: Subject
    repository: str | None
    headers: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    body: Source | None
    stream: bool
    repeatable: bool
    once: bool
    limit: int
    progress: Progress | None
    anonymous: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An HTTP request, and the statuses that count as success.

    Attributes:
        method: the HTTP method.
        path: a path below `/v2/` (`library/nginx/tags/list`), or a whole URL or an absolute path,
            as registries send them in `Location` and `Link`.
        scopes: the scopes that the request needs, for the auth driver.
        expect: the statuses that are a success; any other is thrown into the flow as an error.
        kind: the subject of the request; it decides the error where a reply carries no code.
        repository: the repository, for error messages.
        headers, query: additions to the request; `query` is appended to a query that `path` has.
        body: the request's body.
        stream: leave the reply's body unread, for `drain` or a reader.
        repeatable: whether sending the request twice does no harm.
        once: never repeat the request, not even where that could help.
        limit: bytes of the reply's body that are read at most, unless it is streamed.
        progress: called with the bytes of the body that were sent, and all of them.
        anonymous: leave credentials out, for endpoints that refuse them.
    """

    method: str
    path: str
    scopes: tuple[Scope, ...] = ()
    expect: frozenset[int] = frozenset({200})
    kind: Subject = "base"
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
    """The unread body of a reply."""

    @property
    def length(self) -> int | None:
        """Bytes that the registry announced, or None."""

    def iterate(self) -> Generator[bytes, None, None]:
        """Iterate over the blocks as they arrive, and close the body."""

    def aiterate(self) -> AsyncGenerator[bytes, None]:
        """The same, for an async client."""

    def close(self) -> None:
        """Close the body unread."""

    async def aclose(self) -> None:
        """The same, for an async client."""


@dataclass(slots=True)
class Reply:
    """A reply whose status was expected.

    Attributes:
        status: the HTTP status.
        headers: case-insensitive.
        url: the URL that answered, the base for a relative `Location`.
        body: the bytes; empty where the call was streamed.
        attempts: how often the request was sent.
    """

    status: int
    headers: Mapping[str, str]
    url: str
    body: bytes = b""
    attempts: int = 1
    unread: Stream | None = None

    @property
    def stream(self) -> Stream:
        """The unread body of a streamed call. The flow that asked for it reads or closes it."""
        if self.unread is None:
            raise TypeError("the call was not streamed: call(…, stream=True)")
        return self.unread

    @overload
    def json(self) -> dict[str, Any]: ...

    @overload
    def json(self, kind: type[M]) -> M: ...

    @overload
    def json(self, kind: type[T]) -> T: ...

    def json(self, kind: type[Any] = dict) -> Any:
        """The body parsed as JSON.

        Args:
            kind: the type that the document must have (`dict`, `list`), or a pydantic model that
                it is validated against.

        Raises:
            ResponseInvalid: the body is not JSON, or of another type; the message names the URL
                and, for a model, the key.
        """
        where = redacted_url(self.url)
        is_model = issubclass(kind, BaseModel)
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            document = _NOT_JSON
        if document is _NOT_JSON or not (is_model or isinstance(document, kind)):
            due = "a JSON array" if kind is list else "a JSON object"
            media_type = one_line(self.headers.get("content-type", "no content type")[:80])
            raise ResponseInvalid(
                f"{where}: {due} was due, not {len(self.body)} bytes of {media_type}",
                status=self.status,
            )
        return self.validated(kind, document) if is_model else document

    def validated(self, model: type[M], value: object) -> M:
        """A part of the parsed body as a pydantic model.

        Args:
            model: the model.
            value: the part, such as an item of a list in `json()`.

        Raises:
            ResponseInvalid: the part does not match; the message names URL, model and key.
        """
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ResponseInvalid(
                f"{redacted_url(self.url)}: the reply is not a valid {model.__name__}"
                + (f": {one_line(key)}: {one_line(first['msg'])}" if key else ""),
                status=self.status,
            ) from None


_NOT_JSON = object()


@dataclass(frozen=True, slots=True)
class Parallel:
    """Several flows at once, at most `limit` of them; the results in their order."""

    flows: Iterable[Flow[Any]]
    limit: int


@dataclass(frozen=True, slots=True)
class Blocking:
    """A function that blocks: files, hashing, a keyring. The async runner gives it a thread."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Until:
    """A wait for another thread or task; its result is not used."""

    done: Future[None]


@dataclass(frozen=True, slots=True)
class Sleep:
    """A wait of some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Drain:
    """The rest of a streamed body, passed block by block to a function."""

    stream: Stream
    sink: Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Discard:
    """A streamed body that is not needed: its connection is given up."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Take:
    """The next item of a caller's iterator, or None at its end."""

    iterator: Iterator[Any] | AsyncIterator[Any]


Effect: TypeAlias = Call | Parallel | Blocking | Until | Sleep | Drain | Discard | Take
Flow: TypeAlias = Generator[Effect, Any, T]


def call(method: str, path: str, **options: Unpack[CallOptions]) -> Flow[Reply]:
    """Send a request, and give its reply; `Call` describes the arguments.

    Raises:
        RegistryError: the status was not expected; the subclass says which error it is.
        ConnectionFailed: no whole reply arrived.
    """
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


def drain(stream: Stream, sink: Callable[[bytes], object]) -> Flow[None]:
    """Pass the rest of a body to a function, in order, and close it."""
    yield Drain(stream, sink)


def discard(stream: Stream) -> Flow[None]:
    """Close a body unread."""
    yield Discard(stream)


def pause(seconds: float) -> Flow[None]:
    """Wait some seconds."""
    yield Sleep(seconds)


def take(iterator: Iterator[T] | AsyncIterator[T]) -> Flow[T | None]:
    """The next item of a caller's iterator, or None at its end."""
    item: T | None = yield Take(iterator)
    return item


def iterator_of(data: Iterable[T] | AsyncIterable[T]) -> Iterator[T] | AsyncIterator[T]:
    """An iterator over an iterable of either world."""
    return data.__aiter__() if isinstance(data, AsyncIterable) else iter(data)
