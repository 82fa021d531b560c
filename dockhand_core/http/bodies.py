"""Bodies on their way in and out, for both worlds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TypeAlias, cast

import httpx

from dockhand_core.errors import ConnectionFailed, Timeout
from dockhand_core.flow import BytesSource, Progress, Source
from dockhand_core.http.urls import one_line, redacted_url

__all__ = ["ReplyStream", "UploadBody"]

Done: TypeAlias = Callable[[int, int, BaseException | None], None]


class UploadBody(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A source as httpx wants it: opened anew each time that it is sent.

    What the source or the progress function raises is kept in `error`, since some transports
    report a body that fails as a broken connection.
    """

    def __init__(self, source: Source, progress: Progress | None) -> None:
        self._source = source
        self._progress = progress
        self.error: BaseException | None = None

    def _told(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._source.size)

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        try:
            for block in self._source.open():
                yield block
                done += len(block)
                self._told(done)
        except Exception as error:
            self.error = error
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        done = 0
        blocks = self._source.open()
        in_memory = isinstance(self._source, BytesSource)
        try:
            while block := (
                next(blocks, None) if in_memory else await asyncio.to_thread(next, blocks, None)
            ):
                yield block
                done += len(block)
                self._told(done)
        except Exception as error:
            self.error = error
            raise


class ReplyStream:
    """A reply's unread body: counted, checked to be whole, and closed.

    Args:
        response: as the transport gave it.
        done: told status, bytes and error when the body ends, however it ends.
    """

    def __init__(self, response: httpx.Response, done: Done | None = None) -> None:
        self.response = response
        self._done = done
        self.received = 0
        length = response.headers.get("content-length", "")
        self.length = int(length) if length.isdecimal() and len(length) < 20 else None

    @property
    def where(self) -> str:
        """The request, for messages."""
        request = self.response.request
        return f"{request.method} {redacted_url(str(request.url))}"

    def iterate(self) -> Generator[bytes, None, None]:
        """The body's blocks, as they arrive."""
        error: BaseException | None = None
        try:
            with self._mapped():
                for block in cast("httpx.SyncByteStream", self.response.stream):
                    self.received += len(block)
                    yield block
            self._check_whole()
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.response.close()
            self._finish(error)

    async def aiterate(self) -> AsyncGenerator[bytes, None]:
        """The body's blocks, as they arrive."""
        error: BaseException | None = None
        try:
            with self._mapped():
                async for block in cast("httpx.AsyncByteStream", self.response.stream):
                    self.received += len(block)
                    yield block
            self._check_whole()
        except BaseException as raised:
            error = raised
            raise
        finally:
            await self.response.aclose()
            self._finish(error)

    def close(self) -> None:
        """Close it unread."""
        self.response.close()
        self._finish(None)

    async def aclose(self) -> None:
        """Close it unread."""
        await self.response.aclose()
        self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        if self._done is not None:
            self._done(self.response.status_code, self.received, error)
            self._done = None

    def _check_whole(self) -> None:
        bodiless = self.response.request.method == "HEAD" or self.response.status_code in (204, 304)
        if self.length is not None and self.received != self.length and not bodiless:
            raise self._broken(f"{self.length} bytes were announced")

    def _broken(self, why: str) -> ConnectionFailed:
        return ConnectionFailed(f"{self.where}: the body ended after {self.received} bytes: {why}")

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            raise Timeout(
                f"{self.where}: no more data in time after {self.received} bytes"
            ) from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self._broken(one_line(str(error)) or type(error).__name__) from None
