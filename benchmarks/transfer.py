"""Push and pull of one large blob, compared with raw httpx and sha256 over the same bytes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx

from benchmarks.measure import Row, compare, ratio_row
from benchmarks.server import BLOBS, Server
from dockhand_core import async_connect, connect

__all__ = ["Blob", "async_transfers", "sync_transfers"]

BLOCK = 1 << 20
FILE_WHY = "Both sides flush to disk, which varies from round to round: see the spread."


class Blob:
    """A file of random bytes; `change` makes it another blob.

    Args:
        path: the path of the file, which is written.
        size: the size of the file, in bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self._number = 0
        with path.open("wb") as file:
            for start in range(0, size, BLOCK):
                file.write(os.urandom(min(BLOCK, size - start)))
        self.digest = self.hash()

    def hash(self) -> str:
        """Compute the digest of the file, as fast as Python can."""
        with self.path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def change(self) -> None:
        """Change a few bytes, so that no registry has the blob, and flush the disks."""
        self._number += 1
        with self.path.open("r+b") as file:
            file.write(self._number.to_bytes(8, "big") + os.urandom(8))
        os.sync()

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes of the file, in blocks of the size that Dockhand uses."""
        with self.path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                yield block


def upload_target(reply: httpx.Response, digest: str) -> httpx.URL:
    """Return the URL for a blob's PUT: the upload's Location with the digest."""
    location = reply.raise_for_status().url.join(reply.headers["location"])
    return location.copy_merge_params({"digest": digest})


def _title(blob: Blob, action: str, kind: str) -> str:
    return f"{action} {blob.size >> 20} MiB, {kind}"


def sync_transfers(server: Server, blob: Blob, rounds: int) -> list[Row]:
    """Measure a push and both kinds of pull with the sync client."""
    rows: list[Row] = []
    with connect(server.url) as client, httpx.Client(timeout=60) as raw:

        def push_raw() -> str:
            digest = blob.hash()
            begun = raw.post(f"{server.url}/v2/{BLOBS}/blobs/uploads/")
            headers = {"Content-Length": str(blob.size)}
            target = upload_target(begun, digest)
            raw.put(target, content=blob.blocks(), headers=headers).raise_for_status()
            return digest

        rows.append(
            _push_row(
                server, blob, rounds, lambda: client.upload_blob(BLOBS, blob.path).digest, push_raw
            )
        )
        digest = client.upload_blob(BLOBS, blob.path).digest

        def pull() -> None:
            with client.open_blob(BLOBS, digest) as reader:
                for _ in reader:
                    pass

        def pull_raw(sink: Callable[[bytes], object] | None = None) -> None:
            hasher = hashlib.sha256()
            with raw.stream("GET", server.blob_url(digest)) as reply:
                for block in reply.raise_for_status().iter_raw():
                    hasher.update(block)
                    if sink is not None:
                        sink(block)
            assert f"sha256:{hasher.hexdigest()}" == digest

        pair = compare(pull, pull_raw, rounds)
        what = _title(blob, "verified pull of", "sync")
        rows.append(ratio_row(what, "raw httpx + sha256", pair, 1.05))

        copy = blob.path.with_suffix(".copy")

        def save_raw() -> None:
            with copy.open("wb", buffering=0) as file:
                pull_raw(file.write)
                os.fsync(file.fileno())

        pair = compare(
            lambda: client.download_blob(BLOBS, digest, copy),
            save_raw,
            rounds,
            prepare=lambda: _remove(copy),
        )
        what = _title(blob, "verified pull to a file,", "sync")
        rows.append(ratio_row(what, "raw httpx + sha256 + file", pair, 1.05, why=FILE_WHY))
        _remove(copy)
        server.drop(digest)
    return rows


def async_transfers(server: Server, blob: Blob, rounds: int) -> list[Row]:
    """Measure a push and both kinds of pull with the async client, and httpx's async client."""
    rows: list[Row] = []
    with asyncio.Runner() as loop:
        client, raw = async_connect(server.url), httpx.AsyncClient(timeout=60)

        async def push_raw() -> str:
            digest = blob.hash()
            begun = await raw.post(f"{server.url}/v2/{BLOBS}/blobs/uploads/")
            headers = {"Content-Length": str(blob.size)}
            target = upload_target(begun, digest)
            (await raw.put(target, content=_async_blocks(blob), headers=headers)).raise_for_status()
            return digest

        async def push() -> str:
            return (await client.upload_blob(BLOBS, blob.path)).digest

        async def pull(digest: str) -> None:
            async with client.open_blob(BLOBS, digest) as reader:
                async for _ in reader:
                    pass

        async def pull_raw(digest: str, sink: Callable[[bytes], object] | None = None) -> None:
            hasher = hashlib.sha256()
            async with raw.stream("GET", server.blob_url(digest)) as reply:
                async for block in reply.raise_for_status().aiter_raw():
                    hasher.update(block)
                    if sink is not None:
                        sink(block)
            assert f"sha256:{hasher.hexdigest()}" == digest

        copy = blob.path.with_suffix(".copy")

        def save_raw() -> None:
            with copy.open("wb", buffering=0) as file:
                loop.run(pull_raw(digest, file.write))
                os.fsync(file.fileno())

        try:
            rows.append(
                _push_row(
                    server,
                    blob,
                    rounds,
                    lambda: loop.run(push()),
                    lambda: loop.run(push_raw()),
                    kind="async",
                )
            )
            digest = loop.run(push())
            pair = compare(
                lambda: loop.run(pull(digest)), lambda: loop.run(pull_raw(digest)), rounds
            )
            what = _title(blob, "verified pull of", "async")
            rows.append(ratio_row(what, "raw httpx + sha256", pair, 1.05))
            pair = compare(
                lambda: loop.run(client.download_blob(BLOBS, digest, copy)),
                save_raw,
                rounds,
                prepare=lambda: _remove(copy),
            )
            what = _title(blob, "verified pull to a file,", "async")
            rows.append(ratio_row(what, "raw httpx + sha256 + file", pair, 1.05, why=FILE_WHY))
        finally:
            loop.run(client.close())
            loop.run(raw.aclose())
            _remove(copy)
        server.drop(digest)
    return rows


async def _async_blocks(blob: Blob) -> AsyncIterator[bytes]:
    for block in blob.blocks():
        yield block


def _push_row(
    server: Server,
    blob: Blob,
    rounds: int,
    ours: Callable[[], str],
    theirs: Callable[[], str],
    kind: str = "sync",
) -> Row:
    pushed: list[str] = []

    def prepare() -> None:
        while pushed:
            server.drop(pushed.pop())
        blob.change()

    pair = compare(
        lambda: pushed.append(ours()),
        lambda: pushed.append(theirs()),
        rounds,
        prepare=prepare,
    )
    prepare()
    what = _title(blob, "push", kind)
    return ratio_row(what, "sha256 + raw httpx", pair, 1.05)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.sync()
