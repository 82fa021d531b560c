"""Effects: the requests, waits and other steps that a flow yields, and a function for each.

A flow is a generator that yields effects. A runner performs each effect and sends its result back
into the flow; if the effect fails, its exception is raised at the `yield`. The flow does no I/O
itself, so the sync and the async runner can run the same flow::

    def blob_size(self, repository: str, digest: str) -> Flow[int]:
        scopes = (Scope.read(repository),)
        reply = yield from call("HEAD", f"{repository}/blobs/{digest}", scopes=scopes)
        return int(reply.headers["content-length"])

A flow must follow two rules:

- It does not yield while it handles `GeneratorExit`. While it handles any other exception it may
  yield, for example to cancel an upload.
- It calls every function that blocks through `blocking`.

The functions `call`, `blocking` and the others stand after `yield from`. A flow that yields
anything else, or an operation that is not a generator, raises `PluginError`, which names the line.
"""

from __future__ import annotations

import json
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
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
)

from dockhand_core.errors import PluginError, RegistryError
from dockhand_core.flow.checks import caller, check_blocking, described, needs_yield_from
from dockhand_core.flow.replies import JSON_LIMIT, Reply, Stream
from dockhand_core.flow.sources import BytesSource, Progress, Source
from dockhand_core.scope import Scope

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = [
    "At",
    "Blocking",
    "Call",
    "CallOptions",
    "Discard",
    "Drain",
    "Effect",
    "Flow",
    "Parallel",
    "Peer",
    "Reserve",
    "Sleep",
    "Subject",
    "Take",
    "Until",
    "at",
    "blocking",
    "call",
    "discard",
    "drain",
    "iterator_of",
    "parallel",
    "pause",
    "reserve",
    "take",
]

T = TypeVar("T")

Subject: TypeAlias = Literal["base", "blob", "catalog", "manifest", "referrers", "tags", "upload"]
"""The kind of object that a request is about: the values of `Call.kind`.

A 404 without a known error code becomes `BlobUnknown` for `blob`, `ManifestUnknown` for `manifest`,
`NameUnknown` for `tags`, `BlobUploadUnknown` for `upload`, and `NotFound` for the others: `base`,
which stands for any other request, `catalog` and `referrers`. A large reply for `catalog` or `tags`
has to be JSON without nested values.
"""


class CallOptions(TypedDict, total=False):
    """The optional arguments of `call`, which describes `json`; `Call` describes the others."""

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
    commit: bool
    refusals: Mapping[int, type[RegistryError]]
    json: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An HTTP request, and the statuses that count as success.

    A request is repeated after a back-off, up to the connection's `retries`, if the registry
    answers it with 502, 503 or 504, or if no complete reply arrives: the connection broke, the body
    of the reply was cut off, or a timeout expired. After a 429 it is repeated when the registry
    wants it, for `rate_limit_timeout` in total. `repeatable` and `once` change this:

    | | default | `repeatable=False` | `once=True` |
    |---|---|---|---|
    | 502, 503, 504 | repeated | raised | raised |
    | no complete reply | repeated | raised | raised |
    | no connection was made, so nothing was sent | repeated | repeated | raised |
    | 429, which the registry did not process | repeated | repeated | raised |

    A reply to a streamed call is complete when its headers are there. A 401 is the auth driver's,
    which may send the request again with other credentials, whatever these options are.

    Attributes:
        method: the HTTP method.
        path: a path below `/v2/`, such as `library/nginx/tags/list`. Or an absolute path or a whole
            URL, as registries send them in `Location` and `Link`. An absolute path, such as
            `/api/v1/projects`, is at the registry's origin, without the path that `base_uri` may
            have; a path below `/v2/` keeps it.
        scopes: the scopes that the request needs, for the auth driver; none by default.
        expect: the HTTP statuses that are a success, by default 200 alone; any other raises an
            error in the flow. A redirect is followed: 301, 302, 303, 307 and 308 after GET and
            HEAD, and 307 and 308 after other methods, at most five, unless `expect` has its status.
            Then the reply is returned with its `Location`.
        kind: the kind of object that is requested (`Subject`), by default `base`. If an error reply
            has no error code, `kind` decides which exception a 404 becomes.
        repository: the repository's name, for error messages and the log; None by default.
        headers: headers to add to the request; none by default. A redirect to another origin, or a
            `path` that is a URL of another origin, gets only `Accept`, `Range`,
            `Content-Encoding`, `-Length`, `-Range` and `-Type`, and `If-…` of them, so that a
            secret in any other header stays with the registry.
        query: query parameters to append to the URL, after any that `path` already has; none by
            default.
        body: the request's body, such as `BytesSource(data)`; none by default. `call` takes `json`
            instead. A body follows a redirect with 307 or 308.
        stream: whether to leave the reply's body unread, for `drain` or a blob reader; False by
            default.
        repeatable: whether the request can be sent twice without harm; True by default, also for
            POST and DELETE. See the table above.
        once: whether to send the request only once, even if a failure would be repeated otherwise;
            False by default. See the table above.
        limit: maximum size of the reply's body in bytes, by default 8 MiB (`JSON_LIMIT`); a larger
            one raises `ResponseTooLarge`. It is ignored if the reply is streamed.
        progress: called with the number of bytes sent so far and the size of the request's body;
            None by default.
        anonymous: whether to send the request without credentials, for endpoints that refuse them;
            False by default. The auth driver is not asked. The connection's own headers are sent,
            and those of the call.
        commit: whether the request ends an upload, so that the registry may work for minutes before
            it replies; it then waits for `commit_timeout`. False by default.
        refusals: the class of the error for a status, such as `{409: LabelExists}`, whatever error
            code the reply has; none by default.
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
    commit: bool = False
    refusals: Mapping[int, type[RegistryError]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.method, str):
            raise _wrong_argument("method", self.method)
        if not isinstance(self.path, str):
            raise _wrong_argument("path", self.path)
        if isinstance(self.scopes, Scope | str):
            raise _wrong_argument("scopes", self.scopes)
        if isinstance(self.expect, int):
            raise _wrong_argument("expect", self.expect)
        for kind in self.refusals.values() if self.refusals else ():
            if not isinstance(kind, type) or not issubclass(kind, RegistryError):
                raise _wrong_argument("class in refusals", kind)


def _wrong_argument(name: str, value: object) -> PluginError:
    return PluginError(f"{caller()}: call(…) has a wrong {name}, {described(value)}")


class Peer(Protocol):
    """The runner of a connection, on which flows of another connection run parts of their work.

    Attributes:
        asynchronous: whether `run` returns an awaitable; flows can use peers of one kind only.
    """

    asynchronous: bool

    def run(self, flow: Flow[Any]) -> Any:
        """Run a flow on this connection, and return its result, or an awaitable of it."""


@dataclass(frozen=True, slots=True)
class At:
    """Run a flow on another connection; the result is the flow's."""

    peer: Peer
    flow: Flow[Any]


@dataclass(frozen=True, slots=True)
class Reserve:
    """Wait until each of the peers has a free connection for a transfer, and reserve them together.

    A peer that occurs twice needs two connections. The result is a function that releases them, or
    None if the limit of a peer is lower than that.
    """

    peers: Sequence[Peer]


@dataclass(frozen=True, slots=True)
class Parallel:
    """Run flows concurrently, at most `limit` at a time; the result is their results in order.

    Attributes:
        flows: the flows.
        limit: how many flows run at a time.
        stop: called once if a flow fails, or the wait for the flows is interrupted, before the
            other flows have ended. In a sync client nothing else ends them early.
    """

    flows: Iterable[Flow[Any]]
    limit: int
    stop: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True)
class Blocking:
    """Call a function that blocks, such as one that reads a file or computes a hash.

    The async runner calls it in a thread.
    """

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Until:
    """Wait until another thread or task completes the future; the future's result is not used."""

    done: Future[None]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for a number of seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Drain:
    """Pass the rest of a streamed body to a function, block by block, and close the body."""

    stream: Stream
    sink: Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Discard:
    """Close a streamed body without reading the rest."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Take:
    """Get the next item of an iterator that the caller passed in, or None at its end."""

    iterator: Iterator[Any] | AsyncIterator[Any]


Effect: TypeAlias = (
    Call | Parallel | Blocking | Until | Sleep | Drain | Discard | Take | At | Reserve
)
Flow: TypeAlias = Generator[Effect, Any, T]


@needs_yield_from
def call(method: str, path: str, **options: Unpack[CallOptions]) -> Flow[Reply]:
    """Send a request and return its reply; `Call` describes the arguments.

    Args:
        method: the HTTP method.
        path: a path below `/v2/`, an absolute path, or a URL.
        options: the attributes of `Call`. And `json` in place of `body`: a document to send as
            JSON, with the `Content-Type` `application/json` unless `headers` has one.

    Raises:
        RegistryError: the status was not expected; the subclass depends on the error.
        ConnectionFailed: no complete reply arrived.
    """
    reply: Reply = yield Call(method=method, path=path, **_with_body(options))
    return reply


def _with_body(options: CallOptions) -> dict[str, Any]:
    """The options with the document in `json` as their body."""
    found: dict[str, Any] = {**options}
    if "json" not in found:
        return found
    if found.get("body") is not None:
        raise PluginError(f"{caller()}: call(…) has both body and json")
    document = found.pop("json")
    try:
        data = json.dumps(document, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PluginError(
            f"{caller()}: call(…) has a json that is no JSON document: {type(error).__name__}"
        ) from None  # the text of the error may have a value
    given = found.get("headers") or {}
    typed = any(name.lower() == "content-type" for name in given)
    found["headers"] = given if typed else {**given, "Content-Type": "application/json"}
    found["body"] = BytesSource(data)
    return found


@needs_yield_from
def parallel(
    flows: Iterable[Flow[T]], *, limit: int = 8, stop: Callable[[], object] | None = None
) -> Flow[list[T]]:
    """Run flows concurrently, at most `limit` at a time, and return their results in order.

    If a flow fails, the others are stopped and its error is raised; see `Parallel.stop`.
    """
    results: list[T] = yield Parallel(flows, limit, stop)
    return results


@needs_yield_from
def at(peer: Peer, flow: Flow[T]) -> Flow[T]:
    """Run a flow on another connection, and return its result.

    The errors of the flow show the secrets of neither connection.
    """
    result: T = yield At(peer, flow)
    return result


@needs_yield_from
def reserve(*peers: Peer) -> Flow[Callable[[], None] | None]:
    """Wait until each of the peers has a free connection for a transfer; see `Reserve`.

    A transfer from one registry to another occupies a connection of each. Because it reserves both
    at once, transfers never wait for each other's connections.
    """
    release: Callable[[], None] | None = yield Reserve(peers)
    return release


@needs_yield_from
def blocking(function: Callable[..., T], *args: Any) -> Flow[T]:
    """Call a function that blocks, and return its result; an async client uses a thread."""
    check_blocking(function)
    result: T = yield Blocking(lambda: function(*args))
    return result


@needs_yield_from
def drain(stream: Stream, sink: Callable[[bytes], object]) -> Flow[None]:
    """Pass the rest of a streamed body to a function, block by block, and close the body."""
    yield Drain(stream, sink)


@needs_yield_from
def discard(stream: Stream) -> Flow[None]:
    """Close a streamed body without reading the rest."""
    yield Discard(stream)


@needs_yield_from
def pause(seconds: float) -> Flow[None]:
    """Wait for a number of seconds."""
    if not isinstance(seconds, int | float):
        raise PluginError(f"{caller()}: pause(…) needs a number, not {described(seconds)}")
    yield Sleep(seconds)


@needs_yield_from
def take(iterator: Iterator[T] | AsyncIterator[T]) -> Flow[T | None]:
    """Get the next item of an iterator that the caller passed in, or None at its end."""
    item: T | None = yield Take(iterator)
    return item


def iterator_of(data: Iterable[T] | AsyncIterable[T]) -> Iterator[T] | AsyncIterator[T]:
    """Return the iterator of an iterable, to pass it to `take`.

    The iterator is async if the iterable is async, and sync if the iterable is sync.
    """
    return data.__aiter__() if isinstance(data, AsyncIterable) else iter(data)
