"""The body of a reply with a blob: its offset in the blob, and the limits on its size.

Follows: RFC 9110, section 14, "Range Requests".
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from dataclasses import dataclass

from dockhand_core.errors import (
    ConnectionFailed,
    DigestMismatch,
    RangeInvalid,
    ResponseInvalid,
    ResponseTooLarge,
)
from dockhand_core.flow import Reply
from dockhand_core.http.urls import one_line, redacted_url
from dockhand_core.models import Descriptor, Digest

__all__ = ["UNANNOUNCED_LIMIT", "BlobBody", "BlobLimit", "RangeIgnored"]

UNANNOUNCED_LIMIT = 4 << 30  # bytes; if neither the reply nor the caller states the blob's size

_CONTENT_RANGE = re.compile(r"bytes[ =](\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE)


class RangeIgnored(ResponseInvalid):
    """The registry did not send the requested range of a blob, but other bytes."""


@dataclass(frozen=True, slots=True)
class BlobLimit:
    """The size that a blob must have, or may have at most.

    Attributes:
        digest: the digest of the blob.
        exact: the size in the blob's descriptor, in bytes, or None.
        maximum: the argument `max_size`, in bytes, or None.
    """

    digest: Digest
    exact: int | None = None
    maximum: int | None = None

    @classmethod
    def of(cls, blob: str | Descriptor, max_size: int | None = None) -> BlobLimit:
        """The limit for a digest or descriptor.

        Raises:
            ResponseTooLarge: the size in the descriptor exceeds `max_size`.
        """
        if not isinstance(blob, Descriptor):
            return cls(Digest(blob), None, max_size)
        limit = cls(Digest(blob.digest), blob.size, max_size)
        if max_size is not None and blob.size > max_size:
            raise ResponseTooLarge(
                f"blob {limit.digest}: its descriptor states {blob.size} bytes, more than the "
                f"argument max_size allows, {max_size}"
            )
        return limit

    @property
    def largest(self) -> int | None:
        """The largest size that is allowed, in bytes, or None for any size."""
        return self.maximum if self.exact is None else self.exact

    def check(self, size: int, where: str, *, announced: bool = False) -> None:
        """Check a number of bytes.

        Args:
            size: the bytes received so far, or the announced size.
            where: the start of the error message, such as the URL.
            announced: whether the reply has announced its size.

        Raises:
            ResponseTooLarge: the number exceeds the limit.
        """
        largest = self.largest
        if largest is None and not announced:
            largest = UNANNOUNCED_LIMIT
        if largest is not None and size > largest:
            raise self.exceeded(where)

    def exceeded(self, where: str) -> ResponseTooLarge:
        """The error for a blob with too many bytes."""
        if self.exact is not None:
            text = f"{self.exact} bytes, the size in its descriptor"
        elif self.maximum is not None:
            text = f"{self.maximum} bytes, the argument max_size"
        else:
            text = (
                f"{UNANNOUNCED_LIMIT} bytes, and the reply has no Content-Length; to allow more, "
                "pass max_size, or a descriptor in place of the digest"
            )
        return ResponseTooLarge(f"{where}: blob {self.digest} is larger than {text}")


class BlobBody:
    """The unread bytes of a blob from an offset on; a `Stream`.

    Registries may send more than was asked for: gitea ignores `Range`, and sends the whole blob.
    The bytes before `offset` are then skipped here.

    Args:
        reply: the reply to a streamed GET of a blob.
        offset: the offset of the first byte that is wanted.
        limit: the limit on the size of the whole blob.

    Raises:
        RangeIgnored: the reply does not say that it contains the byte at `offset`.
        RangeInvalid: the blob ends before `offset`.
        ResponseTooLarge: the announced size exceeds the limit.
    """

    def __init__(self, reply: Reply, offset: int, limit: BlobLimit) -> None:
        self._body, self._offset, self._limit = reply.stream, offset, limit
        self._where = redacted_url(reply.url)
        self._position, self._total = self._start_and_total(reply)
        if self._total is not None:
            limit.check(self._total, self._where, announced=True)
            if offset and offset >= self._total:
                raise self._too_short(self._total)

    def _start_and_total(self, reply: Reply) -> tuple[int, int | None]:
        """The offset in the blob at which the body starts, and the size of the blob if known."""
        length = self._body.length
        header = reply.headers.get("content-range", "")
        if reply.status != 206 or (not self._offset and not header):
            return 0, length
        part = _CONTENT_RANGE.fullmatch(header.strip())
        if part is None and not self._offset:
            return 0, length  # no range was requested, so its form does not matter
        if part is None or int(part[1]) > self._offset:
            raise RangeIgnored(
                f"{self._where}: the blob was requested from byte {self._offset} on, but the "
                f"reply, 206, has the Content-Range {one_line(header[:80])!r}",
                status=206,
            )
        start = int(part[1])
        if part[3] != "*":
            return start, int(part[3])
        return start, None if length is None else start + length

    def _too_short(self, size: int) -> RangeInvalid:
        return RangeInvalid(
            f"{self._where}: blob {self._limit.digest} has {size} bytes, so it has none from byte "
            f"{self._offset} on"
        )

    @property
    def length(self) -> int | None:
        """Number of bytes from the offset on, or None if it is not known."""
        return None if self._total is None else self._total - self._offset

    def iterate(self) -> Generator[bytes, None, None]:
        """Iterate over the blocks from the offset on; the body is closed afterwards."""
        with closing(self._body.iterate()) as blocks:
            for block in blocks:
                if wanted := self._wanted(block):
                    yield wanted
        self._check_end()

    async def aiterate(self) -> AsyncGenerator[bytes, None]:
        """Iterate over the blocks from the offset on; the body is closed afterwards."""
        async with aclosing(self._body.aiterate()) as blocks:
            async for block in blocks:
                if wanted := self._wanted(block):
                    yield wanted
        self._check_end()

    def close(self) -> None:
        """Close the body without reading the rest."""
        self._body.close()

    async def aclose(self) -> None:
        """Close the body without reading the rest."""
        await self._body.aclose()

    def _wanted(self, block: bytes) -> bytes:
        skipped = max(0, self._offset - self._position)
        self._position += len(block)
        self._limit.check(self._position, self._where, announced=self._total is not None)
        return block[skipped:] if skipped else block

    def _check_end(self) -> None:
        if self._total is not None and self._position < self._total:
            # A part of the requested range: the caller asks for the rest, as after a break.
            raise ConnectionFailed(
                f"{self._where}: the reply ended at byte {self._position} of {self._total}"
            )
        if self._offset and self._position <= self._offset and self._total is None:
            raise self._too_short(self._position)
        exact = self._limit.exact
        if exact is not None and self._position < exact:
            raise DigestMismatch(
                f"{self._where}: the blob has {self._position} bytes, but the descriptor of "
                f"{self._limit.digest} states {exact}",
                expected=self._limit.digest,
            )
