"""Reading and deleting blobs, and downloading them into files with resumption.

Follows: OCI Distribution Specification 1.1, "Pulling blobs", "Checking if content exists in the
registry", "Deleting Blobs".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dockhand_core.errors import (
    ConnectionFailed,
    DigestMismatch,
    DockhandError,
    RangeInvalid,
    ResponseInvalid,
)
from dockhand_core.flow import BLOCK, Flow, Progress, Reply, blocking, call, discard, drain
from dockhand_core.models import Digest, Hasher, check_hash, check_repository
from dockhand_distribution.base import DistributionBase, content_length


class Blobs(DistributionBase):
    """The operations that read or delete blobs."""

    def open_blob(self, repository: str, digest: str, *, offset: int) -> Flow[Reply]:
        """Request a blob, or its bytes from `offset` on, with GET; the body is left unread."""
        check_repository(repository)
        known = Digest(digest)
        reply = yield from call(
            "GET",
            f"{repository}/blobs/{known}",
            headers={"Range": f"bytes={offset}-"} if offset else {},
            scopes=self.pull_scopes(repository),
            expect=frozenset({200, 206}),
            kind="blob",
            repository=repository,
            stream=True,
        )
        part = reply.headers.get("content-range", "")
        if offset and not (reply.status == 206 and part.startswith(f"bytes {offset}-")):
            yield from discard(reply.stream)
            raise RangeIgnored(
                f"repository {repository}: the registry does not send blob {known} from byte "
                f"{offset} on: {reply.status}, Content-Range {part[:80]!r}"
            )
        return reply

    def read_blob(self, repository: str, digest: str, *, max_size: int) -> Flow[bytes]:
        """Read a whole blob into memory with GET, and verify its digest."""
        check_repository(repository)
        known = Digest(digest)
        hasher = known.hasher()
        reply = yield from call(
            "GET",
            f"{repository}/blobs/{known}",
            scopes=self.pull_scopes(repository),
            kind="blob",
            repository=repository,
            limit=max_size,
        )
        hasher.update(reply.body)
        check_hash(known, hasher, f"repository {repository}: the blob")
        return reply.body

    def blob_size(self, repository: str, digest: str) -> Flow[int]:
        """Get the size of a blob from the `Content-Length` of a HEAD reply."""
        check_repository(repository)
        reply = yield from call(
            "HEAD",
            f"{repository}/blobs/{Digest(digest)}",
            scopes=self.pull_scopes(repository),
            kind="blob",
            repository=repository,
        )
        size = content_length(reply)
        if size is None:
            raise size_missing(repository, digest)
        return size

    def delete_blob(self, repository: str, digest: str) -> Flow[None]:
        """Delete a blob from a repository."""
        check_repository(repository)
        yield from self._delete_content(repository, "blob", Digest(digest))

    def download_blob(
        self, repository: str, digest: str, path: Path, *, progress: Progress | None
    ) -> Flow[Path]:
        """Download a blob into a partial file, verify its digest, and rename the file to `path`.

        If the connection breaks, the download resumes after the bytes in the partial file. After an
        error the file stays, so that a later call can resume the download; if the digest of the
        complete file is wrong, the file is deleted.
        """
        check_repository(repository)
        known = Digest(digest)
        part = path.with_name(f"{path.name}.{known.encoded[:16]}.part")
        partial = PartialFile(part, known)
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
        self, repository: str, digest: Digest, partial: PartialFile, progress: Progress | None
    ) -> Flow[None]:
        if partial.size and partial.matches():
            return
        attempts, restarts = self.retry.attempts(), 0
        while True:
            before = partial.size
            try:
                reply = yield from self.open_blob(repository, digest, offset=partial.size)
                length = reply.stream.length
                total = None if length is None else partial.size + length
                yield from drain(reply.stream, partial.sink(progress, total))
                return
            except (RangeInvalid, RangeIgnored):
                # The partial file is longer than the blob, or the registry ignores ranges: restart.
                restarts += 1
                if not before or restarts > max(1, self.retry.retries):
                    raise
                yield from blocking(partial.restart)
            except ConnectionFailed as error:
                if partial.matches():
                    return  # the blob is complete: only the announced length was wrong
                if partial.size > before:
                    attempts.progressed()
                yield from attempts.wait_after(error)


class RangeIgnored(ResponseInvalid):
    """The registry did not send the requested range of a blob, but other bytes or all of it."""


class PartialFile:
    """The partial file of a download, and the hash of the bytes in it.

    Args:
        path: the path of the partial file.
        digest: the expected digest of the whole blob.

    Attributes:
        size: the size of the partial file, in bytes.
    """

    def __init__(self, path: Path, digest: Digest) -> None:
        self.path, self._digest = path, digest
        self._hasher: Hasher = digest.hasher()
        self._file: BinaryIO | None = None
        self._empty = False
        self.size = 0

    def open(self) -> None:
        """Open or create the file, lock it, and hash the bytes that an earlier download left.

        Raises:
            DockhandError: another download is writing to the file.
        """
        # Unbuffered, so that `size` counts only bytes that the operating system has received.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        self._file = file = os.fdopen(descriptor, "r+b", buffering=0)
        if not _lock(file):
            raise DockhandError(f"{self.path}: another download is writing to it")
        self._empty = True
        while block := file.read(BLOCK):
            self._hasher.update(block)
            self.size += len(block)
            self._empty = False

    def sink(self, progress: Progress | None, total: int | None) -> Callable[[bytes], None]:
        """Return a function that appends a block to the file and reports the progress."""
        file = self._opened()

        def write(block: bytes) -> None:
            rest = memoryview(block)
            while rest:  # on a full disk, a write may store only a part; the next write then raises
                rest = rest[file.write(rest) :]
            self._hasher.update(block)
            self.size += len(block)
            self._empty = False
            if progress is not None:
                progress(self.size, total)

        return write

    def matches(self) -> bool:
        """Whether the file is complete: the digest of its bytes is the digest of the blob."""
        return Digest.of_hash(self._digest.algorithm, self._hasher) == self._digest

    def restart(self) -> None:
        """Empty the file, and start a new hash."""
        file = self._opened()
        file.seek(0)
        file.truncate()
        self._hasher, self.size = self._digest.hasher(), 0

    def finish(self, repository: str, path: Path) -> None:
        """Verify the file, and rename it to its destination.

        Raises:
            DigestMismatch: the file does not have the digest of the blob.
        """
        check_hash(self._digest, self._hasher, f"repository {repository}: the blob")
        os.fsync(self._opened().fileno())
        self.path.replace(path)
        self._empty = False

    def discard(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, and delete it if it is empty."""
        if self._file is not None:
            if self._empty:
                self.path.unlink(missing_ok=True)
            self._file.close()

    def _opened(self) -> BinaryIO:
        assert self._file is not None
        return self._file


def _lock(file: BinaryIO) -> bool:
    """Lock a file, and return False if it is already locked.

    On systems without `fcntl`, the file is not locked, and the result is True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def size_missing(repository: str, digest: str) -> ResponseInvalid:
    """The error for a reply with a blob but without a usable `Content-Length`."""
    return ResponseInvalid(f"repository {repository}: blob {digest} came without its size")
