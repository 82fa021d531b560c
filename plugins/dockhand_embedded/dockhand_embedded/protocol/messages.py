"""Requests and replies, and the pieces of HTTP that several endpoints need.

Plain values: nothing here knows of a socket or a framework, so that one protocol core serves an
httpx transport and an ASGI server alike.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

CHUNK = 1024 * 1024
_SMALL = 64 * 1024
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_ETAG = re.compile(r'(?:W/)?"([^"]*)"')


class Headers(Mapping[str, str]):
    """Header fields by name, in any case; repeated fields are joined as RFC 9110 5.3 says."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        """Take pairs as they came over the wire."""
        self._fields: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            held = self._fields.get(key)
            self._fields[key] = value if held is None else f"{held}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


# What every blob is served as.
BLOB = "application/octet-stream"


def _anyone(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks.

    Attributes:
        method: upper case, `GET`.
        path: percent-decoded, without the query.
        query: decoded pairs in their order.
        headers: any case.
        body: pieces of any size; read by `Registry.handle` only. Who pushes the pieces in
            instead (`Registry.steps`) leaves it empty.
        readable: whether the client may read a repository, which is asked when a blob is mounted
            from it. Everything else is for whoever lets the request in.
        origin: scheme and host that the client used, such as `http://localhost:5000`.
        client: its address and port.
        user: who it proved to be.
    """

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=Headers)
    body: Iterable[bytes] = ()
    readable: Callable[[str], bool] = _anyone
    origin: str = ""
    client: str = ""
    user: str = ""

    def param(self, name: str) -> str | None:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), None)

    @property
    def length(self) -> int | None:
        """The announced size of the body in bytes, where it is announced."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


class FileBody:
    """A part of an open file, read in pieces; whoever gets it closes it."""

    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        """Serve `length` bytes from `offset` on.

        File and bounds stay readable, so that a server can hand them to sendfile.
        """
        self.file = file
        self.offset = offset
        self.length = length
        self._position = offset

    @property
    def path(self) -> str | None:
        """The file's path where the body is all of it, for servers that send files by name."""
        name = getattr(self.file, "name", None)
        if not isinstance(name, str | os.PathLike) or self.offset:
            return None
        return os.fspath(name) if os.fstat(self.file.fileno()).st_size == self.length else None

    @property
    def finished(self) -> bool:
        """Whether everything was read."""
        return self._position >= self.offset + self.length

    def read(self) -> bytes:
        """The next piece of at most 1 MiB, empty at the end.

        Raises:
            OSError: the file ends before the announced length.
        """
        if self.finished:
            return b""
        self.file.seek(self._position)
        piece = self.file.read(min(self.offset + self.length - self._position, CHUNK))
        if not piece:
            # An early end must not look like a complete reply to the client.
            raise OSError("stored content is shorter than it was when the reply began")
        self._position += len(piece)
        return piece

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read():
            yield piece

    def close(self) -> None:
        """Close the file; twice is fine."""
        self.file.close()


@dataclass(frozen=True, slots=True)
class Happening:
    """What came of a request, for whoever is told of it.

    Attributes:
        action: `push`, `pull`, `mount` or `delete`.
        repository: where.
        digest: of the blob or manifest; empty where only a tag went.
        media_type: a manifest's own; empty where something went.
        size: bytes.
        tag: by which the manifest was pushed or pulled, or which went.
        source: the repository that a blob was mounted from, where the client named it.
        manifest: one that was pushed.
    """

    action: str
    repository: str
    digest: str = ""
    media_type: str = ""
    size: int = 0
    tag: str = ""
    source: str = ""
    manifest: bytes = b""


@dataclass(slots=True)
class Reply:
    """What the registry answers. `Content-Length` is always among the headers (204, 304: none).

    Attributes:
        status: the HTTP status.
        headers: pairs; a name can repeat.
        body: all of it, or a part of a file that must be closed.
        happened: what others may want to know of.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | FileBody = b""
    happened: Sequence[Happening] = ()

    def hold_small(self) -> None:
        """Read a small file at once: the client gets it sooner and there is nothing to close."""
        if isinstance(self.body, FileBody) and self.body.length <= _SMALL:
            with closing(self.body) as file:
                self.body = b"".join(file)

    def close(self) -> None:
        """Let go of the file behind the body, if there is one."""
        if isinstance(self.body, FileBody):
            self.body.close()


# A handler that needs the request's body yields for each piece of it and is sent `b""` at its end.
# Between two pieces it holds no thread: many slow uploads cost an async server nothing.
Steps: TypeAlias = Generator[None, bytes, Reply]


class Refused(Exception):  # a reply in the making, not a fault of the program
    """The registry says no: one status, and one or several entries of the error body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        detail: object = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """One error; append to `errors` for more."""
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.headers = headers
        self.errors: list[dict[str, object]] = [_entry(code, message, detail)]

    def add(self, code: str, message: str, detail: object = None) -> None:
        """Another entry in the same reply."""
        self.errors.append(_entry(code, message, detail))

    def reply(self) -> Reply:
        """The specification's error body ("Error Codes")."""
        return json_reply({"errors": self.errors}, self.status, headers=self.headers)


def _entry(code: str, message: str, detail: object) -> dict[str, object]:
    entry: dict[str, object] = {"code": code, "message": message}
    if detail is not None:
        entry["detail"] = detail
    return entry


def json_reply(
    document: Any,
    status: int = 200,
    *,
    media_type: str = "application/json",
    headers: Sequence[tuple[str, str]] = (),
) -> Reply:
    """A reply with a JSON body."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return Reply(
        status, [("Content-Type", media_type), ("Content-Length", str(len(body))), *headers], body
    )


def empty_reply(
    status: int, headers: Sequence[tuple[str, str]] = (), happened: Sequence[Happening] = ()
) -> Reply:
    """A reply without a body; 204 and 304 have no length (RFC 9110 8.6)."""
    length = [] if status in {204, 304} else [("Content-Length", "0")]
    return Reply(status, [*length, *headers], happened=happened)


def not_modified(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names what is stored (RFC 9110 13.1.2)."""
    condition = request.headers.get("if-none-match")
    if condition is None:
        return False
    return condition.strip() == "*" or etag in _ETAG.findall(condition)


def wanted_range(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """The part that `Range` asks for as (offset, length); None for everything.

    A Range that is malformed, or that names several parts, is ignored, and one that ends before
    it begins is refused; RFC 9110 14.2 allows both.

    Raises:
        Refused: 416, no byte of the range exists.
    """
    text = request.headers.get("range")
    validator = request.headers.get("if-range")
    if text is None or request.method != "GET":
        return None
    if validator is not None and validator.strip() != f'"{etag}"':
        return None
    match = _RANGE.fullmatch(text.strip().replace(" ", ""))
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:  # the last n bytes
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start >= size or end < start:
        raise Refused(
            416,
            "RANGE_INVALID",
            f"the content has {size} bytes",
            {"range": text[:100]},
            [("Content-Range", f"bytes */{size}")],
        )
    return start, end - start + 1
