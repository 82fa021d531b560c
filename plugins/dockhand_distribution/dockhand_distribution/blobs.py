"""Reading blobs.

Follows: OCI Distribution Specification 1.1, "Pulling blobs", "Checking if content exists in the
registry", "Deleting Blobs".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dockhand_core.errors import (
    BlobUnknown,
    ConnectionFailed,
    DigestMismatch,
    DockhandError,
    RangeInvalid,
    ResponseInvalid,
)
from dockhand_core.flow import BLOCK, Flow, Progress, Reply, blocking, call, discard, drain, pause
from dockhand_core.models import Digest, Hasher, check_repository
from dockhand_distribution.scopes import Scopes


class Blobs(Scopes):
    """The operations that read or delete blobs."""

    def open_blob(self, repository: str, digest: str, *, offset: int) -> Flow[Reply]:
        """Get it, from an offset where one is given; the body is left unread."""
        check_repository(repository)
        known = Digest(digest)
        reply = yield from call(
            "GET",
            f"{repository}/blobs/{known}",
            headers={"Range": f"bytes={offset}-"} if offset else {},
            scopes=self.reading(repository),
            expect=frozenset({200, 206}),
            kind="blob",
            repository=repository,
            stream=True,
        )
        said = reply.headers.get("content-range", "")
        if offset and not (reply.status == 206 and said.startswith(f"bytes {offset}-")):
            yield from discard(reply.stream)
            raise RangeIgnored(
                f"repository {repository}: the registry does not send blob {known} from byte "
                f"{offset} on: {reply.status}, Content-Range {said[:80]!r}"
            )
        return reply

    def read_blob(self, repository: str, digest: str, *, max_size: int) -> Flow[bytes]:
        """Get it whole, and hash it."""
        check_repository(repository)
        known = Digest(digest)
        hasher = known.hasher()
        reply = yield from call(
            "GET",
            f"{repository}/blobs/{known}",
            scopes=self.reading(repository),
            kind="blob",
            repository=repository,
            limit=max_size,
        )
        hasher.update(reply.body)
        compare(repository, known, hasher)
        return reply.body

    def blob_size(self, repository: str, digest: str) -> Flow[int]:
        """Ask for the headers."""
        check_repository(repository)
        reply = yield from call(
            "HEAD",
            f"{repository}/blobs/{Digest(digest)}",
            scopes=self.reading(repository),
            kind="blob",
            repository=repository,
        )
        size = reply.headers.get("content-length", "")
        if not size.isdecimal() or len(size) > 18:
            raise ResponseInvalid(f"repository {repository}: blob {digest} came without its size")
        return int(size)

    def delete_blob(self, repository: str, digest: str) -> Flow[None]:
        """Delete it."""
        check_repository(repository)
        try:
            yield from call(
                "DELETE",
                f"{repository}/blobs/{Digest(digest)}",
                scopes=self.deleting(repository),
                expect=frozenset({200, 202, 204}),
                kind="blob",
                repository=repository,
            )
        except BlobUnknown as error:
            if error.attempts == 1:  # else an earlier try, whose reply was lost, deleted it
                raise

    def download_blob(
        self, repository: str, digest: str, path: Path, *, progress: Progress | None
    ) -> Flow[Path]:
        """Get it into a partial file, carry on where it broke, rename it when it is right."""
        check_repository(repository)
        known = Digest(digest)
        part = path.with_name(f"{path.name}.{known.encoded[:16]}.part")
        partial = Partial(part, known)
        try:
            yield from blocking(partial.open)
            yield from self._fill(repository, known, partial, progress)
            yield from blocking(partial.finish, repository, path)
        except DigestMismatch:
            yield from blocking(partial.discard)
            raise
        finally:
            partial.close()
        return path

    def _fill(
        self, repository: str, digest: Digest, partial: Partial, progress: Progress | None
    ) -> Flow[None]:
        if partial.size and partial.matches():
            return
        breaks = restarts = 0
        while True:
            before = partial.size
            try:
                reply = yield from self.open_blob(repository, digest, offset=partial.size)
                length = reply.stream.length
                total = None if length is None else partial.size + length
                yield from drain(reply.stream, partial.sink(progress, total))
                return
            except (RangeInvalid, RangeIgnored):
                # What is there is longer than the blob, or cannot be carried on: from the start.
                restarts += 1
                if not before or restarts > max(1, self.retry.retries):
                    raise
                yield from blocking(partial.restart)
            except ConnectionFailed:
                if partial.matches():
                    return  # only the announced length was wrong
                breaks = 1 if partial.size > before else breaks + 1
                wait = self.retry.wait(breaks)
                if wait is None:
                    raise
                yield from pause(wait)


class RangeIgnored(ResponseInvalid):
    """The registry sent another part of a blob than was asked for."""


class Partial:
    """A blob's file while it is not whole: its hash so far goes with it."""

    def __init__(self, path: Path, digest: Digest) -> None:
        self.path, self._digest = path, digest
        self._hasher: Hasher = digest.hasher()
        self._file: BinaryIO | None = None
        self._empty = False
        self.size = 0

    def open(self) -> None:
        """Open it, and hash what is there."""
        # unbuffered: what is counted has been handed to the system
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        self._file = file = os.fdopen(descriptor, "r+b", buffering=0)
        if not alone(file):
            raise DockhandError(f"{self.path}: another download is writing to it")
        self._empty = True
        while block := file.read(BLOCK):
            self._hasher.update(block)
            self.size += len(block)
            self._empty = False

    def sink(self, progress: Progress | None, total: int | None) -> Callable[[bytes], None]:
        """A function that takes the blocks."""
        file = self._opened()

        def take(block: bytes) -> None:
            rest = memoryview(block)
            while rest:  # a disk that fills up takes a part, and says no at the next write
                rest = rest[file.write(rest) :]
            self._hasher.update(block)
            self.size += len(block)
            self._empty = False
            if progress is not None:
                progress(self.size, total)

        return take

    def matches(self) -> bool:
        """Whether it is the blob."""
        return f"{self._digest.algorithm}:{self._hasher.hexdigest()}" == self._digest

    def restart(self) -> None:
        """Forget what is there."""
        file = self._opened()
        file.seek(0)
        file.truncate()
        self._hasher, self.size = self._digest.hasher(), 0

    def finish(self, repository: str, path: Path) -> None:
        """Put it in its place, if it is the blob."""
        compare(repository, self._digest, self._hasher)
        os.fsync(self._opened().fileno())
        self.path.replace(path)
        self._empty = False

    def discard(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; one that nothing was written to does not stay."""
        if self._file is not None:
            if self._empty:
                self.path.unlink(missing_ok=True)
            self._file.close()

    def _opened(self) -> BinaryIO:
        assert self._file is not None
        return self._file


def alone(file: BinaryIO) -> bool:
    """Lock a file, where the system can; False if somebody else has."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def compare(repository: str, expected: Digest, hasher: Hasher) -> None:
    """Raise DigestMismatch unless the hash is the digest's."""
    actual = f"{expected.algorithm}:{hasher.hexdigest()}"
    if actual != expected:
        raise DigestMismatch(
            f"repository {repository}: blob {expected} has the digest {actual}",
            expected=expected,
            actual=actual,
        )
