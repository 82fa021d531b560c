"""Bodies of requests and replies: upload streams for httpx, and checks of received bodies."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, suppress
from typing import TypeAlias, cast

import httpx

from dockhand_core.errors import ConnectionFailed, ResponseInvalid, ResponseTooLarge, Timeout
from dockhand_core.flow import (
    JSON_LIMIT,
    AsyncSource,
    BytesSource,
    Call,
    FileSource,
    Progress,
    Reply,
    Source,
)
from dockhand_core.flow.one_ahead import OneAhead
from dockhand_core.http.urls import one_line, redacted_url

__all__ = ["BodyCollector", "ReplyStream", "UploadBody", "check_coding"]

_MAX_BRACKETS = 100  # in a large JSON list of strings
MIN_RATE = 64 << 10  # bytes per second; slowest accepted rate for a body that is read into memory

Done: TypeAlias = Callable[[int, int, BaseException | None], None]


class UploadBody(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A request's body as an httpx stream, which opens its source again for each attempt.

    If the source or the progress function raises an exception, it is kept in `error`, because some
    transports report it as a broken connection.

    Args:
        source: the body.
        progress: called with the number of bytes sent so far and the size of the body; or None.
    """

    def __init__(self, source: Source, progress: Progress | None) -> None:
        self._source = source
        self._progress = progress
        self.error: BaseException | None = None

    def _report(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._source.size)

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        try:
            for block in self._source.open():
                yield block
                done += len(block)
                self._report(done)
        except Exception as error:
            self.error = error
            raise

    @property
    def is_file(self) -> bool:
        """Whether `file_parts` can be used."""
        return isinstance(self._source, FileSource) and self._source.is_path

    def file_parts(self) -> Iterator[tuple[io.FileIO, int, int]]:
        """Iterate over the parts of the file to send, in place of the bytes.

        Each part is the file, an offset and a number of bytes.
        """
        assert isinstance(self._source, FileSource)
        done = 0
        try:
            for part in self._source.parts():
                yield part
                done += part[2]
                self._report(done)
        except Exception as error:
            self.error = error
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        done = 0
        try:
            async with aclosing(_ablocks(self._source)) as blocks:
                async for block in blocks:
                    yield block
                    done += len(block)
                    self._report(done)
        except Exception as error:
            self.error = error
            raise


async def _ablocks(source: Source) -> AsyncGenerator[bytes, None]:
    """Iterate over the blocks of a source in an event loop."""
    if isinstance(source, AsyncSource):
        async with aclosing(source.aopen()) as received:
            async for block in received:
                yield block
        return
    blocks = source.open()
    if isinstance(source, BytesSource):
        for block in blocks:
            yield block
        return
    ahead = OneAhead()  # the next block is read while this one is sent
    try:
        ahead.start(next, blocks, b"")
        while block := await ahead.settle():
            ahead.start(next, blocks, b"")
            yield block
    finally:
        with suppress(Exception):  # of a block that is not needed any more
            await ahead.settle()


class ReplyStream:
    """The unread body of a reply. It counts the bytes, and checks that all have arrived.

    Args:
        response: the transport's response.
        done: called once, when the body was read, failed or was closed, with the HTTP status, the
            number of bytes received, and the exception or None.
    """

    def __init__(self, response: httpx.Response, done: Done | None = None) -> None:
        self.response = response
        self._done = done
        self.received = 0
        length = response.headers.get("content-length", "")
        self.length = int(length) if length.isdecimal() and len(length) < 20 else None

    @property
    def where(self) -> str:
        """Method and redacted URL of the request, for error messages."""
        request = self.response.request
        return f"{request.method} {redacted_url(str(request.url))}"

    def iterate(self) -> Generator[bytes, None, None]:
        """Iterate over the blocks as they arrive; the body is closed afterwards."""
        error: BaseException | None = None
        try:
            for block in cast("httpx.SyncByteStream", self.response.stream):
                self.received += len(block)
                yield block
            self._check_complete()
        except (httpx.HTTPError, httpx.StreamError) as raised:
            error = self._mapped(raised)
            raise error from None
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.response.close()
            self._finish(error)

    async def aiterate(self) -> AsyncGenerator[bytes, None]:
        """Iterate over the blocks as they arrive; the body is closed afterwards."""
        error: BaseException | None = None
        try:
            async for block in cast("httpx.AsyncByteStream", self.response.stream):
                self.received += len(block)
                yield block
            self._check_complete()
        except (httpx.HTTPError, httpx.StreamError) as raised:
            error = self._mapped(raised)
            raise error from None
        except BaseException as raised:
            error = raised
            raise
        finally:
            await self.response.aclose()
            self._finish(error)

    def close(self) -> None:
        """Close the body without reading the rest."""
        self.response.close()
        self._finish(None)

    async def aclose(self) -> None:
        """Close the body without reading the rest."""
        await self.response.aclose()
        self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        if self._done is not None:
            self._done(self.response.status_code, self.received, error)
            self._done = None

    def _check_complete(self) -> None:
        bodiless = self.response.request.method == "HEAD" or self.response.status_code in (204, 304)
        if self.length is not None and self.received != self.length and not bodiless:
            raise self._broken(f"{self.length} bytes were announced")

    def _broken(self, why: str) -> ConnectionFailed:
        return ConnectionFailed(f"{self.where}: the body ended after {self.received} bytes: {why}")

    def _mapped(self, error: Exception) -> ConnectionFailed:
        """The error of this package for an error of the transport."""
        if isinstance(error, httpx.TimeoutException):
            return Timeout(f"{self.where}: no data arrived in time after {self.received} bytes")
        return self._broken(one_line(str(error)) or type(error).__name__)


class BodyCollector:
    """Collects the blocks of a body in memory, within limits on its size and duration.

    Args:
        stream: the body.
        limit: maximum size of the body in bytes.
        seconds: time allowed for the body in seconds, in addition to the time that its bytes take
            at `MIN_RATE`.
        cut: whether to cut a body that exceeds `limit`. If false, `ResponseTooLarge` is raised.
        flat: whether the body is a JSON list of strings, such as tags, which contain no brackets.
            Above `JSON_LIMIT`, it may have few other objects and lists: parsed, nested JSON can
            take twenty times its size in memory.
    """

    def __init__(
        self,
        stream: ReplyStream,
        limit: int,
        seconds: float,
        *,
        cut: bool = False,
        flat: bool = False,
    ) -> None:
        self._stream, self._limit, self._cut, self._flat = stream, limit, cut, flat
        self._brackets = 0
        self._deadline = time.monotonic() + seconds
        self._blocks: list[bytes] = []
        self._size = 0

    def add(self, block: bytes) -> bool:
        """Add a block, and return whether to read on; False if the body is cut in this block.

        Raises:
            ResponseTooLarge: the body, or its announced size, exceeds `limit`, and `cut` is False;
                or a large body that should be flat is nested.
            Timeout: the body arrives too slowly.
        """
        if not block:  # the reply to a HEAD may announce any length
            return True
        self._size += len(block)
        if max(self._size, self._stream.length or 0) > self._limit:
            if not self._cut:
                where = self._stream.where
                raise ResponseTooLarge(f"{where}: the body is larger than {self._limit} bytes")
            if self._size > self._limit:
                self._blocks.append(block[: self._limit - self._size])
                return False
        if self._flat:
            self._brackets += block.count(b"[") + block.count(b"{")
            if self._size > JSON_LIMIT and self._brackets > _MAX_BRACKETS:
                raise ResponseTooLarge(
                    f"{self._stream.where}: the body is larger than {JSON_LIMIT} bytes, and "
                    "nested, so it is no list of strings"
                )
        if time.monotonic() > self._deadline + self._size / MIN_RATE:
            raise Timeout(f"{self._stream.where}: the body arrives too slowly")
        self._blocks.append(block)
        return True

    def body(self) -> bytes:
        """The collected bytes."""
        return self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)


def check_coding(call: Call, reply: Reply) -> None:
    """Check that the body of a reply is not encoded, because identity was asked for.

    A blob is judged by its digest instead: S3 may send an encoding that was stored with the blob,
    and whose bytes are the blob. S3 also sends an empty `Content-Encoding`.

    Raises:
        ResponseInvalid: the body is encoded, and is not a blob.
    """
    coding = reply.headers.get("content-encoding", "").strip()
    if coding.lower() not in ("", "identity") and call.kind != "blob" and reply.body:
        raise ResponseInvalid(
            f"{call.method} {redacted_url(reply.url)}: the reply's Content-Encoding is "
            f"{one_line(coding[:40])!r}, although identity was asked for",
            status=reply.status,
        )
