"""Requests, replies and errors of the registry, and the parts of HTTP that several endpoints share.

These classes need no socket and no web framework, so that an httpx transport and an ASGI server can
use the same endpoints.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

PIECE_SIZE = 1024 * 1024  # bytes; bodies are read and written in pieces of this size
_SMALL_BODY = 64 * 1024  # bytes; a file up to this size is sent from memory
_RANGE_HEADER = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_ETAG = re.compile(r'(?:W/)?"([^"]*)"')


class Headers(Mapping[str, str]):
    """Header fields with case-insensitive names; repeated fields are joined (RFC 9110, 5.3)."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        """Take the fields as pairs of name and value, in the order of the message."""
        self._fields: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            earlier = self._fields.get(key)
            self._fields[key] = value if earlier is None else f"{earlier}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


BLOB_MEDIA_TYPE = "application/octet-stream"


def _any_repository(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class RegistryRequest:
    """A client's request.

    Attributes:
        method: the HTTP method in upper case, such as `GET`.
        path: the percent-decoded path, without the query.
        query: the decoded parameters, as pairs of name and value in their order.
        headers: the header fields, which must be found by their lower-case names, as in `Headers`.
        body: the body in pieces of any size. Only `Registry.handle` reads it; leave it empty for
            `Registry.reply_generator`.
        may_read: returns whether the client may read a repository. It is called only for the source
            of a mounted blob; other permissions are checked before the registry gets the request.
        origin: the scheme and host that the client used, such as `http://localhost:5000`.
        client: the client's address and port, such as `127.0.0.1:40123`.
        user: the name of the authenticated user; empty for an anonymous client.
    """

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=Headers)
    body: Iterable[bytes] = ()
    may_read: Callable[[str], bool] = _any_repository
    origin: str = ""
    client: str = ""
    user: str = ""

    def param(self, name: str) -> str | None:
        """The first value of a query parameter; None if the parameter is missing."""
        return next((value for key, value in self.query if key == name), None)

    @property
    def length(self) -> int | None:
        """The `Content-Length` in bytes; None if it is missing or malformed."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


class FileBody:
    """A part of an open file, as the body of a reply. The receiver must close the body."""

    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        """Serve `length` bytes of a file, beginning at `offset`.

        The attributes `file`, `offset` and `length` are public, so that a server can pass them to
        sendfile.
        """
        self.file = file
        self.offset = offset
        self.length = length
        self._position = offset

    @property
    def path(self) -> str | None:
        """The file's path, for servers that send files by path; None for a part of a file."""
        name = getattr(self.file, "name", None)
        if not isinstance(name, str | os.PathLike) or self.offset:
            return None
        return os.fspath(name) if os.fstat(self.file.fileno()).st_size == self.length else None

    @property
    def finished(self) -> bool:
        """Whether all bytes were read."""
        return self._position >= self.offset + self.length

    def read(self) -> bytes:
        """Read the next piece, of at most 1 MiB; empty at the end.

        Raises:
            OSError: the file ends before the announced length.
        """
        if self.finished:
            return b""
        self.file.seek(self._position)
        piece = self.file.read(min(self.offset + self.length - self._position, PIECE_SIZE))
        if not piece:
            # Without an error, a client could take the truncated reply for a complete one.
            raise OSError("the stored file became shorter while it was being sent")
        self._position += len(piece)
        return piece

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read():
            yield piece

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self.file.close()


@dataclass(frozen=True, slots=True)
class RegistryAction:
    """An action of a request, as reported in notifications.

    Attributes:
        kind: `push`, `pull`, `mount` or `delete`.
        repository: the name of the repository.
        digest: the digest of the blob or manifest; empty if only a tag was deleted.
        media_type: the media type of the blob or manifest; empty for a deletion.
        size: the size of the blob or manifest, in bytes; 0 for a deletion.
        tag: the tag that was pushed, pulled or deleted.
        source: the repository that a blob was mounted from, if the client named it.
        manifest: the bytes of a pushed manifest.
    """

    kind: str
    repository: str
    digest: str = ""
    media_type: str = ""
    size: int = 0
    tag: str = ""
    source: str = ""
    manifest: bytes = b""


@dataclass(slots=True)
class RegistryReply:
    """The registry's reply. `Content-Length` is always among the headers, except for 204 and 304.

    Attributes:
        status: the HTTP status.
        headers: pairs of name and value; a name can occur more than once.
        body: the whole body, or a part of a file that must be closed.
        actions: the actions of the request, for notifications.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | FileBody = b""
    actions: Sequence[RegistryAction] = ()

    def load_small_file(self) -> None:
        """Read a small file into memory, which is faster to send and need not be closed."""
        if isinstance(self.body, FileBody) and self.body.length <= _SMALL_BODY:
            with closing(self.body) as file:
                self.body = b"".join(file)

    def close(self) -> None:
        """Close the file of the body, if there is one."""
        if isinstance(self.body, FileBody):
            self.body.close()


# A handler that needs the request's body is a generator: it yields once for each piece, which is
# passed to `send`, and gets `b""` at the end. Between two pieces it occupies no thread, so an async
# server can have many slow uploads.
ReplyGenerator: TypeAlias = Generator[None, bytes, RegistryReply]


class RequestRejectedError(Exception):
    """The rejection of a request: the status of the reply, and one or more errors for its body.

    Handlers raise this exception, and `Registry` turns it into a reply. It is not a failure of the
    program.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        detail: object = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Create a rejection with one error; `add` appends others."""
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.headers = headers
        self.errors: list[dict[str, object]] = [_error_entry(code, message, detail)]

    def add(self, code: str, message: str, detail: object = None) -> None:
        """Append an error to the body of the reply."""
        self.errors.append(_error_entry(code, message, detail))

    def reply(self) -> RegistryReply:
        """The reply, with a body as in the specification's "Error Codes"."""
        return json_reply({"errors": self.errors}, self.status, headers=self.headers)


def _error_entry(code: str, message: str, detail: object) -> dict[str, object]:
    entry: dict[str, object] = {"code": code, "message": message}
    if detail is not None:
        entry["detail"] = detail
    return entry


def manifest_unknown(reference: str) -> RequestRejectedError:
    """The error for a tag or digest that the repository does not have."""
    return RequestRejectedError(
        404, "MANIFEST_UNKNOWN", "manifest unknown", {"reference": reference}
    )


def json_reply(
    document: Any,
    status: int = 200,
    *,
    media_type: str = "application/json",
    headers: Sequence[tuple[str, str]] = (),
) -> RegistryReply:
    """A reply with a JSON body."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return RegistryReply(
        status, [("Content-Type", media_type), ("Content-Length", str(len(body))), *headers], body
    )


def empty_reply(
    status: int, headers: Sequence[tuple[str, str]] = (), actions: Sequence[RegistryAction] = ()
) -> RegistryReply:
    """A reply without a body; 204 and 304 have no `Content-Length` (RFC 9110, 8.6)."""
    length = [] if status in {204, 304} else [("Content-Length", "0")]
    return RegistryReply(status, [*length, *headers], actions=actions)


def not_modified(request: RegistryRequest, etag: str) -> bool:
    """Whether `If-None-Match` matches the stored content (RFC 9110, 13.1.2)."""
    condition = request.headers.get("if-none-match")
    if condition is None:
        return False
    return condition.strip() == "*" or etag in _ETAG.findall(condition)


def requested_range(request: RegistryRequest, size: int, etag: str) -> tuple[int, int] | None:
    """The offset and length, in bytes, that `Range` selects; None for the whole content.

    A `Range` that is malformed or has several parts is ignored. RFC 9110, 14.2, allows a server to
    ignore any `Range`, and to reject an invalid one.

    Raises:
        RequestRejectedError: 416, if the range ends before it begins, or if the content has no byte
            of the range.
    """
    text = request.headers.get("range")
    validator = request.headers.get("if-range")
    if text is None or request.method != "GET":
        return None
    if validator is not None and validator.strip() != f'"{etag}"':
        return None
    match = _RANGE_HEADER.fullmatch(text.strip().replace(" ", ""))
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:  # `bytes=-n` means the last n bytes
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start >= size or end < start:
        raise RequestRejectedError(
            416,
            "RANGE_INVALID",
            f"the range is outside of the content, which has {size} bytes",
            {"range": text[:100]},
            [("Content-Range", f"bytes */{size}")],
        )
    return start, end - start + 1
